//! Attention of very few queries, as in decoding: keys and values are read once, number by number side by side.

#![allow(clippy::inline_always, reason = "what is not inlined into a dispatch runs without its vectors")]
#![allow(
    clippy::needless_range_loop,
    reason = "loops to constants become no loops, so that vectors stay in registers"
)]

use pulp::{Arch, Simd, WithSimd};

use super::attention::{AttentionInput, Observation};
use super::decode_products::{Number, products};
use super::exp::exp;
use super::float_slice::FloatSlice;
use super::kv_rows::KvRows;

/// With more queries than this, panels ([`attention`](super::attention)) are faster.
pub(crate) const MAX_QUERIES: usize = 8;

/// Slots at a time.
pub(crate) const TILE: usize = 64;
/// Vectors of an output that stay in registers, of each of two rows. NEON has many short ones.
const VECTORS: usize = if cfg!(target_arch = "aarch64") { 8 } else { 4 };

/// Memory that one thread uses again and again.
#[derive(Default)]
pub(crate) struct DecodeScratch {
    wide: [Vec<f32>; 2],
    queries: Vec<f32>,
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
    let DecodeScratch { wide, queries, max, mass, output } = scratch;
    max.clear();
    max.resize(rows, f32::NEG_INFINITY);
    mass.clear();
    mass.resize(rows, 0.0);
    output.clear();
    output.resize(rows * d, 0.0);
    let order = Order::of(input);
    let queries = order.arranged(input.queries, d, queries);
    let (mut observed, mut before) = (None, 0);
    for (index, chunk) in input.chunks.iter().enumerate() {
        let slots = chunk.keys.rows(d);
        let visible = input.visible.filter(|_| index + 1 == input.chunks.len());
        for first in (0..slots).step_by(TILE) {
            let count = TILE.min(slots - first);
            let sums = Sums {
                queries,
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
            };
            if let (Order::Pairs(_), Some(keys), Some(values)) =
                (order, pairs(chunk.keys), pairs(chunk.values))
            {
                let tile = first * d / 2..(first + count) * d / 2;
                Arch::new().dispatch(Tile { keys: &keys[tile.clone()], values: &values[tile], sums });
            } else {
                let [keys, values] = &mut *wide;
                let (keys, values) =
                    (chunk.keys.tile(first, count, d, keys), chunk.values.tile(first, count, d, values));
                Arch::new().dispatch(Tile { keys, values, sums });
            }
        }
        before += slots;
        if input.observe.is_some_and(|observe| observe.chunks == index + 1) {
            let mut noted = vec![0.0; rows * d];
            finish(output, mass, (order, d), &mut noted);
            observed =
                Some(Observation { max: max.clone(), mass: mass.clone(), output: noted, scores: Vec::new() });
        }
    }
    if input.output {
        finish(output, mass, (order, d), out);
    }
    observed
}

fn finish(output: &[f32], mass: &[f32], (order, d): (Order, usize), out: &mut [f32]) {
    for ((out, sums), mass) in out.chunks_exact_mut(d).zip(output.chunks_exact(d)).zip(mass) {
        let inverse = 1.0 / mass;
        for (place, sum) in sums.iter().enumerate() {
            out[order.number(place)] = sum * inverse;
        }
    }
}

/// In which order the numbers of a row are met.
#[derive(Clone, Copy)]
enum Order {
    /// As they lie.
    Plain,
    /// Of so many pairs of bf16 the first numbers, then the second ones: a pair widens to two vectors by a shift and a mask.
    Pairs(usize),
}

impl Order {
    /// Pairs where everything is bf16 and a row is a whole number of vectors.
    fn of(input: &AttentionInput<'_>) -> Self {
        let lanes = Arch::new().dispatch(Lanes);
        let bf16 =
            input.chunks.iter().all(|chunk| pairs(chunk.keys).is_some() && pairs(chunk.values).is_some());
        if bf16 && input.head_dim.is_multiple_of(2 * lanes) { Self::Pairs(lanes) } else { Self::Plain }
    }

    /// Which number of a row is met in a place.
    fn number(self, place: usize) -> usize {
        let Self::Pairs(lanes) = self else { return place };
        let (run, place) = (place / (2 * lanes), place % (2 * lanes));
        2 * (run * lanes + place % lanes) + place / lanes
    }

    /// Rows in this order, in `buffer` where it is another than theirs.
    fn arranged<'a>(self, rows: &'a [f32], d: usize, buffer: &'a mut Vec<f32>) -> &'a [f32] {
        if matches!(self, Self::Plain) {
            return rows;
        }
        buffer.clear();
        buffer.extend(rows.chunks_exact(d).flat_map(|row| (0..d).map(|place| row[self.number(place)])));
        buffer
    }
}

struct Lanes;

impl WithSimd for Lanes {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        S::F32_LANES
    }
}

/// Rows of bf16 as pairs, the first number of each in the low half; `None` for others, and where they lie at an odd place.
fn pairs(rows: KvRows<'_>) -> Option<&[u32]> {
    match rows {
        KvRows::Float(rows @ FloatSlice::Bf16(_)) if cfg!(target_endian = "little") => {
            bytemuck::try_cast_slice(rows.bits()).ok()
        }
        _ => None,
    }
}

/// The sums so far, and what is the same for all numbers of a tile.
struct Sums<'a> {
    queries: &'a [f32],
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

struct Tile<'a, N> {
    keys: &'a [N],
    values: &'a [N],
    sums: Sums<'a>,
}

impl<N: Number> WithSimd for Tile<'_, N> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { keys, values, sums } = self;
        let (d, width) = (sums.d, sums.d / N::EACH);
        let (rows, count) = (sums.max.len(), keys.len() / width);
        // Of slots that are not there −∞, whose weight is 0.
        let mut logits = [[f32::NEG_INFINITY; TILE]; MAX_QUERIES];
        products::<S, N>(simd, keys, sums.queries, d, &mut logits);
        let mut grown = [1f32; MAX_QUERIES];
        for (row, logits) in logits.iter_mut().enumerate().take(rows) {
            let scale = simd.splat_f32s(sums.scale);
            S::as_mut_simd_f32s(&mut logits[..]).0.iter_mut().for_each(|x| *x = simd.mul_f32s(*x, scale));
            for (logit, bias) in logits.iter_mut().zip(sums.bias.unwrap_or_default()) {
                *logit += bias;
            }
            if let Some(visible) = sums.visible {
                let visible = visible[row].saturating_sub(sums.first).min(TILE);
                logits[visible..].fill(f32::NEG_INFINITY);
            }
            if let Some(hidden) = sums.hidden {
                let unseen = hidden[row].saturating_sub(sums.before + sums.first).min(TILE);
                logits[..unseen].fill(f32::NEG_INFINITY);
            }
            let before = sums.max[row];
            let mut largest = simd.splat_f32s(before);
            for logit in S::as_simd_f32s(&logits[..]).0 {
                largest = simd.max_f32s(largest, *logit);
            }
            let largest = simd.reduce_max_f32s(largest);
            if largest == f32::NEG_INFINITY {
                logits.fill(0.0);
                continue;
            }
            let shift = simd.splat_f32s(largest);
            let mut sum = simd.splat_f32s(0.0);
            for logit in S::as_mut_simd_f32s(&mut logits[..]).0 {
                *logit = exp(simd, simd.sub_f32s(*logit, shift));
                sum = simd.add_f32s(sum, *logit);
            }
            grown[row] = if before == f32::NEG_INFINITY { 0.0 } else { (before - largest).exp() };
            sums.max[row] = largest;
            sums.mass[row] = sums.mass[row] * grown[row] + simd.reduce_sum_f32s(sum);
        }
        let weights = |row: usize| &logits[row][..count];
        let mut row = 0;
        for output in sums.output.chunks_mut(2 * d) {
            if output.len() == 2 * d {
                weigh::<S, N, 2>(
                    simd,
                    [weights(row), weights(row + 1)],
                    values,
                    [grown[row], grown[row + 1]],
                    output,
                );
            } else {
                weigh::<S, N, 1>(simd, [weights(row)], values, [grown[row]], output);
            }
            row += 2;
        }
    }
}

/// `output = output · grown + Σ_j weights[j] · values[j]` of `R` rows, which share what is loaded of the values.
#[inline(always)]
fn weigh<S: Simd, N: Number, const R: usize>(
    simd: S,
    weights: [&[f32]; R],
    values: &[N],
    grown: [f32; R],
    output: &mut [f32],
) {
    let d = output.len() / R;
    let (width, whole) = (d / N::EACH, d / S::F32_LANES);
    let mut vector = 0;
    while vector < whole {
        vector += match whole - vector {
            VECTORS.. => part::<S, N, R, VECTORS>(simd, weights, values, grown, (vector, d), output),
            2.. => part::<S, N, R, 2>(simd, weights, values, grown, (vector, d), output),
            _ => part::<S, N, R, 1>(simd, weights, values, grown, (vector, d), output),
        };
    }
    for (row, output) in output.chunks_exact_mut(d).enumerate() {
        for (place, output) in output.iter_mut().enumerate().skip(whole * S::F32_LANES) {
            let values = values.chunks_exact(width).filter_map(|value| N::singles(value).get(place));
            *output = *output * grown[row] + weights[row].iter().zip(values).map(|(w, x)| w * x).sum::<f32>();
        }
    }
}

/// `V` vectors of each row, from the vector `first` on, in registers; returns `V`.
#[inline(always)]
fn part<S: Simd, N: Number, const R: usize, const V: usize>(
    simd: S,
    weights: [&[f32]; R],
    values: &[N],
    grown: [f32; R],
    (first, d): (usize, usize),
    output: &mut [f32],
) -> usize {
    let places = first * S::F32_LANES..(first + V) * S::F32_LANES;
    let mut sums = [[simd.splat_f32s(0.0); V]; R];
    for row in 0..R {
        let grown = simd.splat_f32s(grown[row]);
        let outputs = S::as_simd_f32s(&output[row * d..][places.clone()]).0;
        for v in 0..V {
            sums[row][v] = simd.mul_f32s(outputs[v], grown);
        }
    }
    let count = weights[0].len();
    let weights = weights.map(|weights| &weights[..count]);
    for (slot, value) in values.chunks_exact(d / N::EACH).take(count).enumerate() {
        let value = N::wide::<S, V>(simd, value, first);
        for row in 0..R {
            let weight = simd.splat_f32s(weights[row][slot]);
            for v in 0..V {
                sums[row][v] = simd.mul_add_e_f32s(weight, value[v], sums[row][v]);
            }
        }
    }
    for row in 0..R {
        let outputs = S::as_mut_simd_f32s(&mut output[row * d..][places.clone()]).0;
        outputs[..V].copy_from_slice(&sums[row]);
    }
    V
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::{DecodeScratch, decode_attention};
    use crate::test_numbers::numbers;
    use crate::{AttentionInput, FloatSlice, KvSlice, Observe};

    /// Of what the largest number of an output may be off.
    const FAR: f64 = 1e-5;

    /// Softmax attention of one row in f64, over the slots of all chunks that it sees.
    fn plainly(query: &[f32], slots: &[(&[f32], &[f32], f32)], scale: f32) -> Vec<f64> {
        let logit = |key: &[f32], bias: f32| {
            let product: f64 = key.iter().zip(query).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            product * f64::from(scale) + f64::from(bias)
        };
        let logits: Vec<f64> = slots.iter().map(|(key, _, bias)| logit(key, *bias)).collect();
        let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = logits.iter().map(|logit| (logit - largest).exp()).collect();
        let mass: f64 = weights.iter().sum();
        let mut out = vec![0f64; query.len()];
        for ((_, value, _), weight) in slots.iter().zip(&weights) {
            out.iter_mut().zip(*value).for_each(|(out, x)| *out += weight / mass * f64::from(*x));
        }
        out
    }

    /// Rows of whole vectors and others, one to eight queries, tiles that are full and not, biases, a window and a causal mask; bf16 is
    /// met in pairs where it can be. What is noted of the first chunk is that chunk's alone.
    #[test]
    fn decoding_is_the_softmax_of_plain_loops() {
        for (d, rows, counts) in
            [(64, 7, [150, 3]), (32, 2, [64, 1]), (128, 8, [200, 5]), (80, 3, [70, 2]), (30, 1, [9, 4])]
        {
            let round = |x: Vec<f32>| -> Vec<f32> { x.iter().map(|x| bf16::from_f32(*x).to_f32()).collect() };
            let queries = numbers(rows * d, 1);
            let keys = counts.map(|count| round(numbers(count * d, 2 + count as u64)));
            let values = counts.map(|count| round(numbers(count * d, 900 + count as u64)));
            let narrow = |x: &[Vec<f32>; 2]| {
                [0, 1].map(|i| x[i].iter().map(|x| bf16::from_f32(*x)).collect::<Vec<bf16>>())
            };
            let (narrow_keys, narrow_values) = (narrow(&keys), narrow(&values));
            let bias: Vec<f32> = (0..counts[0]).map(|i| if i % 5 == 0 { -0.7 } else { 0.2 }).collect();
            let hidden: Vec<usize> = (0..rows).map(|row| row % 3).collect();
            let visible: Vec<usize> = (0..rows).map(|row| 1 + row % counts[1]).collect();
            let scale = 1.0 / (d as f32).sqrt();
            for in_pairs in [false, true] {
                let chunk = |i: usize| {
                    let [keys, values] = if in_pairs {
                        [FloatSlice::Bf16(&narrow_keys[i]), FloatSlice::Bf16(&narrow_values[i])]
                    } else {
                        [FloatSlice::F32(&keys[i]), FloatSlice::F32(&values[i])]
                    };
                    KvSlice { keys: keys.into(), values: values.into(), bias: (i == 0).then_some(&bias[..]) }
                };
                let chunks = [chunk(0), chunk(1)];
                let input = AttentionInput {
                    queries: &queries,
                    head_dim: d,
                    scale,
                    chunks: &chunks,
                    hidden: Some(&hidden),
                    visible: Some(&visible),
                    allow_bf16: false,
                    output: true,
                    observe: Some(Observe { chunks: 1, score: None, output: true }),
                };
                let mut out = vec![f32::NAN; rows * d];
                let noted = decode_attention(&input, &mut DecodeScratch::default(), &mut out).unwrap();
                for row in 0..rows {
                    let slots = |chunk: usize, seen: std::ops::Range<usize>| {
                        let (keys, values) = (&keys[chunk], &values[chunk]);
                        let bias = &bias;
                        seen.map(move |slot| {
                            let at = slot * d..(slot + 1) * d;
                            (&keys[at.clone()], &values[at], if chunk == 0 { bias[slot] } else { 0.0 })
                        })
                    };
                    let first: Vec<_> = slots(0, hidden[row]..counts[0]).collect();
                    let all: Vec<_> = first.iter().copied().chain(slots(1, 0..visible[row])).collect();
                    let query = &queries[row * d..(row + 1) * d];
                    for (got, want) in
                        [(&out, plainly(query, &all, scale)), (&noted.output, plainly(query, &first, scale))]
                    {
                        for (got, want) in got[row * d..].iter().zip(&want) {
                            let far = (f64::from(*got) - want).abs();
                            assert!(far < FAR, "{d} numbers, {rows} rows, pairs {in_pairs}: {far:e}");
                        }
                    }
                }
            }
        }
    }
}
