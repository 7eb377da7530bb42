//! Selections and fits compared on a worker's own caches: the error of the attention output on queries that no fit has
//! seen, and the answers that come of it.
//!
//! [`Probe`] reads an episode once; each [`Method`] then makes a selection or a compaction of every size from the same
//! tensors, and the worker answers over it with the task read anew ([`TaskState::Recompute`](lb_session::TaskState)).
//! [`figures`] sums the [`Cell`]s up, [`plot`] draws them.

pub mod figures;
mod head_budgets;
mod method;
pub mod plot;
mod probe;
mod run;

pub use head_budgets::HeadSensitivity;
pub use method::Method;
pub use probe::{Asked, Probe};
pub use run::{Study, read_cells, read_head_budgets, write_cells};

use serde::{Deserialize, Serialize};

use crate::episodes::Kind;

/// One question answered over one method's compaction to one size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Name of the method.
    pub method: String,
    /// Keep ratio that was asked for; what an error target or a threshold asks for is written 0.
    pub asked: f64,
    /// Seed of the episode.
    pub episode: u64,
    /// Number of the question within its episode.
    pub question: usize,
    /// What it asks.
    pub kind: Kind,
    /// Whether it asks for one fact in other words than the log tells it; `None` where it joins several.
    #[serde(default)]
    pub paraphrased: Option<bool>,
    /// Positions of the trajectory.
    pub seq_len: usize,
    /// Kept / original positions over all layers and heads.
    pub keep_ratio: f64,
    /// Bytes of the kept slots, biases included, over the bytes of the full cache.
    pub bytes_ratio: f64,
    /// ‖Ŷ − Y‖ / ‖Y‖ of the attention output over all layers and heads, on the queries of the right answer's tokens
    /// behind the full cache, which no fit has seen.
    pub error: f64,
    /// Mean relative error of the softmax mass on the same queries.
    pub mass_error: f64,
    /// Estimate of an error target, where there was one.
    pub estimated: Option<f64>,
    /// Negative log-probability of the right answer, end of turn included, in nats.
    pub nll: f64,
    /// Whether greedy decoding writes exactly the right answer and stops.
    pub right: bool,
    /// Milliseconds to select and fit, the pass that yields the queries left out.
    pub ms: f64,
}
