//! Items under conditions become rows, whatever is asked: one folder, one loop.
//!
//! A [`Protocol`] says how one item gives its rows; [`run`] does the rest. `plan.json` in the folder says what is run, and
//! each row is a line of `rows.jsonl` that is on disk before it is told of. A later call goes on with what is there: a last
//! line that was cut off is left out, rows that count are not made again, another plan is refused by the field that
//! differs. Items are worked on by several threads, and one process at a time has the folder.

mod folder;
mod jobs;
mod lines;
mod lot;
mod plan;
mod protocol;
mod run;
mod shard;

pub use folder::{Existing, hold};
pub use jobs::in_parallel;
pub use lines::{ROWS, Rows, read_rows};
pub use lot::Part;
pub(crate) use lot::{fingerprint, mixed, part};
pub use plan::{PLAN, PlanRecord};
pub(crate) use plan::{at_least_one, check};
pub use protocol::{Context, Protocol, Row};
pub use run::{Finished, Settings, run};
pub use shard::{Shard, merge};
