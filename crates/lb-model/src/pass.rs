//! What one pass over the layers reads: the rows of one sequence, or those of several behind one another.

use candle_core::{Device, Tensor};
use lb_am::ScoreAgg;

use crate::Result;
use crate::rope::{Ropes, Rotations};

/// Projections, norms and feed-forward blocks see the rows alone; attention goes by the spans.
#[derive(Debug)]
pub(crate) struct Pass {
    /// Of all rows.
    pub(crate) rotations: Rotations,
    /// By sequence, in order and without gaps.
    pub(crate) spans: Vec<Span>,
    /// Whether to note what each sequence sees of its cache, and how scores are aggregated over its queries.
    pub(crate) watch: Option<ScoreAgg>,
}

/// The rows of one sequence.
#[derive(Debug)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) tokens: usize,
    /// Of its own rows.
    pub(crate) rotations: Rotations,
    /// [`causal_mask`].
    pub(crate) mask: Option<Tensor>,
}

impl Pass {
    /// `runs`: by sequence the position of its first new token and how many there are, at least one.
    pub(crate) fn new(runs: &[(usize, usize)], ropes: &Ropes, device: &Device) -> Result<Self> {
        let mut spans: Vec<Span> = Vec::with_capacity(runs.len());
        let mut start = 0;
        for &(position, tokens) in runs {
            let mask = match spans.iter().find(|span| span.tokens == tokens) {
                Some(span) => span.mask.clone(),
                None => causal_mask(tokens, device)?,
            };
            spans.push(Span { start, tokens, rotations: ropes.at(position, tokens)?, mask });
            start += tokens;
        }
        let rotations: Vec<Rotations> = spans.iter().map(|span| span.rotations.clone()).collect();
        Ok(Self { rotations: Rotations::joined(&rotations)?, spans, watch: None })
    }

    /// Of rows along the first dimension, the last of each sequence.
    pub(crate) fn last_rows(&self, x: &Tensor) -> Result<Tensor> {
        if let [only] = &self.spans[..] {
            return Ok(x.narrow(0, only.tokens - 1, 1)?);
        }
        let rows: Vec<u32> = self.spans.iter().map(|span| (span.start + span.tokens - 1) as u32).collect();
        Ok(x.index_select(&Tensor::new(rows, x.device())?, 0)?)
    }
}

impl Span {
    /// The sequence's part of `x`, whose rows are dimension `dim`; a view.
    pub(crate) fn of(&self, x: &Tensor, dim: usize) -> Result<Tensor> {
        Ok(x.narrow(dim, self.start, self.tokens)?)
    }
}

/// What hides later tokens from earlier ones, `[tokens, tokens]`, f32, added to scores; `None` for a single token.
pub(crate) fn causal_mask(tokens: usize, device: &Device) -> Result<Option<Tensor>> {
    if tokens == 1 {
        return Ok(None);
    }
    let mask: Vec<f32> = (0..tokens)
        .flat_map(|row| (0..tokens).map(move |column| if column > row { f32::NEG_INFINITY } else { 0.0 }))
        .collect();
    Ok(Some(Tensor::from_vec(mask, (tokens, tokens), device)?))
}
