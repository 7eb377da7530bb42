//! Tensors of a GGUF file: blocks stay blocks, 16-bit numbers stay in the file.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use candle_core::quantized::GgmlDType;
use candle_core::{DType, Device, Tensor};

use super::names::{Place, Stored, place};
use crate::config::FamilySpec;
use crate::gguf::types::{self, Kind};
use crate::gguf::{self, Gguf, Info, ROPE_FACTORS};
use crate::matrix::{Bits, Bytes, Matrix, Narrow, Packed};
use crate::{Error, Result};

/// The file, and which of its tensors were not taken yet.
pub(super) struct Blocks {
    file: Arc<Gguf>,
    left: BTreeSet<String>,
    spec: &'static FamilySpec,
    /// Query and key heads whose rows are ordered by adjacent rotary pairs, if any are.
    paired: Option<(usize, usize)>,
    experts: usize,
}

/// The bytes of one tensor, in the order of the Hugging Face layout.
struct Found<'a> {
    info: &'a Info,
    name: &'a str,
    dtype: GgmlDType,
    bytes: Cow<'a, [u8]>,
    /// Where the bytes lie in the file, unless they were reordered.
    in_place: Option<std::ops::Range<usize>>,
}

impl Blocks {
    pub(super) fn new(file: &Arc<Gguf>) -> Result<Self> {
        let config = file.config()?;
        // Old converters stored the rotary frequencies, which the configuration says anyway, layer by layer.
        let computed = |name: &str| name == ROPE_FACTORS || name.contains(".attn_rot_embd");
        let left = file.tensors().keys().filter(|name| !computed(name)).cloned().collect();
        let heads = (config.num_attention_heads, config.num_key_value_heads);
        let spec = config.family.spec();
        let paired = spec.gguf_adjacent_pairs.then_some(heads);
        let experts = config.experts.as_ref().map_or(0, |experts| experts.count);
        Ok(Self { file: file.clone(), left, spec, paired, experts })
    }

    /// The widest plain type of the file's tensors; `None` where there are blocks.
    pub(super) fn dtype(&self) -> Option<DType> {
        let mut narrow = None;
        for info in self.file.tensors().values().filter(|info| info.shape.len() > 1) {
            let Kind::Known(dtype) = info.kind else { return None };
            narrow = narrow.or(Some(plain(dtype)?).filter(|dtype| *dtype != DType::F32));
        }
        Some(narrow.unwrap_or(DType::F32))
    }

    pub(super) fn vector(&mut self, name: &str, len: usize, device: &Device) -> Result<Tensor> {
        let file = self.file.clone();
        let found = self.find(&file, name, &[len])?;
        let dtype = plain(found.dtype).ok_or_else(|| dtype_error(&file, found.name, found.info))?;
        Ok(Tensor::from_raw_buffer(&found.bytes, dtype, &[len], device)?)
    }

    /// Blocks as they are, on the CPU where they lie; 16-bit numbers too on the CPU, elsewhere in `compute`.
    pub(super) fn matrix(
        &mut self,
        name: &str,
        rows: usize,
        columns: usize,
        compute: DType,
        device: &Device,
    ) -> Result<Matrix> {
        let file = self.file.clone();
        let found = self.find(&file, name, &[rows, columns])?;
        let shape = [rows, columns];
        let cpu = matches!(device, Device::Cpu);
        let Some(dtype) = plain(found.dtype) else {
            if cpu {
                let bytes = match found.in_place {
                    Some(range) => Bytes::Mapped(file.map_of(found.info).clone(), range),
                    None => Bytes::Owned(found.bytes.into_owned().into()),
                };
                return Ok(Matrix::Packed(Packed::new(bytes, found.dtype, rows, columns)?));
            }
            return Matrix::quantized(gguf::tensor(&found.bytes, found.dtype, &shape, device)?);
        };
        if dtype == DType::F32 || !cpu {
            let dense = Tensor::from_raw_buffer(&found.bytes, dtype, &shape, device)?;
            return Ok(Matrix::Dense(dense.to_dtype(compute)?));
        }
        let bits = match found.in_place {
            Some(range) => Bits::mapped(file.map_of(found.info), range),
            None => Bits::copied(&found.bytes),
        };
        Ok(Matrix::Narrow(Narrow::new(bits, dtype, rows, columns)?))
    }

    pub(super) fn finish(self) -> Result<()> {
        let (names, file) = (Vec::from_iter(self.left), self.file.path().to_path_buf());
        if names.is_empty() { Ok(()) } else { Err(Error::UnexpectedTensors { names, file }) }
    }

    /// Finds a tensor of this shape, or its expert, and checks its numbers.
    fn find<'a>(&mut self, file: &'a Gguf, name: &str, shape: &[usize]) -> Result<Found<'a>> {
        let path = || file.path().to_path_buf();
        let missing = |name: &str| Error::MissingTensor { name: name.to_owned(), file: path() };
        let Place { name, expert, stored } = place(name, self.spec).ok_or_else(|| missing(name))?;
        let (name, info) = file.tensors().get_key_value(&name).ok_or_else(|| missing(&name))?;
        self.left.remove(name);
        let experts = expert.map(|_| self.experts);
        let expected: Vec<usize> = experts.into_iter().chain(shape.iter().copied()).collect();
        if info.shape != expected {
            return Err(Error::TensorShape {
                name: name.clone(),
                file: path(),
                expected,
                got: info.shape.clone(),
            });
        }
        let Kind::Known(dtype) = info.kind else { return Err(dtype_error(file, name, info)) };
        let mut range = info.range.clone();
        if let Some(expert) = expert {
            let size = range.len() / self.experts.max(1);
            range = range.start + expert * size..range.start + (expert + 1) * size;
        }
        let bytes = &file.map_of(info)[range.clone()];
        if !types::finite(dtype, bytes) {
            return Err(Error::NonFinite { tensor: name.clone(), file: path() });
        }
        let heads = self.paired.and_then(|(queries, keys)| match stored {
            Stored::Same | Stored::Gain => None,
            Stored::Queries => Some(queries),
            Stored::Keys => Some(keys),
        });
        let (bytes, in_place) = match heads {
            Some(heads) => (Cow::Owned(unpaired(bytes, shape[0], heads)), None),
            None => (Cow::Borrowed(bytes), Some(range)),
        };
        Ok(Found { info, name, dtype, bytes, in_place })
    }
}

/// The dtype of a type that is plain numbers; `None` for blocks.
fn plain(dtype: GgmlDType) -> Option<DType> {
    match dtype {
        GgmlDType::F32 => Some(DType::F32),
        GgmlDType::F16 => Some(DType::F16),
        GgmlDType::BF16 => Some(DType::BF16),
        _ => None,
    }
}

fn dtype_error(file: &Gguf, name: &str, info: &Info) -> Error {
    Error::TensorDtype { name: name.to_owned(), file: file.path().to_path_buf(), got: info.kind.name() }
}

/// Rows of every head from the order (first, second) of each rotary pair to all firsts before all seconds. Rows are
/// whole blocks, so this holds for any type.
fn unpaired(bytes: &[u8], rows: usize, heads: usize) -> Vec<u8> {
    let (row, half) = (bytes.len() / rows, rows / heads / 2);
    let mut out = Vec::with_capacity(bytes.len());
    for head in bytes.chunks_exact(2 * half * row) {
        for second in 0..2 {
            for pair in 0..half {
                let at = (2 * pair + second) * row;
                out.extend_from_slice(&head[at..at + row]);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::unpaired;

    #[test]
    fn pairs_are_undone_head_by_head() {
        let stored: Vec<u8> = vec![0, 0, 1, 1, 2, 2, 3, 3, 10, 10, 11, 11, 12, 12, 13, 13];
        let rows = [0, 0, 2, 2, 1, 1, 3, 3, 10, 10, 12, 12, 11, 11, 13, 13];
        assert_eq!(unpaired(&stored, 8, 2), rows);
    }
}
