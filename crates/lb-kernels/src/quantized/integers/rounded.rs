//! Activations as integers, in the order in which blocks hold their weights.

#![allow(
    clippy::inline_always,
    reason = "what is not inlined into a function with vectors runs without them"
)]

use super::super::{GROUP, QuantFormat};

/// Bytes of a vector.
pub(super) const VECTOR: usize = 64;
/// Sums of a vector.
pub(super) const LANES: usize = 16;
/// Numbers of two vectors.
pub(super) const STEP: usize = 2 * VECTOR;
/// Bytes between what is unpacked of a weight and what is asked for.
#[cfg(target_arch = "x86_64")]
pub(super) const AHEAD: usize = 4096;
/// At least those of any unit.
pub(super) const MOST_BYTES: usize = 256;
/// Numbers that have a scale in common, of activations.
const SCALED: usize = 32;

const _: () = assert!(SCALED.is_multiple_of(GROUP));

/// Activations that meet two vectors of weights. A lane's weights have one scale in both vectors, so that their products
/// become one sum.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Step {
    /// `(digits[0] * radix + digits[1]) * radix + digits[2]` is the integer, of the [`radix`].
    pub(super) digits: [[[i8; VECTOR]; 2]; 3],
    /// By lane: the sum of its integers times what the weight's format subtracts from every number. Where weights are
    /// signed it is subtracted from them.
    #[cfg(target_arch = "x86_64")]
    pub(super) base: [i32; LANES],
}

/// What scales and offsets of the weights of a unit are multiplied with, in the order in which they are unpacked.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Factors(pub(super) [f32; LANES]);

/// Rows of activations as integers.
pub(crate) struct Rounded {
    /// Of the first row, of the next one, ...
    pub(super) steps: Vec<Step>,
    /// Of every unit.
    pub(super) factors: Vec<Factors>,
    /// Units of a row.
    pub(super) units: usize,
    /// Rows.
    pub(super) tokens: usize,
}

impl Rounded {
    /// `x`, `[tokens, columns]`, to meet weights of `kind`. Zeros fill up the last unit of a row.
    #[inline(always)]
    pub(super) fn new(x: &[f32], columns: usize, kind: QuantFormat) -> Self {
        let unit = unit(kind);
        let units = columns.div_ceil(unit);
        let tokens = x.len() / columns;
        let mut rounded = Self {
            steps: Vec::with_capacity(tokens * units * unit / STEP),
            factors: Vec::with_capacity(tokens * units),
            units,
            tokens,
        };
        let mut padded = [0f32; 2 * STEP];
        for row in x.chunks_exact(columns) {
            for numbers in row.chunks(unit) {
                if numbers.len() == unit {
                    rounded.push(numbers, kind);
                } else {
                    padded[..numbers.len()].copy_from_slice(numbers);
                    padded[numbers.len()..].fill(0.0);
                    rounded.push(&padded[..unit], kind);
                }
            }
        }
        rounded
    }

    /// Adds a unit.
    #[inline(always)]
    fn push(&mut self, x: &[f32], kind: QuantFormat) {
        let (bits, most) = radix(kind);
        let (mut scales, mut sums) = ([0f32; 8], [0f32; 8]);
        let mut integers = [0i32; 2 * STEP];
        let groups = x.as_chunks::<SCALED>().0.iter().zip(integers.as_chunks_mut::<SCALED>().0);
        for (group, (x, integers)) in groups.enumerate() {
            // What is not finite makes a scale that is not, and so a sum that is not: no number has larger bits.
            let mut largest = 0;
            for x in x {
                largest = largest.max(x.to_bits() & 0x7fff_ffff);
            }
            scales[group] = f32::from_bits(largest) / most as f32;
            sums[group] = sum(x);
            if scales[group].is_finite() && scales[group] >= f32::MIN_POSITIVE {
                let inverse = 1.0 / scales[group];
                for (integer, x) in integers.iter_mut().zip(x) {
                    *integer = to_integer(x * inverse);
                }
            }
        }
        self.factors.push(factors(&scales, &sums, kind));
        #[cfg(target_arch = "x86_64")]
        let base = base(kind);
        for index in 0..x.len() / STEP {
            let mut step = Step {
                digits: [[[0; VECTOR]; 2]; 3],
                #[cfg(target_arch = "x86_64")]
                base: [0; LANES],
            };
            let [high, middle, low] = &mut step.digits;
            for vector in 0..2 {
                let mut ordered = [0i32; VECTOR];
                for (piece, ordered) in ordered.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                    let from = 8 * place(kind, index, vector, piece);
                    ordered.copy_from_slice(&integers[from..from + 8]);
                }
                let digits = high[vector].iter_mut().zip(&mut middle[vector]).zip(&mut low[vector]);
                for (((high, middle), low), integer) in digits.zip(&ordered) {
                    // What is left without the lowest digit, rounded, and again: digits are signed.
                    let above = (integer + (1 << (bits - 1))) >> bits;
                    let first = (above + (1 << (bits - 1))) >> bits;
                    *low = (integer - (above << bits)) as i8;
                    *middle = (above - (first << bits)) as i8;
                    *high = first as i8;
                }
                #[cfg(target_arch = "x86_64")]
                for (sum, four) in step.base.iter_mut().zip(ordered.as_chunks::<4>().0) {
                    *sum += base * four.iter().sum::<i32>();
                }
            }
            self.steps.push(step);
        }
    }

    /// From a row on.
    pub(super) fn from(&self, row: usize) -> Rows<'_> {
        let of_row = self.steps.len() / self.tokens;
        Rows {
            steps: &self.steps[row * of_row..],
            factors: &self.factors[row * self.units..],
            units: self.units,
        }
    }
}

/// Rows of them, from one on.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) steps: &'a [Step],
    pub(super) factors: &'a [Factors],
    pub(super) units: usize,
}

/// Numbers whose scales are unpacked at a time: a large block, or four small ones.
pub(super) fn unit(kind: QuantFormat) -> usize {
    match kind {
        QuantFormat::Q4K | QuantFormat::Q5K | QuantFormat::Q6K => 2 * STEP,
        _ => STEP,
    }
}

/// The nearest integer, of at most 2^22, as a sum rounds: a conversion that looks after all floats is no vector instruction.
#[inline(always)]
fn to_integer(x: f32) -> i32 {
    const ROUND: f32 = 3.0 * (1 << 22) as f32;
    (x + ROUND).to_bits().wrapping_sub(ROUND.to_bits()).cast_signed()
}

/// Eight sums side by side, then of them.
#[inline(always)]
fn sum(x: &[f32; SCALED]) -> f32 {
    let mut sums = [0f32; 8];
    for x in x.as_chunks::<8>().0 {
        sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += x);
    }
    sums.iter().sum()
}

/// Which eight numbers of a unit are met by eight bytes of a vector of a step: vectors are made of 16 bytes of one group, as
/// blocks have them.
#[inline(always)]
fn place(kind: QuantFormat, step: usize, vector: usize, piece: usize) -> usize {
    let (group, half) = (piece / 2, piece % 2);
    match kind {
        // Low nibbles are numbers of even groups, high ones of odd groups.
        QuantFormat::Q4K | QuantFormat::Q5K => 4 * (2 * group + step) + 2 * vector + half,
        // Groups are of 16: eight numbers of one in the first half of the block, and eight of one in the second.
        QuantFormat::Q6K => 2 * (group + 4 * step + 8 * half) + vector,
        _ => 4 * group + 2 * vector + half,
    }
}

/// Of a unit, from scales and sums of its groups.
fn factors(scales: &[f32; 8], sums: &[f32; 8], kind: QuantFormat) -> Factors {
    let mut factors = [0f32; LANES];
    for group in 0..8 {
        let (scale, sum) = (scales[group], sums[group]);
        match kind {
            // NEON: scales of even groups, of odd groups, then minima; a minimum is subtracted.
            QuantFormat::Q4K | QuantFormat::Q5K if cfg!(target_arch = "aarch64") => {
                factors[group % 2 * 4 + group / 2] = scale;
                factors[8 + group] = -sum;
            }
            // Scales, then offsets.
            QuantFormat::Q4_1 | QuantFormat::Q5_1 if cfg!(target_arch = "aarch64") => {
                factors[group] = scale;
                factors[8 + group] = sum;
            }
            // Scales and minima come in fours.
            QuantFormat::Q4K | QuantFormat::Q5K => {
                let at = group % 4 + group / 4 * 8;
                factors[at] = scale;
                factors[at + 4] = -sum;
            }
            // Of groups of 16: of the first half of the block and of the second in turn.
            QuantFormat::Q6K => {
                for group in [2 * group, 2 * group + 1] {
                    factors[group % 8 * 2 + group / 8] = scale;
                }
            }
            QuantFormat::Q4_1 | QuantFormat::Q5_1 => {
                factors[2 * group] = scale;
                factors[2 * group + 1] = sum;
            }
            _ => factors[group] = scale,
        }
    }
    Factors(factors)
}

/// Bits of a digit of an activation, and the largest integer that stands for one: eight of them times the largest weight fit
/// 32 bits, and four digits, for eight bits two, fit 16.
#[inline(always)]
fn radix(kind: QuantFormat) -> (u32, i32) {
    const {
        assert!(8 * 63 * (1 << 22) <= i32::MAX as i64 && 4 * 63 * 128 <= i16::MAX as i32);
        assert!(8 * 255 * (1 << 20) <= i32::MAX as i64 && 2 * 255 * 64 <= i16::MAX as i32);
    }
    match kind {
        QuantFormat::Q8_0 => (7, 1 << 20),
        _ => (8, 1 << 22),
    }
}

/// What is subtracted from every number, as an unsigned byte.
#[cfg(target_arch = "x86_64")]
fn base(kind: QuantFormat) -> i32 {
    match kind {
        QuantFormat::Q4_0 => 8,
        QuantFormat::Q5_0 => 16,
        QuantFormat::Q6K => 32,
        // Signed bytes.
        QuantFormat::Q8_0 => 128,
        _ => 0,
    }
}

/// Whether there is such a product.
pub(super) fn has(kind: QuantFormat) -> bool {
    !matches!(kind, QuantFormat::Q2K | QuantFormat::Q3K)
}
