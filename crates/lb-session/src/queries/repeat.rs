//! The queries with which the trajectory is repeated (KVzip, arXiv 2505.23416).

use candle_core::Tensor;

use crate::Result;
use crate::session::WorkerSession;

/// What a trajectory is repeated after.
pub(crate) const REQUEST: &str = "Repeat the previous context.";

impl WorkerSession {
    /// Reads the request and the trajectory once more behind the full cache.
    pub(super) fn repeat_queries(&self) -> Result<(Vec<Tensor>, usize)> {
        let mut text = self.prompt.task(&self.worker, &REQUEST.into(), &self.watch)?;
        text.extend(&self.held.tokens[self.prompt.head.len()..]);
        Ok((self.task_pass(&text)?.0.queries, text.len()))
    }
}
