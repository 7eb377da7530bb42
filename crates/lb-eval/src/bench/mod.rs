//! Question sets answered under several conditions, paired item by item: rows, and what is made of them.

pub mod aggregate;
pub mod calibrate;
mod direct;
mod episodes;
mod families;
mod figures;
mod item;
mod jobs;
mod letters;
mod page;
pub(crate) mod plan;
mod plot;
pub(crate) mod read;
mod report;
mod row;
mod run;
mod score;
pub(crate) mod store;
mod table;
mod text;
mod turns;

pub use aggregate::{Summary, aggregate};
pub use calibrate::{Calibration, calibrate};
pub use episodes::{EpisodePlan, Logs, run_episodes};
pub use plan::{BenchPlan, Condition, DIRECT, at_each_size, split_conditions};
pub use read::{ROWS, Rows, read_rows};
pub use report::{Options, ReportFiles, report};
pub use row::{BenchRow, Part};
pub use run::{Bench, Finished, NewOrchestrator, OpenSandbox, run};
pub use score::Scoring;
pub use store::{BenchPlanFields, Existing, FAULTS, LOGS, PLAN, PlanRecord};
pub use table::table;
pub use turns::RecordedTurns;
