//! A run while it goes on, and what it came to: a line on a dashboard, alerts, tables.

mod alerts;
mod books;
mod layer;
mod tables;

pub(crate) use alerts::Alarm;
pub use alerts::{Alert, Alerts};
pub(crate) use books::tell;
pub use layer::{Monitor, Standing};
pub use tables::{RunTables, TableRow};
