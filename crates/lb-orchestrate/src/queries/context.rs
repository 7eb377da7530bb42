//! The queries with which the trajectory was read.

use candle_core::Tensor;

use crate::Result;
use crate::session::WorkerSession;

impl WorkerSession {
    /// Reads the trajectory again behind the template's head, which has nothing to ask.
    pub(super) fn context_queries(&self) -> Result<(Vec<Tensor>, usize)> {
        let head = self.prompt.head.len();
        let mut cache = self.cache.fork();
        cache.truncate(head)?;
        let (model, text) = (self.worker.model(), &self.tokens[head..]);
        let captured = model.prefill_capturing(text, &mut cache, &self.config.prefill, &mut |_, _| {})?;
        Ok((captured.queries, text.len()))
    }
}
