//! Softmax of a tile of logits whose row maximum is not known yet, and what each slot gets of it in the end.

#![allow(clippy::inline_always, reason = "what is not inlined into a dispatch runs without its vectors")]

use pulp::{Arch, Simd, WithSimd};

use super::exp::exp;
use super::tile::Line;
use crate::config::ScoreAgg;

/// Logits of some slots, turned into weights `exp(logit · scale − max)`.
pub(crate) struct Soften<'a> {
    /// A line for each slot.
    pub(crate) weights: &'a mut [Line<f32>],
    pub(crate) scale: f32,
    /// Columns that count.
    pub(crate) used: usize,
    /// The largest scaled logit so far.
    pub(crate) max: &'a mut Line<f32>,
    /// Sum of the weights so far.
    pub(crate) mass: &'a mut Line<f32>,
    /// Sums that shrink when `max` grows.
    pub(crate) output: &'a mut [Line<f32>],
}

impl Soften<'_> {
    pub(crate) fn run(self) {
        Arch::new().dispatch(self);
    }
}

impl WithSimd for Soften<'_> {
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
pub(crate) struct ScoreColumns<'a> {
    /// A line for each slot.
    pub(crate) weights: &'a [Line<f32>],
    /// From weight to probability, one for each column and 0 for those that do not count.
    pub(crate) factors: &'a Line<f32>,
    /// Columns that count.
    pub(crate) used: usize,
    pub(crate) score: ScoreAgg,
    pub(crate) scores: &'a mut [f32],
}

impl ScoreColumns<'_> {
    pub(crate) fn run(self) {
        Arch::new().dispatch(self);
    }
}

impl WithSimd for ScoreColumns<'_> {
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
                    ScoreAgg::Mean => simd.add_f32s(sum, p),
                    ScoreAgg::Rms => simd.mul_add_e_f32s(p, p, sum),
                    ScoreAgg::Max => simd.max_f32s(sum, p),
                };
            }
            *score = match self.score {
                ScoreAgg::Mean | ScoreAgg::Rms => simd.reduce_sum_f32s(sum),
                ScoreAgg::Max => simd.reduce_max_f32s(sum),
            };
        }
    }
}
