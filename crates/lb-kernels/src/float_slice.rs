//! Numbers where they lie, in any of the dtypes that a cache or a weight has.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::convert::{bf16_to_f32, f16_to_f32, f32_to_bf16};
use super::microkernel::PanelRow;
use super::microkernel_bf16::Bf16Pair;

/// Numbers of one dtype.
#[derive(Clone, Copy, Debug)]
pub enum FloatSlice<'a> {
    /// 32 bits.
    F32(&'a [f32]),
    /// The upper half of an f32.
    Bf16(&'a [bf16]),
    /// IEEE 754 half precision.
    F16(&'a [f16]),
}

impl<'a> FloatSlice<'a> {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(x) => x.len(),
            Self::Bf16(x) => x.len(),
            Self::F16(x) => x.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `len` numbers from `start` on.
    #[must_use]
    pub fn range(&self, start: usize, len: usize) -> Self {
        let range = start..start + len;
        match self {
            Self::F32(x) => Self::F32(&x[range]),
            Self::Bf16(x) => Self::Bf16(&x[range]),
            Self::F16(x) => Self::F16(&x[range]),
        }
    }

    /// The same, as far as there are any.
    pub(crate) fn range_within(&self, start: usize, len: usize) -> Self {
        let start = start.min(self.len());
        self.range(start, len.min(self.len() - start))
    }

    /// What they are in memory.
    pub(crate) fn bytes(&self) -> &'a [u8] {
        match self {
            Self::F32(x) => bytemuck::cast_slice(x),
            narrow => bytemuck::cast_slice(narrow.bits()),
        }
    }

    /// The bits of 16-bit numbers; none for others.
    pub(crate) fn bits(&self) -> &'a [u16] {
        match self {
            Self::F32(_) => &[],
            Self::Bf16(x) => x.reinterpret_cast(),
            Self::F16(x) => x.reinterpret_cast(),
        }
    }

    /// The numbers in f32, in `buffer` where they are not.
    pub fn as_f32<'b>(&self, buffer: &'b mut Vec<f32>) -> &'b [f32]
    where
        'a: 'b,
    {
        if let Self::F32(x) = self {
            return x;
        }
        buffer.resize(self.len(), 0.0);
        self.to_f32(buffer);
        buffer
    }

    /// Writes the numbers in f32 to as many places.
    ///
    /// # Numerics
    ///
    /// Exact.
    pub fn to_f32(&self, to: &mut [f32]) {
        match self {
            Self::F32(x) => to.copy_from_slice(x),
            Self::Bf16(x) => bf16_to_f32(x.reinterpret_cast(), to),
            Self::F16(x) => f16_to_f32(x.reinterpret_cast(), to),
        }
    }
}

/// Writes a row to a column of a panel, two numbers to a line, each rounded to the nearest bf16.
pub(crate) fn pack_pairs(row: &[f32], panel: &mut [PanelRow<Bf16Pair>], column: usize) {
    let mut narrow = vec![bf16::ZERO; row.len()];
    f32_to_bf16(row, &mut narrow);
    let bits: &[u16] = narrow.reinterpret_cast();
    for (line, [first, second]) in panel.iter_mut().zip(bits.as_chunks::<2>().0) {
        line[column] = u32::from(*first) | u32::from(*second) << 16;
    }
}
