//! How much of a trajectory's worth a handoff keeps.
//!
//! A right continuation (the target) is read behind what a handoff gives the worker, token after token as it stands
//! (teacher forcing), and its mean negative log-likelihood is compared with that behind the full cache and behind nothing:
//!
//! ```text
//! retained = 1 - (NLL_condition - NLL_full) / (NLL_none - NLL_full)
//! ```
//!
//! with sums over items of nats a token. 1 is the full cache, 0 is no trajectory at all; a briefing that helps the worker
//! more than the whole is above 1. Beside it stand the share of target tokens at which the most likely token is that of the
//! full cache, and KL(full ‖ condition) in nats a token. Intervals resample documents. The target is the recorded one, or
//! what the worker itself writes over the full cache. The task is read anew under every condition.
//!
//! Right answers of a small worker separate methods only over hundreds of questions; this does over twenty.

mod measure;
#[cfg(feature = "plots")]
mod picture;
mod plan;
mod rank;
mod row;
mod run;
mod summary;
mod table;
mod target;

#[cfg(feature = "plots")]
pub use picture::picture;
pub use plan::{RetainedPlan, Target};
pub use row::{Measured, Rank, RetainedRow};
pub use run::{run, run_beside};
pub use summary::{ConditionSummary, Difference, RetainedSummary, summarise};
pub use table::table;
pub use target::nll;
