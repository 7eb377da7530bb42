//! What activations are multiplied with.

use super::float_slice::FloatSlice;
use super::quantized::QuantizedSlice;

/// The numbers of a weight, row by row.
#[derive(Clone, Copy, Debug)]
pub enum Weight<'a> {
    /// Of one dtype.
    Dense(FloatSlice<'a>),
    /// In whole blocks: every row begins with one.
    Quantized(QuantizedSlice<'a>),
}

impl<'a> Weight<'a> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Dense(x) => x.len(),
            Self::Quantized(x) => x.len(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `len` numbers from `start` on, whole blocks where there are blocks.
    pub(crate) fn range(&self, start: usize, len: usize) -> Self {
        match self {
            Self::Dense(x) => Self::Dense(x.range(start, len)),
            Self::Quantized(x) => Self::Quantized(x.range(start, len)),
        }
    }

    /// The numbers in f32, in `buffer` where they are not.
    pub(crate) fn as_f32<'b>(&self, buffer: &'b mut Vec<f32>) -> &'b [f32]
    where
        'a: 'b,
    {
        match self {
            Self::Dense(x) => x.as_f32(buffer),
            Self::Quantized(x) => {
                buffer.resize(x.len(), 0.0);
                x.to_f32(buffer);
                buffer
            }
        }
    }
}

impl<'a> From<FloatSlice<'a>> for Weight<'a> {
    fn from(numbers: FloatSlice<'a>) -> Self {
        Self::Dense(numbers)
    }
}
