//! Question sets answered under several conditions, paired item by item: rows, and what is made of them.

mod direct;
mod item;
mod plan;
mod row;
mod run;
mod score;
mod store;
mod table;

pub use plan::{BenchPlan, Condition, DIRECT};
pub use row::{BenchRow, Part};
pub use run::{Bench, Finished, NewOrchestrator, OpenSandbox, run};
pub use score::Scoring;
pub use store::{BenchPlanFields, Existing, FAULTS, LOGS, PLAN, PlanRecord, ROWS, read_rows};
pub use table::table;
