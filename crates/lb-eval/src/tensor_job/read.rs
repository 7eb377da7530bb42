//! From the bytes of a file to checked tensors.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use lb_am::LayerKv;
use lb_io::files::HEADER;
use safetensors::{Dtype, SafeTensorError, SafeTensors};

use super::TensorJob;
use crate::{Error, Result};

/// An open file.
struct TensorFile<'a> {
    file: &'a Path,
    tensors: SafeTensors<'a>,
}

/// Whether −∞ is a value of its own or a mistake.
#[derive(Clone, Copy, PartialEq)]
enum Padding {
    Allowed,
    Refused,
}

/// Refuses a header that is too large, by the first bytes of a file.
pub(super) fn check_header(bytes: &[u8], file: &Path) -> Result<()> {
    let corrupt = |source| Error::Corrupt { file: file.to_owned(), source };
    let length = bytes.first_chunk().ok_or_else(|| corrupt(SafeTensorError::HeaderTooSmall))?;
    if u64::from_le_bytes(*length) > HEADER {
        return Err(corrupt(SafeTensorError::HeaderTooLarge));
    }
    Ok(())
}

pub(super) fn parse(bytes: &[u8], file: &Path) -> Result<TensorJob> {
    check_header(bytes, file)?;
    let corrupt = |source| Error::Corrupt { file: file.to_owned(), source };
    let source = TensorFile { file, tensors: SafeTensors::deserialize(bytes).map_err(corrupt)? };
    let keys = source.load("keys", "[layers, kv_heads, seq_len, head_dim]", &[None; 4])?;
    let (layers, heads, slots, width) = keys.dims4()?;
    let cache = [Some(layers), Some(heads), Some(slots), Some(width)];
    let values = source.load("values", &format!("{:?}", keys.dims()), &cache)?;
    if values.dtype() != keys.dtype() {
        let expected = format!("{} as `keys`", keys.dtype().as_str());
        return Err(source.dtype_error("values", expected, values.dtype().as_str().to_owned()));
    }
    let rows = [Some(layers), Some(heads), None, Some(width)];
    let wanted = format!("[{layers}, {heads}, n_queries, {width}]");
    let queries = source.load("queries", &wanted, &rows)?.to_dtype(DType::F32)?;
    let held_out = source.optional("held_out_queries", &wanted, &rows)?;
    let bias = source.optional("bias", &format!("[{layers}, {heads}, {slots}]"), &cache[..3])?;
    let layer = |index| -> Result<LayerKv> {
        let bias = bias.as_ref().map(|bias| bias.get(index)).transpose()?;
        Ok(LayerKv::new(keys.get(index)?, values.get(index)?, bias)?)
    };
    let split = |tensor: &Tensor| -> Result<Vec<Tensor>> {
        (0..layers).map(|index| Ok(tensor.get(index)?)).collect()
    };
    Ok(TensorJob {
        layers: (0..layers).map(layer).collect::<Result<_>>()?,
        queries: split(&queries)?,
        held_out: held_out.as_ref().map(split).transpose()?,
    })
}

impl TensorFile<'_> {
    /// In f32, where there is such a tensor.
    fn optional(&self, tensor: &'static str, wanted: &str, dims: &[Option<usize>]) -> Result<Option<Tensor>> {
        if self.tensors.tensor(tensor).is_err() {
            return Ok(None);
        }
        Ok(Some(self.load(tensor, wanted, dims)?.to_dtype(DType::F32)?))
    }

    /// One tensor of at least one element: `dims` are those that are known, `wanted` says it in words. f64 becomes f32.
    fn load(&self, tensor: &'static str, wanted: &str, dims: &[Option<usize>]) -> Result<Tensor> {
        let missing = |_| Error::MissingTensor { file: self.file.to_owned(), tensor };
        let view = self.tensors.tensor(tensor).map_err(missing)?;
        let dtype = match view.dtype() {
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            Dtype::F32 => DType::F32,
            Dtype::F64 => DType::F64,
            other => {
                let expected = "F16, BF16, F32 or F64".to_owned();
                return Err(self.dtype_error(tensor, expected, format!("{other:?}")));
            }
        };
        let shape = view.shape();
        let fits = shape.len() == dims.len()
            && shape.iter().zip(dims).all(|(got, dim)| *got > 0 && dim.is_none_or(|dim| dim == *got));
        if !fits {
            let expected = format!("{wanted}, no dimension 0");
            let (file, got) = (self.file.to_owned(), shape.to_vec());
            return Err(Error::TensorShape { file, tensor, expected, got });
        }
        let read = Tensor::from_raw_buffer(view.data(), dtype, shape, &Device::Cpu)?;
        let read = if dtype == DType::F64 { read.to_dtype(DType::F32)? } else { read };
        let padding = if tensor == "bias" { Padding::Allowed } else { Padding::Refused };
        self.check_finite(tensor, &read, padding)?;
        Ok(read)
    }

    fn dtype_error(&self, tensor: &'static str, expected: String, got: String) -> Error {
        Error::TensorDtype { file: self.file.to_owned(), tensor, expected, got }
    }

    /// Names the first layer and head with a number that is none.
    fn check_finite(&self, tensor: &'static str, read: &Tensor, padding: Padding) -> Result<()> {
        let heads = read.dim(1)?;
        for layer in 0..read.dim(0)? {
            let values = read.get(layer)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
            let per_head = values.len() / heads;
            let fine = |value: &f32| {
                value.is_finite() || (padding == Padding::Allowed && *value == f32::NEG_INFINITY)
            };
            if let Some(at) = values.iter().position(|value| !fine(value)) {
                let (file, head) = (self.file.to_owned(), at / per_head);
                return Err(Error::NonFinite { file, tensor, layer, head });
            }
        }
        Ok(())
    }
}
