//! Dot products of weight rows with f32 activations, in the widest vectors of the machine (by `pulp`).

#![allow(clippy::inline_always, reason = "what is not inlined into a dispatch runs without its vectors")]

use pulp::{Arch, Simd, WithSimd};

/// Numbers widened at a time: small enough to stay in the first-level cache.
const BLOCK: usize = 512;

/// How 16 bits become an f32.
pub(super) trait Widen {
    fn widen<S: Simd>(from: &[u16], to: &mut [f32]);
}

pub(super) struct Bf16;
pub(super) struct F16;

impl Widen for Bf16 {
    #[inline(always)]
    fn widen<S: Simd>(from: &[u16], to: &mut [f32]) {
        for (bits, wide) in from.iter().zip(to) {
            *wide = f32::from_bits(u32::from(*bits) << 16);
        }
    }
}

impl Widen for F16 {
    /// Exponent and fraction moved to their places, and the bias of the exponent made good by a product, which is exact
    /// for subnormal numbers as well. Infinities and NaN were refused when the weights were read.
    #[inline(always)]
    fn widen<S: Simd>(from: &[u16], to: &mut [f32]) {
        let scale = f32::from_bits((127 + 112) << 23);
        for (bits, wide) in from.iter().zip(to) {
            let bits = u32::from(*bits);
            let size = f32::from_bits((bits & 0x7FFF) << 13) * scale;
            *wide = f32::from_bits(size.to_bits() | (bits & 0x8000) << 16);
        }
    }
}

/// 16 bits to f32.
pub(super) fn widen<W: Widen>(from: &[u16], to: &mut [f32]) {
    Arch::new().dispatch(Copy::<W> { from, to, kind: std::marker::PhantomData });
}

struct Copy<'a, W> {
    from: &'a [u16],
    to: &'a mut [f32],
    kind: std::marker::PhantomData<W>,
}

impl<W: Widen> WithSimd for Copy<'_, W> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        W::widen::<S>(self.from, self.to);
    }
}

/// `out[row * tokens + token] = Σ weights[row][k] x[token][k]` for as many rows as `out` has room for.
pub(super) fn dots<W: Widen>(weights: &[u16], x: &[f32], columns: usize, tokens: usize, out: &mut [f32]) {
    Arch::new().dispatch(Dots::<W> { weights, x, columns, tokens, out, kind: std::marker::PhantomData });
}

/// The same for f32 weights.
pub(super) fn dots_f32(weights: &[f32], x: &[f32], columns: usize, tokens: usize, out: &mut [f32]) {
    Arch::new().dispatch(DotsF32 { weights, x, columns, tokens, out });
}

struct DotsF32<'a> {
    weights: &'a [f32],
    x: &'a [f32],
    columns: usize,
    tokens: usize,
    out: &'a mut [f32],
}

impl WithSimd for DotsF32<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let rows = self.weights.chunks_exact(self.columns);
        for (sums, row) in self.out.chunks_exact_mut(self.tokens).zip(rows) {
            for (sum, x) in sums.iter_mut().zip(self.x.chunks_exact(self.columns)) {
                *sum = dot(simd, row, x);
            }
        }
    }
}

struct Dots<'a, W> {
    weights: &'a [u16],
    x: &'a [f32],
    columns: usize,
    tokens: usize,
    out: &'a mut [f32],
    kind: std::marker::PhantomData<W>,
}

impl<W: Widen> WithSimd for Dots<'_, W> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let mut wide = [0f32; BLOCK];
        for (sums, row) in self.out.chunks_exact_mut(self.tokens).zip(self.weights.chunks_exact(self.columns))
        {
            sums.fill(0.0);
            for (index, part) in row.chunks(BLOCK).enumerate() {
                let wide = &mut wide[..part.len()];
                W::widen::<S>(part, wide);
                for (token, sum) in sums.iter_mut().enumerate() {
                    let start = token * self.columns + index * BLOCK;
                    *sum += dot(simd, wide, &self.x[start..start + part.len()]);
                }
            }
        }
    }
}

/// Four sums at a time, so that one addition need not wait for the last.
#[inline(always)]
fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
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
