//! The queries with which the trajectory was read.

use std::time::{Duration, Instant};

use candle_core::Tensor;
use lb_am::{Compactor, Selection};

use super::QuerySource;
use crate::Result;
use crate::session::WorkerSession;

/// Queries that a selection reads besides those of the compaction, by layer as these are.
#[derive(Clone, Default)]
pub(crate) struct Extra {
    /// With which the trajectory was read, one for each slot.
    pub(crate) context: Option<Vec<Tensor>>,
    /// With which it is repeated.
    pub(crate) repeat: Option<Vec<Tensor>>,
    /// Tokens that the model computed for them.
    pub(crate) prefilled: usize,
    /// The time that took.
    pub(crate) elapsed: Duration,
}

impl Extra {
    /// The same, paid for elsewhere.
    pub(crate) fn for_free(&self) -> Self {
        Self { prefilled: 0, elapsed: Duration::ZERO, ..self.clone() }
    }

    /// Hands them to a compaction of whole layers.
    pub(crate) fn to<'a>(&'a self, mut compactor: Compactor<'a>) -> Compactor<'a> {
        if let Some(queries) = &self.context {
            compactor = compactor.context(queries);
        }
        if let Some(queries) = &self.repeat {
            compactor = compactor.repeat(queries);
        }
        compactor
    }

    /// Those of one layer.
    pub(crate) fn layer(&self, index: usize) -> Self {
        let one = |queries: &Vec<Tensor>| queries[index..=index].to_vec();
        Self {
            context: self.context.as_ref().map(one),
            repeat: self.repeat.as_ref().map(one),
            ..self.for_free()
        }
    }
}

impl WorkerSession {
    /// What `selection` reads besides the queries of the compaction. Costs reading the trajectory once more for the
    /// context's own queries, and again for its repetition.
    pub(crate) fn extra_queries(&self, selection: &Selection) -> Result<Extra> {
        let (start, needs, mut extra) = (Instant::now(), selection.selector().needs(), Extra::default());
        if needs.context {
            let mut cache = self.worker.model().new_cache();
            extra.context = Some(self.capture(&self.held.tokens, &mut cache)?.queries);
            extra.prefilled += self.held.tokens.len();
        }
        if needs.repeat {
            let asked = self.gather(&QuerySource::RepeatPrefill, &[])?;
            extra.prefilled += asked.prefilled;
            extra.repeat = Some(asked.queries);
        }
        Ok(Extra { elapsed: start.elapsed(), ..extra })
    }

    /// Those of the slots `from..to`.
    pub(crate) fn extra_of(&self, extra: &Extra, from: usize, to: usize) -> Result<Extra> {
        let Some(context) = extra.context.as_ref().filter(|_| to - from < self.held.tokens.len()) else {
            return Ok(extra.for_free());
        };
        let tokens: Vec<u32> = (from as u32..to as u32).collect();
        let context = Some(self.worker.model().pick_queries(context, &tokens)?);
        Ok(Extra { context, ..extra.for_free() })
    }

    /// Reads the trajectory again behind the template's head, which has nothing to ask.
    pub(super) fn context_queries(&self) -> Result<(Vec<Tensor>, usize)> {
        let head = self.prompt.head.len();
        let mut cache = self.held.cache.fork();
        cache.truncate(head)?;
        let text = &self.held.tokens[head..];
        Ok((self.capture(text, &mut cache)?.queries, text.len()))
    }
}
