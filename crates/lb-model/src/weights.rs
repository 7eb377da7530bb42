//! The tensors of a checkpoint, one file or shards, checked one by one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use candle_nn::Linear;
use serde::Deserialize;

use crate::checkpoint::Source;
use crate::config::read_json;
use crate::safefile::SafeFile;
use crate::{Error, Result};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Tensors by name. Each is read from disk only when taken, so the peak is the model plus one stored tensor.
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

    pub(crate) fn dtype(&self) -> DType {
        self.dtype
    }

    /// Reads, checks and converts one tensor.
    ///
    /// # Errors
    /// `MissingTensor`, `TensorShape`, `TensorDtype`, `NonFinite`, each naming tensor and file.
    pub(crate) fn take(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let missing = || Error::MissingTensor { name: name.to_string(), file: self.origin.clone() };
        let index = self.names.remove(name).ok_or_else(missing)?;
        let file = &mut self.files[index];
        let got = file.shape(name).unwrap_or_default();
        if got != shape {
            let (name, file, got) = (name.to_string(), file.path().to_path_buf(), got.to_vec());
            return Err(Error::TensorShape { name, file, expected: shape.to_vec(), got });
        }
        Ok(file.load_finite(name, &self.device)?.to_dtype(self.dtype)?)
    }

    /// A projection without bias from a weight `[outputs, inputs]`.
    pub(crate) fn linear(&mut self, name: &str, inputs: usize, outputs: usize) -> Result<Linear> {
        Ok(Linear::new(self.take(name, &[outputs, inputs])?, None))
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
    let ok = match device {
        Device::Cpu => matches!(dtype, DType::F32 | DType::F16),
        _ => matches!(dtype, DType::F32 | DType::F16 | DType::BF16),
    };
    let reason = "f32 or f16 on the CPU, also bf16 on a GPU";
    crate::config::check(ok, "dtype", format!("{dtype:?}"), reason)?;
    Ok(dtype)
}
