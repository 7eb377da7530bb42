//! Budgets of a question's phases, and its early end.

mod meter;
mod settled;

pub use meter::{PhaseAllowance, PhaseBudget, PhaseMeter, PhaseStep, PhaseUse, validate_phases};
pub use settled::{EarlyEnd, Settled, TurnSeen};
