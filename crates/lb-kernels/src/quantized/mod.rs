//! Numbers in blocks, as GGUF files pack weights: a few bits each, with a scale for every 16 or 32 of them.
//!
//! A number is `n * scale + offset`, where `n` is a small integer and the others belong to its group. Products never
//! round the activations: a few rows of them meet the integers themselves (`gemv.rs`), for many rows the numbers are
//! widened block by block (`gemm.rs`). The bytes are read where they lie, in the file's own pages if need be.

#![allow(clippy::inline_always, reason = "what is not inlined into a dispatch runs without its vectors")]

mod gemv;
mod integers;
mod k_quants;
mod legacy_quants;
#[cfg(test)]
mod tests;

use std::marker::PhantomData;

use pulp::{Arch, Simd, WithSimd};

use crate::microkernel_bf16::Bf16Microkernel;

pub(crate) use gemv::{Sums, gemv};
pub(crate) use integers::Integers;
use k_quants::{Q2K, Q3K, Q4K, Q5K, Q6K};
use legacy_quants::{Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};

/// How numbers are packed; names are those of ggml.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "names of formats")]
pub enum QuantFormat {
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
}

/// Calls a function of a format for a kind.
macro_rules! with_format {
    ($kind:expr, $call:ident ( $($arg:expr),* )) => {
        match $kind {
            QuantFormat::Q4_0 => $call::<Q4_0>($($arg),*),
            QuantFormat::Q4_1 => $call::<Q4_1>($($arg),*),
            QuantFormat::Q5_0 => $call::<Q5_0>($($arg),*),
            QuantFormat::Q5_1 => $call::<Q5_1>($($arg),*),
            QuantFormat::Q8_0 => $call::<Q8_0>($($arg),*),
            QuantFormat::Q2K => $call::<Q2K>($($arg),*),
            QuantFormat::Q3K => $call::<Q3K>($($arg),*),
            QuantFormat::Q4K => $call::<Q4K>($($arg),*),
            QuantFormat::Q5K => $call::<Q5K>($($arg),*),
            QuantFormat::Q6K => $call::<Q6K>($($arg),*),
        }
    };
}
use with_format;

/// Numbers that are unpacked at a time: one large block, or several small ones.
const UNIT: usize = 256;
/// The smallest group.
const GROUP: usize = 16;

/// One way of packing.
trait Format {
    /// Of a block.
    const BYTES: usize;
    /// Of a block; divides [`UNIT`].
    const NUMBERS: usize;
    /// Numbers that have scale and offset in common.
    const GROUP: usize;
    /// Whether there are offsets.
    const OFFSETS: bool;
    /// What is subtracted from every integer.
    const BASE: f32;
    /// Of a [`Unit`].
    const UNIT_BYTES: usize = UNIT / Self::NUMBERS * Self::BYTES;

    /// Takes a block of [`BYTES`](Self::BYTES) apart. Offsets that a format does not have are left alone.
    fn read(block: &[u8], numbers: &mut [Eight], scales: &mut [f32], offsets: &mut [f32]);
}

/// Eight integers, the first in the lowest byte: shifts and masks of words do for bytes what the compiler's vectors do
/// not.
type Eight = u64;

/// A mask or a number for each of eight bytes.
#[inline(always)]
const fn each_byte(byte: u8) -> Eight {
    Eight::from_ne_bytes([byte; 8])
}

/// The bytes, eight at a time.
#[inline(always)]
fn eights(bytes: &[u8]) -> impl Iterator<Item = Eight> {
    bytes.as_chunks::<8>().0.iter().map(|eight| Eight::from_le_bytes(*eight))
}

/// Some blocks of one row, taken apart.
struct Unit {
    small: [Eight; UNIT / 8],
    scales: [f32; UNIT / GROUP],
    offsets: [f32; UNIT / GROUP],
}

impl Unit {
    const EMPTY: Self =
        Self { small: [0; UNIT / 8], scales: [0.0; UNIT / GROUP], offsets: [0.0; UNIT / GROUP] };

    /// Reads whole blocks, at most a unit; returns how many numbers they are.
    #[inline(always)]
    fn read<F: Format>(&mut self, blocks: &[u8]) -> usize {
        let groups = F::NUMBERS / F::GROUP;
        let parts = self
            .small
            .chunks_exact_mut(F::NUMBERS / 8)
            .zip(self.scales.chunks_exact_mut(groups).zip(self.offsets.chunks_exact_mut(groups)));
        for (block, (numbers, (scales, offsets))) in blocks.chunks_exact(F::BYTES).zip(parts) {
            F::read(block, numbers, scales, offsets);
        }
        for eight in &mut self.small {
            *eight = eight.to_le();
        }
        blocks.len() / F::BYTES * F::NUMBERS
    }

    /// The integers that were read, less [`Format::BASE`]. A loop over all of them: what is unrolled over a group alone
    /// becomes scalar code.
    #[inline(always)]
    fn widen<F: Format>(&self, to: &mut [f32; UNIT]) {
        let small: &[i8] = bytemuck::cast_slice(&self.small);
        for (wide, small) in to.iter_mut().zip(small) {
            *wide = f32::from(*small) - F::BASE;
        }
    }
}

/// Numbers in whole blocks.
#[derive(Clone, Copy, Debug)]
pub struct QuantizedSlice<'a> {
    kind: QuantFormat,
    bytes: &'a [u8],
}

impl QuantFormat {
    /// Numbers of a block.
    #[must_use]
    pub fn numbers(self) -> usize {
        fn numbers<F: Format>() -> usize {
            F::NUMBERS
        }
        with_format!(self, numbers())
    }

    /// Bytes of a block.
    #[must_use]
    pub fn bytes(self) -> usize {
        fn bytes<F: Format>() -> usize {
            F::BYTES
        }
        with_format!(self, bytes())
    }
}

impl<'a> QuantizedSlice<'a> {
    /// `None` where the bytes are no whole number of blocks.
    #[must_use]
    pub fn new(kind: QuantFormat, bytes: &'a [u8]) -> Option<Self> {
        bytes.len().is_multiple_of(kind.bytes()).then_some(Self { kind, bytes })
    }

    /// How many numbers.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.kind.bytes() * self.kind.numbers()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn kind(&self) -> QuantFormat {
        self.kind
    }

    /// `len` numbers from `start` on; both must be whole blocks.
    pub(crate) fn range(&self, start: usize, len: usize) -> Self {
        let (numbers, bytes) = (self.kind.numbers(), self.kind.bytes());
        debug_assert!(start.is_multiple_of(numbers) && len.is_multiple_of(numbers));
        let (start, end) = (start / numbers * bytes, (start + len) / numbers * bytes);
        Self { kind: self.kind, bytes: &self.bytes[start..end] }
    }

    /// Writes the numbers to as many places.
    ///
    /// # Numerics
    ///
    /// A product and a sum in f32.
    pub fn to_f32(&self, to: &mut [f32]) {
        with_format!(self.kind, widen(self.bytes, to));
    }
}

impl QuantizedSlice<'_> {
    /// Writes the numbers, rounded to the nearest bf16, to as many places.
    pub(crate) fn to_bf16(self, bf16: Bf16Microkernel, to: &mut [u16]) {
        with_format!(self.kind, narrow(self.bytes, bf16, to));
    }
}

fn narrow<F: Format>(bytes: &[u8], bf16: Bf16Microkernel, to: &mut [u16]) {
    Arch::new().dispatch(Narrow { bytes, bf16, to, format: PhantomData::<F> });
}

/// Like [`Widen`], rounded on the way: no f32 number is written anywhere.
struct Narrow<'a, F> {
    bytes: &'a [u8],
    bf16: Bf16Microkernel,
    to: &'a mut [u16],
    format: PhantomData<F>,
}

impl<F: Format> WithSimd for Narrow<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { bytes, bf16, to, .. } = self;
        let mut unit = Unit::EMPTY;
        for (bytes, to) in bytes.chunks(F::UNIT_BYTES).zip(to.chunks_mut(UNIT)) {
            unit.read::<F>(bytes);
            // What is subtracted from every number becomes part of its group's offset.
            for (offset, scale) in unit.offsets.iter_mut().zip(&unit.scales) {
                let own = if F::OFFSETS { *offset } else { 0.0 };
                *offset = own - F::BASE * scale;
            }
            let small: &[i8; UNIT] = bytemuck::cast_ref(&unit.small);
            match F::GROUP {
                16 => bf16.scaled::<16>(small, &unit.scales, &unit.offsets, to),
                _ => bf16.scaled::<32>(small, &unit.scales, &unit.offsets, to),
            }
        }
    }
}

fn widen<F: Format>(bytes: &[u8], to: &mut [f32]) {
    Arch::new().dispatch(Widen { bytes, to, format: PhantomData::<F> });
}

/// A type of its own, since a closure of this size would not be inlined into a dispatch.
struct Widen<'a, F> {
    bytes: &'a [u8],
    to: &'a mut [f32],
    format: PhantomData<F>,
}

impl<F: Format> WithSimd for Widen<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { bytes, to, .. } = self;
        let (mut unit, mut numbers) = (Unit::EMPTY, [0f32; UNIT]);
        for (bytes, to) in bytes.chunks(F::UNIT_BYTES).zip(to.chunks_mut(UNIT)) {
            unit.read::<F>(bytes);
            unit.widen::<F>(&mut numbers);
            let groups = numbers.chunks_exact(F::GROUP).zip(unit.scales.iter().zip(&unit.offsets));
            for (to, (numbers, (scale, offset))) in to.chunks_exact_mut(F::GROUP).zip(groups) {
                let (scale, offset) = (simd.splat_f32s(*scale), simd.splat_f32s(*offset));
                let (to, numbers) = (S::as_mut_simd_f32s(to).0, S::as_simd_f32s(numbers).0);
                for (to, number) in to.iter_mut().zip(numbers) {
                    let scaled = simd.mul_f32s(*number, scale);
                    *to = if F::OFFSETS { simd.add_f32s(scaled, offset) } else { scaled };
                }
            }
        }
    }
}

/// An f16 of a file, lowest byte first; finite.
#[inline(always)]
fn half(bytes: &[u8]) -> f32 {
    super::convert::finite_f16(u16::from_le_bytes([bytes[0], bytes[1]]))
}
