//! Queries that a selection reads besides those of the compaction.

use std::time::{Duration, Instant};

use candle_core::Tensor;
use lb_am::{Compactor, Selection};

use super::{QuerySource, gather};
use crate::Result;
use crate::context::{Context, Reader};

/// By layer that attends to everything, as those of the compaction are.
#[derive(Clone, Default)]
pub(crate) struct Extra {
    /// With which the trajectory was read, one for each slot.
    context: Option<Vec<Tensor>>,
    /// With which it is repeated.
    repeat: Option<Vec<Tensor>>,
    /// Tokens that the model computed for them.
    pub(crate) prefilled: usize,
    /// The time that took.
    pub(crate) elapsed: Duration,
}

impl Extra {
    /// What `selection` reads. Costs reading the trajectory once more for the context's own queries, and again for its
    /// repetition.
    pub(crate) fn of(reader: Reader<'_>, selection: &Selection) -> Result<Self> {
        let (start, needs, mut extra) = (Instant::now(), selection.selector().needs(), Self::default());
        let config = reader.context.worker().config();
        if needs.context {
            let tokens = &reader.context.full.tokens;
            let queries = reader.capture(tokens, &mut reader.context.model().new_cache())?.queries;
            extra.context = Some(config.of_global_layers(queries));
            extra.prefilled += tokens.len();
        }
        if needs.repeat {
            let (queries, read) = gather(reader, &QuerySource::RepeatPrefill, &[])?;
            extra.repeat = Some(config.of_global_layers(queries));
            extra.prefilled += read;
        }
        Ok(Self { elapsed: start.elapsed(), ..extra })
    }

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

    /// Those of the slots `from..to`.
    pub(crate) fn range(&self, context: &Context, from: usize, to: usize) -> Result<Self> {
        let Some(queries) = self.context.as_ref().filter(|_| to - from < context.seq_len()) else {
            return Ok(self.for_free());
        };
        let tokens: Vec<u32> = (from as u32..to as u32).collect();
        let picked = context.model().pick_queries(queries, &tokens)?;
        Ok(Self { context: Some(picked), ..self.for_free() })
    }
}
