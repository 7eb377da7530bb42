//! Questions that were answered: the row, and what rows say of each condition.
//!
//! [`by_handoff`] is the short form, [`summarise`] the one of reports, with every difference paired on the same items and
//! every interval drawn over documents.

mod aggregate;
pub mod by_handoff;
pub mod calibrate;
mod classes;
mod families;
mod figures;
mod row;
mod summary;
mod table;

pub use aggregate::summarise;
pub use classes::CELLS;
pub use figures::conditions;
pub use row::{AnswerRow, OrchestratorTokens};
pub use summary::{Clusters, Failure, Figures, Group, Letters, Noise, Power, Summary};
pub use table::table;
