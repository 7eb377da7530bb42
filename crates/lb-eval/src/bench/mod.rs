//! Question sets answered under several conditions, paired item by item: rows, and what is made of them.

pub mod aggregate;
pub mod calibrate;
mod direct;
mod episodes;
mod families;
mod figures;
mod folder;
mod item;
mod jobs;
mod letters;
mod page;
pub(crate) mod plan;
mod plot;
mod read;
mod report;
mod row;
mod run;
mod score;
mod table;
mod text;
mod turns;

pub use aggregate::{Summary, aggregate};
pub use calibrate::{Calibration, calibrate};
pub use episodes::{EpisodePlan, Logs, run_episodes};
pub use folder::{FAULTS, LOGS};
pub use plan::{BenchPlan, Condition};
pub use read::{Rows, read_rows};
pub use report::{Options, ReportFiles, report};
pub use row::{BenchRow, Part};
pub use run::{Bench, Finished, NewOrchestrator, OpenSandbox, run};
pub use score::Scoring;
pub use table::table;
pub use turns::RecordedTurns;

pub use crate::conditions::{DIRECT, at_each_size, split_conditions};
pub use crate::store::{BenchPlanFields, Existing, PLAN, PlanRecord, ROWS};
