//! The one error type of this crate.

/// Result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why a tensor cannot be read as slices, or numbers cannot be packed. Kernels themselves do not fail.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The rows of a head do not lie behind one another; see [`contiguous_heads`](crate::contiguous_heads).
    #[error("the rows of a head lie apart: shape {shape:?}, strides {stride:?}")]
    Strided {
        /// The tensor's shape.
        shape: Vec<usize>,
        /// Its strides, in numbers.
        stride: Vec<usize>,
    },
    /// The tensor is not in the memory of the CPU.
    #[error("a tensor on another device than the CPU")]
    Device,
    /// The tensor has a dtype that no cache has.
    #[error("dtype {0:?}, expected f32, bf16 or f16")]
    Dtype(candle_core::DType),
    /// A number that no grid in f16 reaches: not finite, or too large.
    #[error("{0:e} cannot be packed: it is not finite, or no grid in f16 reaches it")]
    Range(f32),
    /// Packed rows do not have the lengths that their heads need.
    #[error("{what} of {got}, expected {expected}")]
    Packed {
        /// What is too long or too short.
        what: &'static str,
        /// How long it must be.
        expected: usize,
        /// How long it is.
        got: usize,
    },
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(Box<candle_core::Error>),
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::Tensor(Box::new(error))
    }
}
