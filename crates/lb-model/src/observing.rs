//! One pass that reads tokens and notes what they see of the cache, so that a compaction for them need not look again.

use lb_am::{Observed, ScoreAgg};

use crate::attention::Heard;
use crate::config::check;
use crate::model::{HEADROOM, Rows};
use crate::{Captured, Decoder, KvCache, Result, buffers};

/// What [`Decoder::forward_observing`] hands out.
#[derive(Debug)]
pub struct Observing {
    /// Queries and logits, as of [`Decoder::prefill_capturing`].
    pub captured: Captured,
    /// By layer that attends to everything what the queries saw of the cache as it was before, for
    /// [`Compactor::observed`](lb_am::Compactor::observed). `None` for an empty cache, for one whose heads keep
    /// different counts, and off the CPU, where the way attention is computed does not pass by these numbers.
    pub observed: Option<Vec<Observed>>,
}

impl Decoder {
    /// Reads `tokens` in one piece behind what `cache` holds, appends their keys and values, and notes what a compaction of
    /// the cache for these tokens wants to know: their attention computes the same products anyway.
    ///
    /// `score` must be that of the compaction.
    ///
    /// # Shapes
    /// As [`prefill_capturing`](Self::prefill_capturing).
    ///
    /// # Errors
    /// Those of [`forward`](Self::forward). The cache is as before then.
    pub fn forward_observing(
        &self,
        tokens: &[u32],
        cache: &mut KvCache,
        score: ScoreAgg,
    ) -> Result<Observing> {
        self.forward_observing_at(tokens, tokens.len().saturating_sub(1), cache, score)
    }

    /// Like [`forward_observing`](Self::forward_observing), with the logits of the token of number `at` instead of the last one: what
    /// stands behind that is read for its queries alone.
    ///
    /// # Errors
    /// Those of [`forward_observing`](Self::forward_observing), and [`Error::Config`](crate::Error::Config) for a number that is none of
    /// a token.
    pub fn forward_observing_at(
        &self,
        tokens: &[u32],
        at: usize,
        cache: &mut KvCache,
        score: ScoreAgg,
    ) -> Result<Observing> {
        self.check_input(tokens, cache)?;
        check(at < tokens.len(), "at", at, "the number of a token")?;
        let _keeper = buffers::keep();
        cache.reserve(tokens.len(), HEADROOM)?;
        let (mut queries, mut observed) = (Vec::new(), Vec::new());
        let mut capture = |_: usize, _: usize, heard: Heard| {
            queries.push(heard.queries);
            observed.extend(heard.observed);
        };
        let logits = self.run(&[tokens], &mut [cache], Rows::One(at), Some(score), Some(&mut capture))?;
        let global = self.config().of_global_layers(vec![(); queries.len()]).len();
        let observed = (observed.len() == global).then_some(observed);
        Ok(Observing { captured: Captured { queries, logits: logits.squeeze(0)? }, observed })
    }
}
