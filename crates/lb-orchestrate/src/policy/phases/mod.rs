//! Budgets of a question's phases, and its early end.

mod meter;
mod settled;

pub(crate) use meter::validate_phases;
pub use meter::{PhaseAllowance, PhaseBudget, PhaseMeter, PhaseStep, PhaseUse};
pub use settled::{EarlyEnd, Settled, TurnSeen};
