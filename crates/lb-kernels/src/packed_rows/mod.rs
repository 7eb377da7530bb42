//! Keys and values in 8, 4 or 2 bits: codes on grids of evenly spaced levels, asymmetric (KIVI, arXiv 2402.02750).
//!
//! A grid is a zero and a step in f16. Keys have one for each channel of [`GROUP`] rows, since what is large in keys keeps to
//! few channels; values have one for each [`GROUP`] channels of a row. The zero is rounded down and the step up, so that every
//! number lies on its grid or between two of its levels, however coarse f16 is where they are.
//!
//! The codes of a row lie in `width / codes per byte` bytes. A byte has codes of channels that far apart, not of neighbours:
//! what the bytes of a row have in the same bits are neighbours, and are unpacked side by side.

mod pack;
#[cfg(test)]
mod tests;
mod unpack;

use std::ops::Range;

use half::f16;
use rayon::prelude::*;

pub use unpack::PackedSlice;

use super::error::{Error, Result};

/// Rows of a channel of keys, or channels of a row of values, that share a grid.
pub const GROUP: usize = 32;

/// Bits of a packed number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PackedBits {
    /// 4 levels.
    Two,
    /// 16 levels.
    Four,
    /// 256 levels.
    Eight,
}

impl PackedBits {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Two, Self::Four, Self::Eight];

    /// How many bits.
    pub fn count(self) -> usize {
        match self {
            Self::Two => 2,
            Self::Four => 4,
            Self::Eight => 8,
        }
    }

    /// Those that are so many.
    pub fn of(count: usize) -> Option<Self> {
        Self::ALL.into_iter().find(|bits| bits.count() == count)
    }

    fn per_byte(self) -> usize {
        8 / self.count()
    }

    /// The largest code.
    fn top(self) -> u8 {
        u8::MAX >> (8 - self.count())
    }
}

/// Which numbers share a grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grids {
    /// A channel of [`GROUP`] rows of a head, as for keys. The last rows of a head may be fewer.
    PerChannel,
    /// [`GROUP`] channels of a row, as for values.
    PerRow,
}

/// What a row is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Shape {
    bits: PackedBits,
    grids: Grids,
    width: usize,
}

impl Shape {
    /// Bytes of a row's codes.
    fn line(self) -> usize {
        self.width.div_ceil(self.bits.per_byte())
    }

    /// Grids of a group of rows, or of a row.
    fn entries(self) -> usize {
        match self.grids {
            Grids::PerChannel => self.width,
            Grids::PerRow => self.width.div_ceil(GROUP),
        }
    }

    /// Rows that share their grids.
    fn together(self) -> usize {
        match self.grids {
            Grids::PerChannel => GROUP,
            Grids::PerRow => 1,
        }
    }

    /// Numbers of the grids of so many rows of a head.
    fn grid_len(self, rows: usize) -> usize {
        2 * self.entries() * rows.div_ceil(self.together())
    }

    /// What the codes in the bits `part` of each byte are: their first channel, and how many there are.
    fn part(self, part: usize) -> (usize, usize) {
        let first = part * self.line();
        (first, self.line().min(self.width.saturating_sub(first)))
    }
}

/// Rows of all heads of a layer, keys or values, packed. Heads may have different counts of rows.
#[derive(Clone, Debug, PartialEq)]
pub struct PackedRows {
    shape: Shape,
    counts: Vec<usize>,
    /// `[rows of all heads, bytes of a row]`.
    codes: Vec<u8>,
    /// Head by head and group by group the zeros of a group, then its steps.
    grid: Vec<f16>,
}

impl PackedRows {
    /// Packs the rows of each head.
    ///
    /// # Shapes
    ///
    /// `heads[h]` is `[rows of the head, width]`.
    ///
    /// # Numerics
    ///
    /// Each number goes to the nearest level: it is off by half a step at most, and a step is the range of the numbers that
    /// share a grid divided by 2^bits − 1, but for the rounding of zero and step to f16.
    ///
    /// # Errors
    ///
    /// [`Error::Range`] for numbers that are not finite, or so large that no grid in f16 reaches them;
    /// [`Error::Packed`] for a head that does not end with a row.
    pub fn pack(heads: &[&[f32]], width: usize, grids: Grids, bits: PackedBits) -> Result<Self> {
        let shape = Shape { bits, grids, width };
        for head in heads {
            let whole = head.len().checked_rem(width) == Some(0);
            if !whole {
                return Err(Error::Packed { what: "a head", expected: width, got: head.len() });
            }
        }
        let counts: Vec<usize> = heads.iter().map(|head| head.len() / width).collect();
        let mut packed = Self {
            codes: vec![0; counts.iter().sum::<usize>() * shape.line()],
            grid: vec![f16::ZERO; counts.iter().map(|count| shape.grid_len(*count)).sum()],
            shape,
            counts,
        };
        let (mut codes, mut grid) = (&mut packed.codes[..], &mut packed.grid[..]);
        let mut pieces = Vec::with_capacity(heads.len());
        for (head, count) in heads.iter().zip(&packed.counts) {
            let (own_codes, other_codes) = codes.split_at_mut(count * shape.line());
            let (own_grid, other_grid) = grid.split_at_mut(shape.grid_len(*count));
            pieces.push((*head, own_codes, own_grid));
            (codes, grid) = (other_codes, other_grid);
        }
        pieces.into_par_iter().try_for_each(|(rows, codes, grid)| shape.pack_head(rows, codes, grid))?;
        Ok(packed)
    }

    /// What [`codes`](Self::codes) and [`grid`](Self::grid) once gave.
    ///
    /// # Errors
    ///
    /// [`Error::Packed`] where there are not as many codes or levels as rows of these `counts` and `width` have,
    /// [`Error::Range`] for a grid that is not finite.
    pub fn from_parts(
        counts: Vec<usize>,
        width: usize,
        grids: Grids,
        bits: PackedBits,
        codes: Vec<u8>,
        grid: Vec<f16>,
    ) -> Result<Self> {
        let shape = Shape { bits, grids, width };
        let [expected_codes, expected_grid] = Self::lens(&counts, width, grids, bits);
        if codes.len() != expected_codes {
            return Err(Error::Packed { what: "codes", expected: expected_codes, got: codes.len() });
        }
        if grid.len() != expected_grid {
            return Err(Error::Packed { what: "a grid", expected: expected_grid, got: grid.len() });
        }
        match grid.iter().find(|x| !x.is_finite()) {
            Some(x) => Err(Error::Range(x.to_f32())),
            None => Ok(Self { shape, counts, codes, grid }),
        }
    }

    /// How many bytes of codes and how many numbers of grids there are for heads of so many rows.
    pub fn lens(counts: &[usize], width: usize, grids: Grids, bits: PackedBits) -> [usize; 2] {
        let shape = Shape { bits, grids, width };
        let rows = counts.iter().fold(0usize, |sum, count| sum.saturating_add(*count));
        let grid = counts.iter().fold(0usize, |sum, count| sum.saturating_add(shape.grid_len(*count)));
        [rows.saturating_mul(shape.line()), grid]
    }

    /// Bits of a number.
    pub fn bits(&self) -> PackedBits {
        self.shape.bits
    }

    /// Rows of each head.
    pub fn counts(&self) -> &[usize] {
        &self.counts
    }

    /// Numbers in a row.
    pub fn width(&self) -> usize {
        self.shape.width
    }

    /// `[rows of all heads, bytes of a row]`.
    pub fn codes(&self) -> &[u8] {
        &self.codes
    }

    /// Head by head and group by group the zeros of a group, then its steps.
    pub fn grid(&self) -> &[f16] {
        &self.grid
    }

    /// Bytes of codes and grids of some rows of each head, as far as there are any.
    pub fn bytes(&self, rows: &Range<usize>) -> usize {
        let Shape { grids, .. } = self.shape;
        let of_head = |count: &usize| {
            let (start, end) = (rows.start.min(*count), rows.end.min(*count));
            if start >= end {
                return 0;
            }
            let groups = match grids {
                Grids::PerChannel => end.div_ceil(GROUP) - start / GROUP,
                Grids::PerRow => end - start,
            };
            (end - start) * self.shape.line() + groups * 2 * self.shape.entries() * size_of::<f16>()
        };
        self.counts.iter().map(of_head).sum()
    }

    /// The first rows of each head alone, as they are.
    #[must_use]
    pub fn first(&self, rows: usize) -> Self {
        let (line, mut row, mut at) = (self.shape.line(), 0, 0);
        let (mut counts, mut codes, mut grid) = (Vec::new(), Vec::new(), Vec::new());
        for count in &self.counts {
            let own = rows.min(*count);
            codes.extend_from_slice(&self.codes[row * line..(row + own) * line]);
            grid.extend_from_slice(&self.grid[at..at + self.shape.grid_len(own)]);
            counts.push(own);
            row += count;
            at += self.shape.grid_len(*count);
        }
        Self { shape: self.shape, counts, codes, grid }
    }

    /// The rows of one head.
    pub fn head(&self, head: usize) -> PackedSlice<'_> {
        let (line, len) = (self.shape.line(), self.counts[head]);
        let before = &self.counts[..head];
        let row: usize = before.iter().sum();
        let at: usize = before.iter().map(|count| self.shape.grid_len(*count)).sum();
        PackedSlice {
            shape: self.shape,
            codes: &self.codes[row * line..(row + len) * line],
            grid: &self.grid[at..at + self.shape.grid_len(len)],
            from: 0,
            len,
        }
    }

    /// Some rows of each head, as far as there are any, head behind head.
    pub fn unpack(&self, rows: &Range<usize>) -> Vec<f32> {
        let within = |count: &usize| rows.start.min(*count)..rows.end.min(*count);
        let total: usize = self.counts.iter().map(|count| within(count).len()).sum();
        let mut out = vec![0.0; total * self.width()];
        let (mut rest, mut pieces) = (&mut out[..], Vec::with_capacity(self.counts.len()));
        for (head, count) in self.counts.iter().enumerate() {
            let (own, others) = rest.split_at_mut(within(count).len() * self.width());
            pieces.push((self.head(head).range(within(count).start, within(count).len()), own));
            rest = others;
        }
        pieces.into_par_iter().for_each(|(rows, out)| rows.to_f32(out));
        out
    }
}
