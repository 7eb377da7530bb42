//! Question sets answered under several conditions, paired item by item: rows, and what is made of them.

mod row;

pub use row::{BenchRow, Part};
