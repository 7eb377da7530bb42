//! What activations are multiplied with.

use super::blocks::Blocks;
use super::numbers::Numbers;

/// The numbers of a weight, row by row.
#[derive(Clone, Copy, Debug)]
pub enum Weight<'a> {
    /// Of one dtype.
    Numbers(Numbers<'a>),
    /// In whole blocks: every row begins with one.
    Blocks(Blocks<'a>),
}

impl<'a> Weight<'a> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Numbers(x) => x.len(),
            Self::Blocks(x) => x.len(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `len` numbers from `start` on, whole blocks where there are blocks.
    pub(crate) fn range(&self, start: usize, len: usize) -> Self {
        match self {
            Self::Numbers(x) => Self::Numbers(x.range(start, len)),
            Self::Blocks(x) => Self::Blocks(x.range(start, len)),
        }
    }

    /// The numbers in f32, in `buffer` where they are not.
    pub(crate) fn wide<'b>(&self, buffer: &'b mut Vec<f32>) -> &'b [f32]
    where
        'a: 'b,
    {
        match self {
            Self::Numbers(x) => x.wide(buffer),
            Self::Blocks(x) => {
                buffer.resize(x.len(), 0.0);
                x.widen(buffer);
                buffer
            }
        }
    }
}

impl<'a> From<Numbers<'a>> for Weight<'a> {
    fn from(numbers: Numbers<'a>) -> Self {
        Self::Numbers(numbers)
    }
}
