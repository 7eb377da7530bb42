//! Briefings whose values and biases are trained by gradient, step by step beside the closed form they begin with (in the manner of
//! Cartridges, arXiv 2506.06266).
//!
//! A briefing is cut for the task of the first item of a trajectory. It is trained on what the worker itself makes up about the
//! trajectory, behind prompts that ask for no particular thing ([`PROMPTS`]); no target is ever trained on. After some numbers of steps it
//! is measured on the items' targets: of its own task, and of the other tasks about the same trajectory, for which it was not cut either.
//! How much is retained is what [`retained`](crate::retained) says: 1 is the full cache, 0 no trajectory at all.

mod measure;
mod plan;
mod row;
mod run;
mod table;

pub use plan::{PROMPTS, TrainedPlan};
pub use row::{Stage, TrainedRow};
pub use run::run;
pub use table::table;
