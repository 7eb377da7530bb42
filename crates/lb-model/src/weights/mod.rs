//! The tensors of a checkpoint, by their names in the Hugging Face layout, checked one by one.

mod gguf;
mod names;
mod safetensors;

use candle_core::{DType, Device, Tensor};

use self::gguf::Blocks;
use self::safetensors::Shards;
use crate::checkpoint::Origin;
use crate::config::check;
use crate::matrix::{Linear, Matrix};
use crate::{Result, Warning};

pub(crate) use self::names::{Stored, place};
pub(crate) use self::safetensors::{Shards as Safetensors, is_judge, says_nothing};

/// Tensors by name. Each is read only when taken, so that the peak is the model plus one stored tensor; 16-bit weights
/// that stay so are not even copied.
pub(crate) struct Weights {
    store: Store,
    dtype: DType,
    /// What matrices of safetensors are kept in, if it is not what is computed in.
    narrow: Option<DType>,
    compute: DType,
    /// Whether bf16 was asked for, so that long inputs may be rounded to it as well.
    round: bool,
    device: Device,
}

enum Store {
    Safetensors(Shards),
    Gguf(Blocks),
}

impl Weights {
    /// Opens the files. `dtype` is that of matrices and caches. `None` means on the CPU: matrices in bf16 where the files
    /// are, which is the fastest there, else f32, and caches in f32; elsewhere: what the checkpoint is stored in. Sums are
    /// in f32 on the CPU, and products too, but where bf16 was asked for: then long inputs are rounded to it.
    pub(crate) fn open(source: &Origin, dtype: Option<DType>, device: &Device) -> Result<Self> {
        let store = match source {
            Origin::Gguf(file) => Store::Gguf(Blocks::new(file)?),
            files => Store::Safetensors(Shards::open(files)?),
        };
        let ok = matches!(dtype, None | Some(DType::F32 | DType::F16 | DType::BF16));
        check(ok, "dtype", dtype.map_or("none", |dtype| dtype.as_str()), "f32, f16 or bf16")?;
        let cpu = matches!(device, Device::Cpu);
        let stored = match &store {
            Store::Safetensors(shards) => shards.dtype(),
            Store::Gguf(blocks) => blocks.dtype(),
        };
        let quantised = stored.is_none() && matches!(store, Store::Gguf(_));
        let cache = dtype.unwrap_or(if cpu { DType::F32 } else { stored.unwrap_or(DType::F32) });
        let compute = if cpu || quantised { DType::F32 } else { cache };
        let narrow =
            dtype.or(stored.filter(|stored| *stored == DType::BF16)).filter(|dtype| *dtype != compute);
        let (narrow, round) = (narrow.filter(|_| cpu), dtype == Some(DType::BF16));
        Ok(Self { store, dtype: cache, narrow, compute, round, device: device.clone() })
    }

    /// What caches are stored in.
    pub(crate) fn dtype(&self) -> DType {
        self.dtype
    }

    /// What activations, norms and biases are in: the CPU sums everything in f32, and so do products with blocks.
    pub(crate) fn compute(&self) -> DType {
        self.compute
    }

    /// A bias.
    ///
    /// # Errors
    /// `MissingTensor`, `TensorShape`, `TensorDtype`, `NonFinite`, each naming tensor and file.
    pub(crate) fn vector(&mut self, name: &str, len: usize) -> Result<Tensor> {
        Ok(self.stored(name, len)?.to_dtype(self.compute)?)
    }

    /// A vector in the dtype of the file.
    fn stored(&mut self, name: &str, len: usize) -> Result<Tensor> {
        match &mut self.store {
            Store::Safetensors(shards) => shards.claim(name, &[len])?.load_finite(name, &self.device),
            Store::Gguf(blocks) => blocks.vector(name, len, &self.device),
        }
    }

    /// What a norm multiplies by: its weights and `offset`, which GGUF files hold added up.
    ///
    /// # Errors
    /// Those of [`vector`](Self::vector).
    pub(crate) fn gain(&mut self, name: &str, len: usize, offset: f64) -> Result<Tensor> {
        let weights = self.stored(name, len)?;
        let added = offset != 0.0 && matches!(self.store, Store::Safetensors(_));
        // Added before anything is rounded to what is computed in.
        let gain = if added { (weights.to_dtype(DType::F32)? + offset)? } else { weights };
        Ok(gain.to_dtype(self.compute)?)
    }

    /// A weight `[rows, columns]`.
    ///
    /// # Errors
    /// Those of [`vector`](Self::vector).
    pub(crate) fn matrix(&mut self, name: &str, rows: usize, columns: usize) -> Result<Matrix> {
        let matrix = match &mut self.store {
            Store::Safetensors(shards) => {
                shards.matrix(name, rows, columns, self.narrow, self.compute, &self.device)?
            }
            Store::Gguf(blocks) => blocks.matrix(name, rows, columns, self.compute, &self.device)?,
        };
        Ok(if self.round { matrix.rounding() } else { matrix })
    }

    /// The projection `{prefix}.weight`, `[outputs, inputs]`, and `{prefix}.bias` if it has one.
    pub(crate) fn linear(
        &mut self,
        prefix: &str,
        inputs: usize,
        outputs: usize,
        bias: bool,
    ) -> Result<Linear> {
        let weight = self.matrix(&format!("{prefix}.weight"), outputs, inputs)?;
        let bias = bias.then(|| self.vector(&format!("{prefix}.bias"), outputs)).transpose()?;
        Ok(Linear::new(weight, bias))
    }

    /// Fails when tensors were left over that the model should have used, and lists those that are no part of it.
    pub(crate) fn finish(self, tied_head: bool) -> Result<Vec<Warning>> {
        match self.store {
            Store::Safetensors(shards) => shards.finish(tied_head),
            Store::Gguf(blocks) => blocks.finish().map(|()| Vec::new()),
        }
    }
}
