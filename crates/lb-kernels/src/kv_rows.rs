//! Keys or values of a head as attention reads them: floats where they lie, or packed and unpacked tile by tile.

use super::float_slice::FloatSlice;
use super::packed_rows::PackedSlice;

/// Rows of keys or values of one head.
#[derive(Clone, Copy, Debug)]
pub enum KvRows<'a> {
    /// `[rows, head_dim]`.
    Float(FloatSlice<'a>),
    /// In few bits; as wide as the head.
    Packed(PackedSlice<'a>),
}

impl<'a> From<FloatSlice<'a>> for KvRows<'a> {
    fn from(rows: FloatSlice<'a>) -> Self {
        Self::Float(rows)
    }
}

impl<'a> From<PackedSlice<'a>> for KvRows<'a> {
    fn from(rows: PackedSlice<'a>) -> Self {
        Self::Packed(rows)
    }
}

impl<'a> KvRows<'a> {
    /// How many rows of `width` numbers.
    pub(crate) fn rows(&self, width: usize) -> usize {
        match self {
            Self::Float(x) => x.len() / width,
            Self::Packed(x) => x.rows(),
        }
    }

    /// `count` rows from `first` on in f32, in `buffer` where they are not.
    pub(crate) fn tile<'b>(
        &self,
        first: usize,
        count: usize,
        width: usize,
        buffer: &'b mut Vec<f32>,
    ) -> &'b [f32]
    where
        'a: 'b,
    {
        match self {
            Self::Float(x) => x.range(first * width, count * width).as_f32(buffer),
            Self::Packed(x) => {
                buffer.resize(count * width, 0.0);
                x.range(first, count).to_f32(buffer);
                buffer
            }
        }
    }

    /// What `count` rows from `first` on are in memory, as far as there are any.
    pub(crate) fn bytes_within(&self, first: usize, count: usize, width: usize) -> &'a [u8] {
        match self {
            Self::Float(x) => x.range_within(first * width, count * width).bytes(),
            Self::Packed(x) => {
                let first = first.min(x.rows());
                x.range(first, count.min(x.rows() - first)).bytes()
            }
        }
    }
}
