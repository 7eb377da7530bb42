//! Which tokens biases and values are fitted to.
//!
//! Every query has its say in what is kept. A fit is told no more by hundreds of tokens than by some of them, and what it costs
//! grows with the square of their number (`docs/real.md`).

use lb_am::Observed;

use super::cut::QueryPass;
use crate::Result;
use crate::context::Reader;

/// Tokens that a briefing fits to at most, where queries of an answer were looked for.
const FITTED: usize = 128;
/// The same of a renewal.
pub(super) const RENEWED: usize = 64;

/// The last half of `most` of so many tokens, and the others at even distances.
pub(super) fn drawn(tokens: usize, most: usize) -> Vec<u32> {
    let tokens = tokens as u32;
    let (most, late) = (most as u32, (most / 2) as u32);
    if tokens <= most {
        return (0..tokens).collect();
    }
    let early = u64::from(tokens - late);
    let early = (0..u64::from(most - late)).map(|n| (n * early / u64::from(most - late)) as u32);
    early.chain(tokens - late..tokens).collect()
}

impl QueryPass {
    /// The same with the scores of all tokens, and as many of these for fits as tell them.
    pub(super) fn thinned(self, reader: Reader<'_>) -> Result<Self> {
        let Some(observed) = &self.observed else { return Ok(self) };
        let (model, group) = (reader.context.model(), reader.context.worker().config().group_size());
        let tokens = observed.first().map_or(0, Observed::rows) / group;
        if tokens <= FITTED {
            return Ok(self);
        }
        let drawn = drawn(tokens, FITTED);
        let observed = observed.iter().map(|observed| observed.pick(&drawn, group));
        let observed = Some(observed.collect::<lb_am::Result<_>>()?);
        Ok(Self { queries: model.pick_queries(&self.queries, &drawn)?, observed, ..self })
    }
}

#[cfg(test)]
mod tests {
    use super::drawn;

    #[test]
    fn the_latest_are_drawn_whole_and_earlier_ones_evenly() {
        assert_eq!(drawn(5, 8), [0, 1, 2, 3, 4]);
        assert_eq!(drawn(8, 8), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(drawn(20, 8), [0, 4, 8, 12, 16, 17, 18, 19]);
        for tokens in 1..400 {
            let drawn = drawn(tokens, 128);
            assert_eq!(drawn.len(), tokens.min(128));
            assert!(drawn.is_sorted_by(|a, b| a < b) && drawn.iter().all(|t| (*t as usize) < tokens));
        }
    }
}
