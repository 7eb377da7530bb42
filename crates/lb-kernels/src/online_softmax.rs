//! Softmax of a tile of logits whose row maximum is not known yet, and what each slot gets of it in the end.

#![allow(clippy::inline_always, reason = "what is not inlined into a dispatch runs without its vectors")]

use pulp::{Arch, Simd, WithSimd};

use super::exp::exp;
use super::microkernel::PanelRow;

/// How the attention to a slot is aggregated over a block of queries. Other blocks, and a mean, are the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryAgg {
    /// The sum.
    Sum,
    /// The sum of the squares.
    SumOfSquares,
    /// The largest.
    Max,
}

/// Logits of some slots, turned into weights `exp(logit · scale − max)`, while the sums so far follow the maximum.
#[derive(Debug)]
pub struct OnlineSoftmax<'a> {
    /// Logits, then weights: a row for each slot.
    pub weights: &'a mut [PanelRow<f32>],
    /// What the logits are multiplied with, above 0.
    pub scale: f32,
    /// Columns that count.
    pub used: usize,
    /// The largest scaled logit so far; −∞ to begin with.
    pub max: &'a mut PanelRow<f32>,
    /// Sum of the weights so far.
    pub mass: &'a mut PanelRow<f32>,
    /// Sums that shrink when `max` grows.
    pub output: &'a mut [PanelRow<f32>],
}

impl OnlineSoftmax<'_> {
    /// Takes the slots in.
    pub fn run(self) {
        Arch::new().dispatch(self);
    }
}

impl WithSimd for OnlineSoftmax<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { weights, scale, used, max, mass, output } = self;
        let wide_scale = simd.splat_f32s(scale);
        let nothing = simd.splat_f32s(f32::NEG_INFINITY);
        for first in (0..used).step_by(S::F32_LANES) {
            let columns = first..first + S::F32_LANES;
            let before = S::as_simd_f32s(&max[columns.clone()]).0[0];
            let mut largest = nothing;
            for line in &*weights {
                largest = simd.max_f32s(largest, S::as_simd_f32s(&line[columns.clone()]).0[0]);
            }
            let largest = simd.max_f32s(before, simd.mul_f32s(largest, wide_scale));
            // Where every slot so far was padding there is no maximum, and any shift will do.
            let shift = simd.select_f32s(simd.equal_f32s(largest, nothing), simd.splat_f32s(0.0), largest);
            let grown = exp(simd, simd.sub_f32s(before, shift));
            let mut sum = simd.mul_f32s(S::as_simd_f32s(&mass[columns.clone()]).0[0], grown);
            let back = simd.neg_f32s(shift);
            for line in &mut *weights {
                let logit = &mut S::as_mut_simd_f32s(&mut line[columns.clone()]).0[0];
                *logit = exp(simd, simd.mul_add_e_f32s(*logit, wide_scale, back));
                sum = simd.add_f32s(sum, *logit);
            }
            for line in &mut *output {
                let sum = &mut S::as_mut_simd_f32s(&mut line[columns.clone()]).0[0];
                *sum = simd.mul_f32s(*sum, grown);
            }
            S::as_mut_simd_f32s(&mut max[columns.clone()]).0[0] = largest;
            S::as_mut_simd_f32s(&mut mass[columns]).0[0] = sum;
        }
    }
}

/// Adds to the score of each slot what its weights come to.
pub(crate) struct AggregateColumns<'a> {
    /// A row for each slot.
    pub(crate) weights: &'a [PanelRow<f32>],
    /// From weight to probability, one for each column and 0 for those that do not count.
    pub(crate) factors: &'a PanelRow<f32>,
    /// Columns that count.
    pub(crate) used: usize,
    pub(crate) score: QueryAgg,
    pub(crate) scores: &'a mut [f32],
}

impl AggregateColumns<'_> {
    pub(crate) fn run(self) {
        Arch::new().dispatch(self);
    }
}

impl WithSimd for AggregateColumns<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let vectors = self.used.div_ceil(S::F32_LANES);
        let factors = &S::as_simd_f32s(self.factors).0[..vectors];
        for (line, score) in self.weights.iter().zip(self.scores) {
            let mut sum = simd.splat_f32s(0.0);
            for (weight, factor) in S::as_simd_f32s(line).0.iter().zip(factors) {
                let p = simd.mul_f32s(*weight, *factor);
                sum = match self.score {
                    QueryAgg::Sum => simd.add_f32s(sum, p),
                    QueryAgg::SumOfSquares => simd.mul_add_e_f32s(p, p, sum),
                    QueryAgg::Max => simd.max_f32s(sum, p),
                };
            }
            *score = match self.score {
                QueryAgg::Sum | QueryAgg::SumOfSquares => simd.reduce_sum_f32s(sum),
                QueryAgg::Max => simd.reduce_max_f32s(sum),
            };
        }
    }
}
