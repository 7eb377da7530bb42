//! One safetensors file, or shards with an index.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use serde::Deserialize;

use crate::checkpoint::Origin;
use crate::config::read_json;
use crate::matrix::{Matrix, Narrow};
use crate::safefile::SafeFile;
use crate::{Error, Result, Warning};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";

/// Endings of tensors that hold packed weights, and what packs so.
const PACKED: &[(&str, &str)] = &[
    (".qweight", "GPTQ or AWQ"),
    (".qzeros", "GPTQ or AWQ"),
    (".weight.absmax", "bitsandbytes"),
    (".SCB", "bitsandbytes"),
    (".weight_packed", "compressed-tensors"),
    (".weight_scale", "FP8"),
    (".weight_scale_inv", "FP8"),
    (".scales", "MLX"),
];

/// Whether a tensor repeats what the configuration says already.
pub(crate) fn says_nothing(name: &str) -> bool {
    ["rotary_emb.inv_freq", "rotary_emb.cos_cached", "rotary_emb.sin_cached"]
        .iter()
        .any(|end| name.ends_with(end))
}

/// Whether a tensor judges texts instead of writing them: the heads that training with rewards leaves behind.
pub(crate) fn is_judge(name: &str) -> bool {
    name.starts_with("v_head.") || name == "score.weight"
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The files, and what was not taken from them yet.
pub(crate) struct Shards {
    files: Vec<SafeFile>,
    /// Tensors not taken yet, and the index of their file.
    names: BTreeMap<String, usize>,
    origin: PathBuf,
}

impl Shards {
    pub(crate) fn open(source: &Origin) -> Result<Self> {
        let (mut files, origin) = if source.has(SINGLE) {
            (vec![source.safetensors(SINGLE)?], source.path(SINGLE))
        } else if let Some(json) = source.read(INDEX)? {
            (open_shards(source, &json)?, source.path(INDEX))
        } else {
            return Err(source.missing(SINGLE));
        };
        require_plain(&files)?;
        unwrap(&mut files);
        let mut names = BTreeMap::new();
        for (index, file) in files.iter().enumerate() {
            names.extend(file.names().map(|name| (name.to_string(), index)));
        }
        Ok(Self { files, names, origin })
    }

    /// The file, or the index of the shards.
    pub(crate) fn origin(&self) -> &Path {
        &self.origin
    }

    /// What the first tensor is stored in.
    pub(super) fn dtype(&self) -> Option<DType> {
        self.names.iter().next().and_then(|(name, &index)| self.files[index].dtype(name))
    }

    /// Names of what was not taken yet, and the shapes.
    pub(crate) fn shapes(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.names
            .iter()
            .map(|(name, &index)| (name.as_str(), self.files[index].shape(name).unwrap_or_default()))
    }

    /// The file of a tensor of this shape, which can be asked for once.
    pub(crate) fn claim(&mut self, name: &str, shape: &[usize]) -> Result<&mut SafeFile> {
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

    /// A weight in `narrow`, which the CPU widens as it multiplies, or else in `compute`.
    pub(super) fn matrix(
        &mut self,
        name: &str,
        rows: usize,
        columns: usize,
        narrow: Option<DType>,
        compute: DType,
        device: &Device,
    ) -> Result<Matrix> {
        let file = self.claim(name, &[rows, columns])?;
        let stored = file.dtype(name).filter(|dtype| *dtype != DType::F32);
        let Some(dtype) = narrow else {
            return Ok(Matrix::Dense(match stored.filter(|_| device.is_cpu()) {
                Some(dtype) => Narrow::new(file.bits(name)?, dtype, rows, columns)?.widened()?,
                None => file.load_finite(name, device)?.to_dtype(compute)?,
            }));
        };
        if stored == Some(dtype) {
            return Ok(Matrix::Narrow(Narrow::new(file.bits(name)?, dtype, rows, columns)?));
        }
        let narrowed = file.load_finite(name, device)?.to_dtype(dtype)?;
        Ok(Matrix::Narrow(Narrow::from_tensor(&narrowed)?))
    }

    /// Whether there is a head that differs from the embedding.
    pub(crate) fn has_head_of_its_own(&mut self) -> Result<bool> {
        let (Some(&head), Some(&embedding)) = (self.names.get(HEAD), self.names.get(EMBEDDING)) else {
            return Ok(false);
        };
        Ok(!if head == embedding {
            self.files[head].same_within(HEAD, EMBEDDING)?
        } else {
            let [head, embedding] = self
                .files
                .get_disjoint_mut([head, embedding])
                .map_err(|_| Error::MissingTensor { name: HEAD.to_owned(), file: self.origin.clone() })?;
            head.same(HEAD, embedding, EMBEDDING)?
        })
    }

    /// Fails when tensors were left over that the model should have used, and lists those that are no part of it.
    pub(super) fn finish(self, tied_head: bool) -> Result<Vec<Warning>> {
        let harmless = |name: &str| says_nothing(name) || (tied_head && name == HEAD);
        let left = self.names.into_keys().filter(|name| !harmless(name));
        let (judges, names): (Vec<String>, Vec<String>) = left.partition(|name| is_judge(name));
        if !names.is_empty() {
            return Err(Error::UnexpectedTensors { names, file: self.origin });
        }
        let unused =
            (!judges.is_empty()).then_some(Warning::UnusedTensors { file: self.origin, names: judges });
        Ok(unused.into_iter().collect())
    }
}

/// What programs put before the names of a model's tensors when they save it wrapped: torch.compile, data parallel training,
/// value heads of TRL.
const WRAPPERS: [&str; 3] = ["_orig_mod.", "module.", "pretrained_model."];

/// Gives tensors of a decoder that was saved inside something else, or without the model around it, their usual names.
fn unwrap(files: &mut [SafeFile]) {
    let has =
        |files: &[SafeFile], wanted: &str| files.iter().any(|file| file.names().any(|name| name == wanted));
    if let Some(wrapper) = WRAPPERS.iter().find(|wrapper| has(files, &format!("{wrapper}{EMBEDDING}"))) {
        let inside = |name: String| name.strip_prefix(wrapper).map_or(name.clone(), str::to_owned);
        for file in files.iter_mut() {
            file.rename(inside);
        }
    }
    if has(files, "embed_tokens.weight") {
        // Without its head, as a model of embeddings.
        let inside = |name: String| if name == HEAD { name } else { format!("model.{name}") };
        for file in files.iter_mut() {
            file.rename(inside);
        }
    }
}

/// Refuses files whose weights are packed.
fn require_plain(files: &[SafeFile]) -> Result<()> {
    for file in files {
        for name in file.names() {
            if let Some((_, how)) = PACKED.iter().find(|(end, _)| name.ends_with(end)) {
                let (name, file) = (name.to_owned(), file.path().to_path_buf());
                return Err(Error::PackedTensors { name, file, how });
            }
        }
    }
    Ok(())
}

fn not_downloaded(error: Error) -> Error {
    match error {
        Error::Io { path, source } if source.kind() == std::io::ErrorKind::NotFound => {
            let source = std::io::Error::new(
                source.kind(),
                "the index lists this shard, and it is missing; download it too",
            );
            Error::Io { path, source }
        }
        other => other,
    }
}

fn open_shards(source: &Origin, json: &[u8]) -> Result<Vec<SafeFile>> {
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
        files.insert(shard.clone(), source.safetensors(shard).map_err(not_downloaded)?);
    }
    for (name, shard) in &index.weight_map {
        if files[shard].shape(name).is_none() {
            return Err(Error::MissingTensor { name: name.clone(), file: source.path(shard) });
        }
    }
    Ok(files.into_values().collect())
}
