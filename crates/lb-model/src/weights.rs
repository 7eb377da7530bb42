//! The tensors of a checkpoint, one file or shards, checked one by one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use serde::Deserialize;

use crate::checkpoint::Source;
use crate::config::read_json;
use crate::matrix::{Linear, Matrix, Narrow};
use crate::safefile::SafeFile;
use crate::{Error, Result};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Tensors by name. Each is read only when taken, so that the peak is the model plus one stored tensor; 16-bit weights
/// that stay so are not even copied.
pub(crate) struct Weights {
    files: Vec<SafeFile>,
    /// Tensors not taken yet, and the index of their file.
    names: BTreeMap<String, usize>,
    origin: PathBuf,
    dtype: DType,
    device: Device,
}

impl Weights {
    /// Opens the files; `dtype` `None` means f32 on the CPU and the checkpoint's own dtype elsewhere.
    pub(crate) fn open(source: &Source, dtype: Option<DType>, device: &Device) -> Result<Self> {
        let (files, origin) = if source.has(SINGLE) {
            (vec![source.safetensors(SINGLE)?], source.path(SINGLE))
        } else if let Some(json) = source.read(INDEX)? {
            (open_shards(source, &json)?, source.path(INDEX))
        } else {
            return Err(Error::Io { path: source.path(SINGLE), source: std::io::ErrorKind::NotFound.into() });
        };
        let mut names = BTreeMap::new();
        for (index, file) in files.iter().enumerate() {
            names.extend(file.names().map(|name| (name.to_string(), index)));
        }
        let dtype = load_dtype(dtype, device, &files, &names)?;
        Ok(Self { files, names, origin, dtype, device: device.clone() })
    }

    /// What matrices and caches are stored in.
    pub(crate) fn dtype(&self) -> DType {
        self.dtype
    }

    /// What activations, norms and biases are in: the CPU sums everything in f32.
    pub(crate) fn compute(&self) -> DType {
        if matches!(self.device, Device::Cpu) { DType::F32 } else { self.dtype }
    }

    /// A norm's gains or a bias.
    ///
    /// # Errors
    /// `MissingTensor`, `TensorShape`, `TensorDtype`, `NonFinite`, each naming tensor and file.
    pub(crate) fn vector(&mut self, name: &str, len: usize) -> Result<Tensor> {
        let compute = self.compute();
        let device = self.device.clone();
        Ok(self.claim(name, &[len])?.load_finite(name, &device)?.to_dtype(compute)?)
    }

    /// A weight `[rows, columns]`.
    ///
    /// # Errors
    /// Those of [`vector`](Self::vector).
    pub(crate) fn matrix(&mut self, name: &str, rows: usize, columns: usize) -> Result<Matrix> {
        let (dtype, compute, device) = (self.dtype, self.compute(), self.device.clone());
        let file = self.claim(name, &[rows, columns])?;
        if dtype == compute {
            return Ok(Matrix::Dense(file.load_finite(name, &device)?.to_dtype(dtype)?));
        }
        if file.dtype(name) == Some(dtype) {
            return Ok(Matrix::Narrow(Narrow::new(file.bits(name)?, dtype, rows, columns)?));
        }
        let narrowed = file.load_finite(name, &device)?.to_dtype(dtype)?;
        Ok(Matrix::Narrow(Narrow::from_tensor(&narrowed)?))
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

    /// The file of a tensor of this shape, which can be asked for once.
    fn claim(&mut self, name: &str, shape: &[usize]) -> Result<&mut SafeFile> {
        let missing = || Error::MissingTensor { name: name.to_string(), file: self.origin.clone() };
        let index = self.names.remove(name).ok_or_else(missing)?;
        let file = &mut self.files[index];
        let got = file.shape(name).unwrap_or_default();
        if got == shape {
            return Ok(file);
        }
        let (name, file, got) = (name.to_string(), file.path().to_path_buf(), got.to_vec());
        Err(Error::TensorShape { name, file, expected: shape.to_vec(), got })
    }

    /// Fails when tensors were left over that the model should have used.
    pub(crate) fn finish(self, tied_head: bool) -> Result<()> {
        let harmless =
            |name: &str| name.ends_with("rotary_emb.inv_freq") || (tied_head && name == "lm_head.weight");
        let names: Vec<String> = self.names.into_keys().filter(|n| !harmless(n)).collect();
        if names.is_empty() { Ok(()) } else { Err(Error::UnexpectedTensors { names, file: self.origin }) }
    }
}

fn open_shards(source: &Source, json: &[u8]) -> Result<Vec<SafeFile>> {
    let path = source.path(INDEX);
    let index: Index = read_json(json, &path)?;
    let shards: BTreeSet<&String> = index.weight_map.values().collect();
    let mut files = BTreeMap::new();
    for shard in shards {
        if shard.contains(['/', '\\']) {
            return Err(Error::Corrupt {
                path,
                reason: format!("the shard `{shard}` is not a plain file name"),
            });
        }
        files.insert(shard.clone(), source.safetensors(shard)?);
    }
    for (name, shard) in &index.weight_map {
        if files[shard].shape(name).is_none() {
            return Err(Error::MissingTensor { name: name.clone(), file: source.path(shard) });
        }
    }
    Ok(files.into_values().collect())
}

fn load_dtype(
    asked: Option<DType>,
    device: &Device,
    files: &[SafeFile],
    names: &BTreeMap<String, usize>,
) -> Result<DType> {
    let stored = || names.iter().next().and_then(|(name, &index)| files[index].dtype(name));
    let dtype = match (asked, device) {
        (Some(dtype), _) => dtype,
        (None, Device::Cpu) => DType::F32,
        (None, _) => stored().unwrap_or(DType::F32),
    };
    let ok = matches!(dtype, DType::F32 | DType::F16 | DType::BF16);
    crate::config::check(ok, "dtype", format!("{dtype:?}"), "f32, f16 or bf16")?;
    Ok(dtype)
}
