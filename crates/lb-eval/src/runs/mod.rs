//! Runs of the loop: an orchestrator works on a text and asks the worker.
//!
//! [`items`] answers question sets under several conditions over the same recorded turns, [`questions`] a file of questions,
//! one run each, and [`replay`] takes recorded runs through other handoffs.

pub mod items;
pub mod policies;
pub mod questions;
pub mod replay;

use std::sync::Arc;

use lb_orchestrate::Usage;
use lb_sandbox::Repl;

use crate::answers::OrchestratorTokens;
use crate::stats::mean;

/// Opens a sandbox; every run has its own.
pub type OpenRepl = Arc<dyn Fn() -> lb_sandbox::Result<Box<dyn Repl>> + Send + Sync>;

/// Folder of the runs' logs, beside the rows.
pub const LOGS: &str = "logs";

impl From<Usage> for OrchestratorTokens {
    fn from(usage: Usage) -> Self {
        let Usage { input, cached, cache_written, output, reasoning, unreported } = usage;
        Self { input, cached, cache_written, output, reasoning, unreported }
    }
}

/// The mean of the calls' keep ratios; `None` without any.
fn mean_ratio(ratios: Vec<f64>) -> Option<f64> {
    (!ratios.is_empty()).then(|| mean(ratios))
}
