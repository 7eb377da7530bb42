//! Products of a few rows of activations, as in decoding: each row of the weight is read once and met with all of them.

#![allow(clippy::inline_always, reason = "what is not inlined into a dispatch runs without its vectors")]

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::float_slice::FloatSlice;
use super::microkernel_bf16::{Bf16Microkernel, split_bf16};
use super::quantized::{self, Integers, QuantizedSlice, Sums};
use super::weight::Weight;

/// With more rows of activations than this, products by panels are faster.
pub(crate) const MAX_ROWS: usize = 6;
/// The same for blocks in integers, whose unpacking costs less than widening all of them.
const MAX_ROWS_OF_BLOCKS: usize = 32;
/// Numbers of the weight that one thread takes at a time.
const PIECE: usize = 1 << 17;
/// Numbers widened at a time: small enough to stay in the first cache.
const BLOCK: usize = 512;

/// Whether so many rows of activations are better met one by one.
pub(crate) fn is_for(tokens: usize, weight: Weight<'_>) -> bool {
    let in_integers = |of: QuantizedSlice<'_>| Integers::detect(of.kind()).is_some();
    let most = match weight {
        Weight::Quantized(weight) if in_integers(weight) => MAX_ROWS_OF_BLOCKS,
        _ => MAX_ROWS,
    };
    tokens <= most
}

/// As [`gemm`](super::gemm), every row of `x` for itself.
///
/// # Numerics
///
/// f32: 16-bit weights are widened exactly, or meet `x` in three bf16 parts where the machine multiplies bf16; the integers
/// of blocks are exact as well.
pub(crate) fn gemv(x: &[f32], weight: Weight<'_>, columns: usize, out: &mut [f32]) {
    let tokens = x.len() / columns;
    match weight {
        Weight::Quantized(weight) => {
            if let Some(integers) = Integers::detect(weight.kind()) {
                let x = integers.round(x, columns, weight.kind());
                return by_rows(weight.len(), columns, tokens, out, |first, out| {
                    let weight = weight.range(first * columns, out.len() / tokens * columns);
                    integers.gemv(&x, weight, columns, out);
                });
            }
            let sums = Sums::new(x, weight.kind());
            by_rows(weight.len(), columns, tokens, out, |first, out| {
                let weight = weight.range(first * columns, out.len() / tokens * columns);
                quantized::gemv(x, &sums, weight, columns, out);
            });
        }
        Weight::Dense(weight) => {
            let bf16 = Bf16Microkernel::detect().filter(|_| matches!(weight, FloatSlice::Bf16(_)));
            let parts: Vec<[Vec<u16>; 3]> =
                if bf16.is_some() { x.chunks_exact(columns).map(split_bf16).collect() } else { Vec::new() };
            by_rows(weight.len(), columns, tokens, out, |first, out| {
                let weight = weight.range(first * columns, out.len() / tokens * columns);
                match bf16 {
                    Some(bf16) => by_parts(bf16, weight.bits(), &parts, columns, out),
                    None => Arch::new().dispatch(Each { weight, x, columns, tokens, out }),
                }
            });
        }
    }
}

/// `fill` gets the sums of some rows of a weight of `numbers` numbers, `[rows, tokens]`, and which the first row is; `out`
/// is `[tokens, rows]`.
fn by_rows(
    numbers: usize,
    columns: usize,
    tokens: usize,
    out: &mut [f32],
    fill: impl Fn(usize, &mut [f32]) + Sync,
) {
    let piece = PIECE.div_ceil(columns) * tokens;
    if tokens == 1 {
        out.par_chunks_mut(piece).enumerate().for_each(|(index, out)| fill(index * piece, out));
        return;
    }
    let rows = numbers / columns;
    let mut by_row = vec![0f32; rows * tokens];
    by_row.par_chunks_mut(piece).enumerate().for_each(|(index, out)| fill(index * piece / tokens, out));
    for (row, values) in by_row.chunks_exact(tokens).enumerate() {
        for (token, value) in values.iter().enumerate() {
            out[token * rows + row] = *value;
        }
    }
}

/// Rows of bf16 against activations in three parts.
fn by_parts(bf16: Bf16Microkernel, weight: &[u16], parts: &[[Vec<u16>; 3]], columns: usize, out: &mut [f32]) {
    for (row, sums) in weight.chunks_exact(columns).zip(out.chunks_exact_mut(parts.len())) {
        for (sum, [high, middle, low]) in sums.iter_mut().zip(parts) {
            *sum = bf16.dot(row, &[high, middle, low]);
        }
    }
}

/// `out[row * tokens + token]` is the dot product of a row and a token.
struct Each<'a> {
    weight: FloatSlice<'a>,
    x: &'a [f32],
    columns: usize,
    tokens: usize,
    out: &'a mut [f32],
}

impl WithSimd for Each<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { weight, x, columns, tokens, out } = self;
        if let FloatSlice::F32(weight) = weight {
            for (sums, row) in out.chunks_exact_mut(tokens).zip(weight.chunks_exact(columns)) {
                for (sum, x) in sums.iter_mut().zip(x.chunks_exact(columns)) {
                    *sum = dot(simd, row, x);
                }
            }
            return;
        }
        let mut wide = [0f32; BLOCK];
        for (row, sums) in out.chunks_exact_mut(tokens).enumerate() {
            sums.fill(0.0);
            for start in (0..columns).step_by(BLOCK) {
                let len = BLOCK.min(columns - start);
                weight.range(row * columns + start, len).to_f32(&mut wide[..len]);
                for (token, sum) in sums.iter_mut().enumerate() {
                    *sum += dot(simd, &wide[..len], &x[token * columns + start..][..len]);
                }
            }
        }
    }
}

/// Four sums at a time, so that one addition need not wait for the last.
#[inline(always)]
pub(crate) fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let (a_vectors, a_rest) = S::as_simd_f32s(a);
    let (b_vectors, b_rest) = S::as_simd_f32s(b);
    let mut sums = [simd.splat_f32s(0.0); 4];
    let (a_fours, a_last) = pulp::as_arrays::<4, _>(a_vectors);
    let (b_fours, b_last) = pulp::as_arrays::<4, _>(b_vectors);
    for (a, b) in a_fours.iter().zip(b_fours) {
        for lane in 0..4 {
            sums[lane] = simd.mul_add_e_f32s(a[lane], b[lane], sums[lane]);
        }
    }
    for (a, b) in a_last.iter().zip(b_last) {
        sums[0] = simd.mul_add_e_f32s(*a, *b, sums[0]);
    }
    let sum = simd.add_f32s(simd.add_f32s(sums[0], sums[1]), simd.add_f32s(sums[2], sums[3]));
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    simd.reduce_sum_f32s(sum) + rest
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::{MAX_ROWS, gemv};
    use crate::{FloatSlice, QuantFormat, QuantizedSlice, Weight};

    /// A row of activations alone is the same, to the bit, as among others.
    #[test]
    fn company_changes_nothing() {
        let (rows, odd, even) = (300, 515, 544);
        let weight: Vec<f32> = (0..rows * odd).map(|i| (i as f32 * 0.3).cos()).collect();
        let narrow: Vec<bf16> = weight.iter().map(|w| bf16::from_f32(*w)).collect();
        let bytes: Vec<u8> = (0..rows * even / 32 * 24).map(|i| (i % 59) as u8).collect();
        let blocks = QuantizedSlice::new(QuantFormat::Q5_1, &bytes).unwrap();
        let dense = [FloatSlice::F32(&weight), FloatSlice::Bf16(&narrow)].map(|weight| (weight.into(), odd));
        for (weight, columns) in dense.into_iter().chain([(Weight::Quantized(blocks), even)]) {
            let x: Vec<f32> = (0..MAX_ROWS * columns).map(|i| (i as f32 * 0.7).sin()).collect();
            let mut together = vec![0.0; MAX_ROWS * rows];
            gemv(&x, weight, columns, &mut together);
            for (x, together) in x.chunks_exact(columns).zip(together.chunks_exact(rows)) {
                let mut alone = vec![0.0; rows];
                gemv(x, weight, columns, &mut alone);
                assert_eq!(alone, together);
            }
        }
    }
}
