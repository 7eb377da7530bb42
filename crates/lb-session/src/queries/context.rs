//! The queries with which the trajectory was read.

use candle_core::Tensor;

use crate::Result;
use crate::session::WorkerSession;

impl WorkerSession {
    /// Reads the trajectory again behind the template's head, which has nothing to ask.
    pub(super) fn context_queries(&self) -> Result<(Vec<Tensor>, usize)> {
        let head = self.prompt.head.len();
        let mut cache = self.held.cache.fork();
        cache.truncate(head)?;
        let text = &self.held.tokens[head..];
        Ok((self.capture(text, &mut cache)?.queries, text.len()))
    }
}
