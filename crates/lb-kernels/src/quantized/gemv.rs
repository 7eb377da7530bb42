//! A few rows of activations against blocks, as in decoding: the integers of each block are read once and met with all of
//! them, scales and offsets come in by the group.

#![allow(clippy::inline_always, reason = "what is not inlined into a dispatch runs without its vectors")]

use std::marker::PhantomData;

use pulp::{Arch, Simd, WithSimd};

use super::{
    Format, GROUP, Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0, QuantFormat, QuantizedSlice,
};
use super::{UNIT, Unit, with_format};
use crate::gemv::MAX_ROWS;

/// `x`, `[tokens, columns]` with at most [`MAX_ROWS`] tokens, against rows of blocks: `out` is `[rows, tokens]`.
///
/// # Numerics
///
/// f32. A row's result is the same, to the bit, in whatever company it comes.
pub(crate) fn gemv(x: &[f32], sums: &Sums, weight: QuantizedSlice<'_>, columns: usize, out: &mut [f32]) {
    with_format!(weight.kind, each(x, sums, weight.bytes, columns, out));
}

/// Sums of the activations of every group, which offsets are multiplied with.
pub(crate) struct Sums {
    pub(super) numbers: Vec<f32>,
}

impl Sums {
    /// None where the format has no offsets.
    pub(crate) fn new(x: &[f32], kind: QuantFormat) -> Self {
        fn of<F: Format>(x: &[f32]) -> Vec<f32> {
            if F::OFFSETS { x.chunks_exact(F::GROUP).map(|x| x.iter().sum()).collect() } else { Vec::new() }
        }
        Self { numbers: with_format!(kind, of(x)) }
    }
}

fn each<F: Format>(x: &[f32], sums: &Sums, blocks: &[u8], columns: usize, out: &mut [f32]) {
    Arch::new().dispatch(Each { x, sums: &sums.numbers, blocks, columns, out, format: PhantomData::<F> });
}

struct Each<'a, F> {
    x: &'a [f32],
    sums: &'a [f32],
    blocks: &'a [u8],
    columns: usize,
    out: &'a mut [f32],
    format: PhantomData<F>,
}

impl<F: Format> WithSimd for Each<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { x, sums, blocks, columns, out, .. } = self;
        let (tokens, groups) = (x.len() / columns, columns / F::GROUP);
        let row_bytes = columns / F::NUMBERS * F::BYTES;
        let (mut unit, mut numbers) = (Unit::EMPTY, [0f32; UNIT]);
        for (row, out) in blocks.chunks_exact(row_bytes).zip(out.chunks_exact_mut(tokens)) {
            let mut lanes = [[simd.splat_f32s(0.0); 2]; MAX_ROWS];
            let mut rest = [0f32; MAX_ROWS];
            for (index, bytes) in row.chunks(F::UNIT_BYTES).enumerate() {
                let len = unit.read::<F>(bytes);
                unit.widen::<F>(&mut numbers);
                for (token, (lanes, rest)) in lanes.iter_mut().zip(&mut rest).take(tokens).enumerate() {
                    let x = &x[token * columns + index * UNIT..][..len];
                    add_groups::<S, F>(simd, &numbers, &unit.scales, x, lanes);
                    if F::OFFSETS {
                        let sums = &sums[token * groups + index * (UNIT / F::GROUP)..][..len / F::GROUP];
                        *rest += unit.offsets.iter().zip(sums).map(|(a, b)| a * b).sum::<f32>();
                    }
                }
            }
            for (out, ([a, b], rest)) in out.iter_mut().zip(lanes.into_iter().zip(rest)) {
                *out = simd.reduce_sum_f32s(simd.add_f32s(a, b)) + rest;
            }
        }
    }
}

/// Adds each group's products, scaled, to two sums in turn.
#[inline(always)]
fn add_groups<S: Simd, F: Format>(
    simd: S,
    numbers: &[f32],
    scales: &[f32],
    x: &[f32],
    sums: &mut [S::f32s; 2],
) {
    let groups = x.chunks_exact(F::GROUP).zip(numbers.chunks_exact(F::GROUP));
    for (index, ((x, numbers), scale)) in groups.zip(scales).enumerate() {
        let (x, numbers) = (S::as_simd_f32s(x).0, S::as_simd_f32s(numbers).0);
        let mut sum = simd.splat_f32s(0.0);
        for (x, number) in x.iter().zip(numbers) {
            sum = simd.mul_add_e_f32s(*x, *number, sum);
        }
        let to = &mut sums[index % 2];
        *to = simd.mul_add_e_f32s(sum, simd.splat_f32s(*scale), *to);
    }
}

const _: () = assert!(UNIT.is_multiple_of(GROUP));
