//! Activations as integers.

use super::super::{GROUP, QuantFormat, Sums};

/// Numbers that meet at a time.
pub(super) const CHUNK: usize = 64;
/// Sums of four products each.
const LANES: usize = CHUNK / 4;
/// Numbers that have a scale in common, of activations.
pub(super) const SCALED: usize = 32;
/// The largest integer that stands for an activation: four of them times 255 fit 32 bits.
const LARGEST: f32 = (1 << 20) as f32;

const _: () = assert!(SCALED.is_multiple_of(GROUP));

/// Activations of one row, as many as meet at a time.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Chunk {
    /// `(high * 256 + middle) * 256 + low` is the integer.
    pub(super) high: [i8; CHUNK],
    pub(super) middle: [i8; CHUNK],
    pub(super) low: [i8; CHUNK],
    /// By lane.
    pub(super) scales: [f32; LANES],
    /// By lane: the sum of its integers times what the weight's format subtracts from every number.
    pub(super) base: [i32; LANES],
}

/// Rows of activations as integers.
pub(crate) struct Rounded {
    /// Chunks of the first row, of the next one, ...
    pub(super) chunks: Vec<Chunk>,
    /// For offsets.
    sums: Sums,
    /// Chunks of a row.
    pub(super) width: usize,
}

impl Rounded {
    /// `x`, `[tokens, columns]`, to meet weights of `kind`.
    pub(super) fn new(x: &[f32], columns: usize, kind: QuantFormat) -> Self {
        let base = base(kind);
        let chunk = |x: &[f32]| {
            let mut chunk = Chunk {
                high: [0; CHUNK],
                middle: [0; CHUNK],
                low: [0; CHUNK],
                scales: [0.0; LANES],
                base: [0; LANES],
            };
            for (part, x) in x.chunks_exact(SCALED).enumerate() {
                // What is not finite makes a scale that is not, and so a sum that is not.
                let larger = |max: f32, x: &f32| if max.is_nan() || x.abs() <= max { max } else { x.abs() };
                let largest = x.iter().fold(0f32, larger);
                let scale = largest / LARGEST;
                let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
                for (index, x) in x.iter().enumerate() {
                    let at = part * SCALED + index;
                    let mut rest = (x * inverse).round_ties_even() as i32;
                    chunk.base[at / 4] += rest * base;
                    for byte in [&mut chunk.low, &mut chunk.middle, &mut chunk.high] {
                        byte[at] = rest as i8;
                        rest = (rest - i32::from(byte[at])) >> 8;
                    }
                }
                chunk.scales[part * SCALED / 4..][..SCALED / 4].fill(scale);
            }
            chunk
        };
        Self {
            chunks: x.chunks_exact(CHUNK).map(chunk).collect(),
            sums: Sums::new(x, kind),
            width: columns / CHUNK,
        }
    }
}

/// Rows of them, from one on.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) chunks: &'a [Chunk],
    /// Of every 32 numbers; none where the format has no offsets.
    pub(super) sums: &'a [f32],
    pub(super) width: usize,
}

impl Rounded {
    pub(super) fn from(&self, row: usize) -> Rows<'_> {
        let Self { chunks, sums, width } = self;
        let of_row = sums.numbers.len() * width / chunks.len();
        Rows { chunks: &chunks[row * width..], sums: &sums.numbers[row * of_row..], width: *width }
    }
}

/// What is subtracted from every number, as an unsigned byte.
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

/// Numbers of a row must be whole steps of these; `None` for what has no such product.
pub(super) fn step(kind: QuantFormat) -> Option<usize> {
    match kind {
        QuantFormat::Q4_0 | QuantFormat::Q4_1 | QuantFormat::Q5_0 | QuantFormat::Q5_1 | QuantFormat::Q8_0 => {
            Some(CHUNK)
        }
        QuantFormat::Q4K | QuantFormat::Q5K | QuantFormat::Q6K => Some(kind.numbers()),
        QuantFormat::Q2K | QuantFormat::Q3K => None,
    }
}
