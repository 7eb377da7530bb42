//! Attention of very few queries, as in decoding: keys and values are read once, number by number side by side.

#![allow(clippy::inline_always, reason = "what is not inlined into a dispatch runs without its vectors")]

use pulp::{Arch, Simd, WithSimd};

use super::attention::{AttentionInput, Observation};
use super::exp::exp;
use super::gemv::dot;

/// With more queries than this, panels ([`attention`](super::attention)) are faster.
pub(crate) const MAX_QUERIES: usize = 8;

/// Slots at a time.
const TILE: usize = 64;
/// Vectors of an output that stay in registers.
const VECTORS: usize = 8;

/// Memory that one thread uses again and again.
#[derive(Default)]
pub(crate) struct DecodeScratch {
    wide: [Vec<f32>; 2],
    max: Vec<f32>,
    mass: Vec<f32>,
    output: Vec<f32>,
}

/// As [`attend`](super::attend) for at most [`MAX_QUERIES`] queries and no scores, all in f32.
pub(crate) fn decode_attention(
    input: &AttentionInput<'_>,
    scratch: &mut DecodeScratch,
    out: &mut [f32],
) -> Option<Observation> {
    let d = input.head_dim;
    let rows = input.queries.len() / d;
    let DecodeScratch { wide, max, mass, output } = scratch;
    max.clear();
    max.resize(rows, f32::NEG_INFINITY);
    mass.clear();
    mass.resize(rows, 0.0);
    output.clear();
    output.resize(rows * d, 0.0);
    let (mut observed, mut before) = (None, 0);
    for (index, chunk) in input.chunks.iter().enumerate() {
        let slots = chunk.keys.rows(d);
        let visible = input.visible.filter(|_| index + 1 == input.chunks.len());
        for first in (0..slots).step_by(TILE) {
            let count = TILE.min(slots - first);
            let [wide_keys, wide_values] = &mut *wide;
            Arch::new().dispatch(Tile {
                queries: input.queries,
                keys: chunk.keys.tile(first, count, d, wide_keys),
                values: chunk.values.tile(first, count, d, wide_values),
                bias: chunk.bias.map(|bias| &bias[first..first + count]),
                visible,
                hidden: input.hidden,
                before,
                first,
                d,
                scale: input.scale,
                max,
                mass,
                output,
            });
        }
        before += slots;
        if input.observe.is_some_and(|observe| observe.chunks == index + 1) {
            let mut noted = vec![0.0; rows * d];
            finish(output, mass, d, &mut noted);
            observed =
                Some(Observation { max: max.clone(), mass: mass.clone(), output: noted, scores: Vec::new() });
        }
    }
    if input.output {
        finish(output, mass, d, out);
    }
    observed
}

fn finish(output: &[f32], mass: &[f32], d: usize, out: &mut [f32]) {
    for ((out, sums), mass) in out.chunks_exact_mut(d).zip(output.chunks_exact(d)).zip(mass) {
        let inverse = 1.0 / mass;
        out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum * inverse);
    }
}

struct Tile<'a> {
    queries: &'a [f32],
    keys: &'a [f32],
    values: &'a [f32],
    bias: Option<&'a [f32]>,
    visible: Option<&'a [usize]>,
    hidden: Option<&'a [usize]>,
    /// Slots of the runs before.
    before: usize,
    first: usize,
    d: usize,
    scale: f32,
    max: &'a mut [f32],
    mass: &'a mut [f32],
    output: &'a mut [f32],
}

impl WithSimd for Tile<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let d = self.d;
        let count = self.keys.len() / d;
        let mut logits = [[f32::NEG_INFINITY; TILE]; MAX_QUERIES];
        for (slot, key) in self.keys.chunks_exact(d).enumerate() {
            let bias = self.bias.map_or(0.0, |bias| bias[slot]);
            for (logits, query) in logits.iter_mut().zip(self.queries.chunks_exact(d)) {
                logits[slot] = dot(simd, key, query) * self.scale + bias;
            }
        }
        for (row, logits) in logits.iter_mut().enumerate().take(self.max.len()) {
            if let Some(visible) = self.visible {
                let visible = visible[row].saturating_sub(self.first).min(TILE);
                logits[visible..].fill(f32::NEG_INFINITY);
            }
            if let Some(hidden) = self.hidden {
                let unseen = hidden[row].saturating_sub(self.before + self.first).min(TILE);
                logits[..unseen].fill(f32::NEG_INFINITY);
            }
            let before = self.max[row];
            let largest = logits.iter().fold(before, |largest, logit| largest.max(*logit));
            if largest == f32::NEG_INFINITY {
                continue;
            }
            let shift = simd.splat_f32s(largest);
            let mut sum = simd.splat_f32s(0.0);
            for logit in S::as_mut_simd_f32s(&mut logits[..]).0 {
                *logit = exp(simd, simd.sub_f32s(*logit, shift));
                sum = simd.add_f32s(sum, *logit);
            }
            let grown = if before == f32::NEG_INFINITY { 0.0 } else { (before - largest).exp() };
            self.max[row] = largest;
            self.mass[row] = self.mass[row] * grown + simd.reduce_sum_f32s(sum);
            let output = &mut self.output[row * d..(row + 1) * d];
            weigh(simd, &logits[..count], self.values, grown, output);
        }
    }
}

/// `output = output · grown + Σ_j weights[j] · values[j]`.
#[inline(always)]
fn weigh<S: Simd>(simd: S, weights: &[f32], values: &[f32], grown: f32, output: &mut [f32]) {
    let d = output.len();
    let (vectors, rest) = S::as_mut_simd_f32s(output);
    let whole = vectors.len() * S::F32_LANES;
    let grown_by = simd.splat_f32s(grown);
    for (part, outputs) in vectors.chunks_mut(VECTORS).enumerate() {
        let mut sums = [simd.splat_f32s(0.0); VECTORS];
        for (sum, output) in sums.iter_mut().zip(&*outputs) {
            *sum = simd.mul_f32s(*output, grown_by);
        }
        let from = part * VECTORS * S::F32_LANES;
        let width = outputs.len() * S::F32_LANES;
        for (weight, value) in weights.iter().zip(values.chunks_exact(d)) {
            let weight = simd.splat_f32s(*weight);
            for (sum, value) in sums.iter_mut().zip(S::as_simd_f32s(&value[from..from + width]).0) {
                *sum = simd.mul_add_e_f32s(weight, *value, *sum);
            }
        }
        outputs.copy_from_slice(&sums[..outputs.len()]);
    }
    for (place, output) in rest.iter_mut().enumerate() {
        let terms = weights.iter().zip(values.chunks_exact(d)).map(|(w, value)| w * value[whole + place]);
        *output = *output * grown + terms.sum::<f32>();
    }
}
