//! Question sets answered under several conditions, paired item by item: rows, and what is made of them.

pub mod aggregate;
pub mod calibrate;
mod figures;
mod page;
mod plot;
mod read;
mod report;
mod row;
mod text;

pub use aggregate::{Summary, aggregate};
pub use calibrate::{Calibration, calibrate};
pub use read::{ROWS, Rows, read_rows};
pub use report::{Options, ReportFiles, report};
pub use row::{BenchRow, Part};
