//! From codes to numbers, in the widest vectors of the machine.

use half::f16;
use pulp::Arch;

use super::{GROUP, Grids, Shape};
use crate::convert::finite_f16;

/// Channels whose grids are widened to f32 at a time.
const BLOCK: usize = 64;

/// Rows of one head.
#[derive(Clone, Copy, Debug)]
pub struct PackedSlice<'a> {
    pub(super) shape: Shape,
    /// Of the head from its first row on, as groups begin there.
    pub(super) codes: &'a [u8],
    pub(super) grid: &'a [f16],
    pub(super) from: usize,
    pub(super) len: usize,
}

impl<'a> PackedSlice<'a> {
    /// How many rows.
    pub fn rows(&self) -> usize {
        self.len
    }

    /// `len` rows from `start` on.
    #[must_use]
    pub fn range(&self, start: usize, len: usize) -> Self {
        assert!(start + len <= self.len, "rows {start}..{} of {}", start + len, self.len);
        Self { from: self.from + start, len, ..*self }
    }

    /// The codes in memory.
    pub(crate) fn bytes(&self) -> &'a [u8] {
        let line = self.shape.line();
        &self.codes[self.from * line..(self.from + self.len) * line]
    }

    /// Writes the numbers to as many places: zero + step · code, in f32.
    pub fn to_f32(&self, to: &mut [f32]) {
        match self.shape.grids {
            Grids::PerChannel => Arch::new().dispatch(|| self.unpack_by_channel(to)),
            Grids::PerRow => Arch::new().dispatch(|| self.unpack_by_row(to)),
        }
    }

    #[inline(always)]
    #[allow(clippy::inline_always, reason = "what is not inlined into a dispatch runs without its vectors")]
    fn unpack_by_channel(&self, to: &mut [f32]) {
        let Shape { bits, width, .. } = self.shape;
        let (line, top, end) = (self.shape.line(), bits.top(), self.from + self.len);
        let mut row = self.from;
        while row < end {
            let group = row / GROUP;
            let stop = end.min((group + 1) * GROUP);
            let (zeros, steps) = self.grid[group * 2 * width..(group + 1) * 2 * width].split_at(width);
            for part in 0..bits.per_byte() {
                let ((first, count), shift) = (self.shape.part(part), part * bits.count());
                for at in (0..count).step_by(BLOCK) {
                    let channels = BLOCK.min(count - at);
                    let (mut zero, mut step) = ([0f32; BLOCK], [0f32; BLOCK]);
                    widen(&zeros[first + at..][..channels], &mut zero);
                    widen(&steps[first + at..][..channels], &mut step);
                    for row in row..stop {
                        let codes = &self.codes[row * line + at..][..channels];
                        let to = &mut to[(row - self.from) * width + first + at..][..channels];
                        for (((to, byte), zero), step) in to.iter_mut().zip(codes).zip(&zero).zip(&step) {
                            *to = zero + step * f32::from(byte >> shift & top);
                        }
                    }
                }
            }
            row = stop;
        }
    }

    #[inline(always)]
    #[allow(clippy::inline_always, reason = "what is not inlined into a dispatch runs without its vectors")]
    fn unpack_by_row(&self, to: &mut [f32]) {
        let Shape { bits, width, .. } = self.shape;
        let (line, top, entries) = (self.shape.line(), bits.top(), self.shape.entries());
        let grids = self.grid[self.from * 2 * entries..].chunks_exact(2 * entries);
        let lines = self.bytes().chunks_exact(line);
        for ((to, codes), grid) in to.chunks_exact_mut(width).zip(lines).zip(grids) {
            for part in 0..bits.per_byte() {
                let ((first, count), shift) = (self.shape.part(part), part * bits.count());
                let mut channel = first;
                while channel < first + count {
                    let entry = channel / GROUP;
                    let stop = (first + count).min((entry + 1) * GROUP);
                    let zero = finite_f16(grid[entry].to_bits());
                    let step = finite_f16(grid[entries + entry].to_bits());
                    let codes = &codes[channel - first..stop - first];
                    for (to, byte) in to[channel..stop].iter_mut().zip(codes) {
                        *to = zero + step * f32::from(byte >> shift & top);
                    }
                    channel = stop;
                }
            }
        }
    }
}

#[inline(always)]
#[allow(clippy::inline_always, reason = "part of loops in vectors")]
fn widen(from: &[f16], to: &mut [f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = finite_f16(from.to_bits());
    }
}
