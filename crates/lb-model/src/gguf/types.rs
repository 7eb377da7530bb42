//! How GGUF files store numbers: plainly, or in blocks of integers with a scale.

use candle_core::quantized::GgmlDType;
use rayon::prelude::*;

/// The storage of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One that this crate multiplies.
    Known(GgmlDType),
    /// Any other number of ggml's list.
    Other(u32),
}

/// ggml's number, its name, candle's type, and the byte offsets of the f16 scales inside a block.
const KNOWN: [(u32, &str, GgmlDType, &[usize]); 13] = [
    (0, "F32", GgmlDType::F32, &[]),
    (1, "F16", GgmlDType::F16, &[0]),
    (2, "Q4_0", GgmlDType::Q4_0, &[0]),
    (3, "Q4_1", GgmlDType::Q4_1, &[0, 2]),
    (6, "Q5_0", GgmlDType::Q5_0, &[0]),
    (7, "Q5_1", GgmlDType::Q5_1, &[0, 2]),
    (8, "Q8_0", GgmlDType::Q8_0, &[0]),
    (10, "Q2_K", GgmlDType::Q2K, &[80, 82]),
    (11, "Q3_K", GgmlDType::Q3K, &[108]),
    (12, "Q4_K", GgmlDType::Q4K, &[0, 2]),
    (13, "Q5_K", GgmlDType::Q5K, &[0, 2]),
    (14, "Q6_K", GgmlDType::Q6K, &[208]),
    (30, "BF16", GgmlDType::BF16, &[]),
];

/// Names of types that are only reported.
const OTHERS: [(u32, &str); 20] = [
    (9, "Q8_1"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (40, "NVFP4"),
];

impl Kind {
    pub(crate) fn from_number(number: u32) -> Self {
        let known = KNOWN.iter().find(|row| row.0 == number);
        known.map_or(Self::Other(number), |row| Self::Known(row.2))
    }

    /// As llama.cpp writes it.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Known(dtype) => name(dtype).to_owned(),
            Self::Other(number) => {
                let known = OTHERS.iter().find(|row| row.0 == number);
                known.map_or_else(|| format!("number {number}"), |row| row.1.to_owned())
            }
        }
    }
}

fn row(dtype: GgmlDType) -> &'static (u32, &'static str, GgmlDType, &'static [usize]) {
    KNOWN.iter().find(|row| row.2 == dtype).unwrap_or(&KNOWN[0])
}

/// ggml's number of a type.
pub(crate) fn number(dtype: GgmlDType) -> u32 {
    row(dtype).0
}

/// ggml's name of a type.
pub(crate) fn name(dtype: GgmlDType) -> &'static str {
    row(dtype).1
}

/// Bytes of `count` numbers, `None` where that is no whole number of blocks or too many.
pub(crate) fn bytes(dtype: GgmlDType, count: usize) -> Option<usize> {
    let whole = count.is_multiple_of(dtype.block_size());
    whole.then(|| (count / dtype.block_size()).checked_mul(dtype.type_size())).flatten()
}

/// Whether every scale, or every number of a type without blocks, is finite; then every number of the tensor is.
pub(crate) fn finite(dtype: GgmlDType, bytes: &[u8]) -> bool {
    /// A multiple of every block's bytes is not needed: pieces are whole blocks by construction.
    const BLOCKS: usize = 1 << 14;
    let &(_, _, _, scales) = row(dtype);
    let size = dtype.type_size();
    bytes.par_chunks(BLOCKS * size).all(|piece| match dtype {
        GgmlDType::F32 => {
            piece.chunks_exact(4).all(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]).is_finite())
        }
        // No early end inside: the loop without one runs in vectors.
        GgmlDType::BF16 => piece.chunks_exact(2).fold(true, |ok, b| ok & exponent(b, 0x7F80)),
        _ => {
            let block = |b: &[u8]| scales.iter().fold(true, |ok, &at| ok & exponent(&b[at..], 0x7C00));
            piece.chunks_exact(size).fold(true, |ok, b| ok & block(b))
        }
    })
}

/// Whether a 16-bit float, whose exponent is under `mask`, is finite.
fn exponent(bytes: &[u8], mask: u16) -> bool {
    u16::from_le_bytes([bytes[0], bytes[1]]) & mask != mask
}

#[cfg(test)]
mod tests {
    use candle_core::quantized::QTensor;
    use candle_core::{DType, Device, Tensor};

    use super::{GgmlDType, KNOWN, finite};

    /// The offsets are where candle puts its scales: a NaN there is seen, and makes the tensor's numbers NaN.
    #[test]
    fn scales_lie_where_the_table_says() -> candle_core::Result<()> {
        for (_, name, dtype, scales) in KNOWN {
            let values = Tensor::randn(0f32, 1.0, (4, 256), &Device::Cpu)?;
            let tensor = QTensor::quantize(&values, dtype)?;
            let bytes = tensor.data()?.into_owned();
            assert!(finite(dtype, &bytes), "{name}");
            for &at in scales {
                let mut bytes = bytes.clone();
                let place = bytes.len() - dtype.type_size() + at;
                bytes[place..place + 2].copy_from_slice(&0x7E00u16.to_le_bytes());
                assert!(!finite(dtype, &bytes), "{name}");
                let spoilt = super::super::tensor(&bytes, dtype, &[4, 256], &Device::Cpu).unwrap();
                let numbers = spoilt.dequantize(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?;
                let numbers = numbers.to_vec1::<f32>()?;
                assert!(numbers.iter().any(|x| x.is_nan()), "{name} at {at}");
                assert!(numbers[..256].iter().all(|x| x.is_finite()), "{name} at {at}");
            }
        }
        assert!(!finite(GgmlDType::F32, &f32::INFINITY.to_le_bytes()));
        assert!(!finite(GgmlDType::BF16, &[0x80, 0x7F]));
        Ok(())
    }
}
