//! GGUF files, as llama.cpp writes them: metadata, tokenizer, chat template and weights in one file, or in several parts.
//!
//! Weights are mapped, not read: on the CPU 16-bit ones and blocks stay in the file, other devices get copies.

mod config;
mod format;
mod keys;
mod metadata;
mod parts;
mod read;
mod tokenizer;
pub(crate) mod types;
mod value;
mod write;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::Device;
use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use memmap2::Mmap;

pub(crate) use config::ROPE_FACTORS;
pub use format::GgufFormat;
pub(crate) use read::{Info, MAGIC};
use value::{Type, Value};

use crate::checkpoint::read_file;
use crate::safefile::map;
use crate::{Error, Result};

/// An open file whose header fits its length; the first of its parts, where there are several.
pub(crate) struct Gguf {
    path: PathBuf,
    /// That of the metadata.
    map: Arc<Mmap>,
    values: BTreeMap<String, Value>,
    tensors: BTreeMap<String, Info>,
    /// The other parts; tensors say which they are in.
    others: Vec<Arc<Mmap>>,
    /// Their files.
    beside: Vec<PathBuf>,
}

impl fmt::Debug for Gguf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gguf({}, {} tensors)", self.path.display(), self.tensors.len())
    }
}

/// Whether a file is of this format, by its name or its first bytes.
pub(crate) fn is_gguf(path: &Path) -> bool {
    let named = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf"));
    let begins = || {
        let mut magic = [0; 4];
        File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && &magic == read::MAGIC
    };
    path.is_file() && (named || begins())
}

impl Gguf {
    /// # Errors
    /// [`Error::Io`]; [`Error::Corrupt`] with what does not fit; [`Error::MissingParts`] where the file is one of several
    /// and others are not beside it.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Self::whole(Self::one(path)?)
    }

    /// One file, whether it is all or not.
    fn one(path: &Path) -> Result<Self> {
        let map = map(path)?;
        let header = read::header(&map).map_err(|reason| Error::Corrupt {
            path: path.to_path_buf(),
            reason: format!("GGUF header: {reason}"),
        })?;
        let (values, tensors) = (header.values, header.tensors);
        Ok(Self { path: path.to_path_buf(), map, values, tensors, others: Vec::new(), beside: Vec::new() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// All files of the model.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(&self.path).chain(&self.beside).map(PathBuf::as_path)
    }

    /// The map that a tensor lies in.
    pub(crate) fn map_of(&self, tensor: &Info) -> &Arc<Mmap> {
        tensor.part.checked_sub(1).map_or(&self.map, |other| &self.others[other])
    }

    pub(crate) fn tensors(&self) -> &BTreeMap<String, Info> {
        &self.tensors
    }

    /// What stands in the metadata instead of the small files of a folder; tokenizer.json and chat_template.jinja may
    /// lie beside the file where the metadata lacks them.
    pub(crate) fn small_file(&self, name: &str) -> Result<Option<Cow<'static, [u8]>>> {
        let beside = || read_file(self.path.with_file_name(name));
        match name {
            "tokenizer.json" => Ok(Some(self.tokenizer_json()?)),
            "tokenizer_config.json" => Ok(Some(Cow::Owned(self.tokenizer_config()?))),
            "chat_template.jinja" => match self.chat_template()? {
                Some(template) => Ok(Some(Cow::Owned(template.as_bytes().to_vec()))),
                None => beside(),
            },
            _ => Ok(None),
        }
    }

    fn missing(&self, key: &str) -> Error {
        Error::MissingField { path: self.path.clone(), field: key.to_owned() }
    }

    /// A value as errors and warnings name it.
    fn shown(&self, key: &str) -> String {
        match self.values.get(key) {
            Some(Value::Text(range)) => format!("{:?}", String::from_utf8_lossy(&self.map[range.clone()])),
            Some(Value::List { count, .. }) => format!("a list of {count}"),
            Some(Value::Unsigned(n)) => n.to_string(),
            Some(Value::Signed(n)) => n.to_string(),
            Some(Value::Float(x)) => x.to_string(),
            Some(Value::Bool(b)) => b.to_string(),
            None => "nothing".to_owned(),
        }
    }

    /// The error for a value that is not supported.
    fn unsupported(&self, key: &str, reason: &str) -> Error {
        let value = self.shown(key);
        Error::UnsupportedConfig { field: key.to_owned(), value, reason: reason.to_owned() }
    }

    fn mistyped(&self, key: &str, expected: &'static str) -> Error {
        let got = self.values.get(key).map_or("nothing", Value::describe);
        Error::FieldType { path: self.path.clone(), field: key.to_owned(), expected, got }
    }

    /// A value read by `read`, `None` where there is none.
    fn typed<T>(
        &self,
        key: &str,
        expected: &'static str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let value = self.values.get(key);
        value.map(|value| read(value).ok_or_else(|| self.mistyped(key, expected))).transpose()
    }

    fn count(&self, key: &str) -> Result<Option<usize>> {
        self.typed(key, "an integer of at least 0", Value::count)
    }

    fn number(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a number", Value::number)
    }

    fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "a boolean", |value| if let Value::Bool(b) = value { Some(*b) } else { None })
    }

    /// An id of the vocabulary.
    fn token(&self, key: &str) -> Result<Option<u32>> {
        let id = |value: &Value| value.count().and_then(|id| u32::try_from(id).ok());
        self.typed(key, "a token id", id)
    }

    fn text(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "a string in UTF-8", |value| match value {
            Value::Text(range) => std::str::from_utf8(&self.map[range.clone()]).ok(),
            _ => None,
        })
    }

    fn strings(&self, key: &str) -> Result<Option<Vec<&str>>> {
        self.typed(key, "a list of strings in UTF-8", |value| match value {
            Value::List { kind: Type::Text, count, range } => {
                let mut rest = &self.map[range.clone()];
                let mut strings = Vec::with_capacity(*count);
                for _ in 0..*count {
                    let (len, behind) = rest.split_first_chunk::<8>()?;
                    let (string, behind) =
                        behind.split_at_checked(usize::try_from(u64::from_le_bytes(*len)).ok()?)?;
                    strings.push(std::str::from_utf8(string).ok()?);
                    rest = behind;
                }
                Some(strings)
            }
            _ => None,
        })
    }

    fn numbers(&self, key: &str) -> Result<Option<Vec<f64>>> {
        self.typed(key, "a list of numbers", |value| match value {
            Value::List { kind, range, .. } if !matches!(kind, Type::Text | Type::Array) => {
                let bytes = self.map[range.clone()].chunks_exact(kind.size());
                bytes.map(|bytes| Value::scalar(*kind, bytes)?.number()).collect()
            }
            _ => None,
        })
    }
}

/// Blocks as candle holds them; `bytes` are those that type and shape need.
pub(crate) fn tensor(bytes: &[u8], dtype: GgmlDType, shape: &[usize], device: &Device) -> Result<QTensor> {
    let expected =
        shape.iter().try_fold(1usize, |n, &dim| n.checked_mul(dim)).and_then(|n| types::bytes(dtype, n));
    crate::config::check(
        expected == Some(bytes.len()),
        "weight",
        bytes.len(),
        "as many bytes as its shape says",
    )?;
    // candle casts the bytes, and panics on odd addresses.
    let aligned = bytes.as_ptr().align_offset(align_of::<u64>()) == 0;
    let copy = if aligned { Vec::new() } else { words(bytes) };
    let bytes = if aligned { bytes } else { &bytemuck::cast_slice(&copy)[..bytes.len()] };
    let storage = QStorage::from_data(bytes.into(), device, dtype)?;
    Ok(QTensor::new(storage, shape)?)
}

/// A copy of bytes at an address that fits every type.
fn words(bytes: &[u8]) -> Vec<u64> {
    let mut words = vec![0u64; bytes.len().div_ceil(8)];
    bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
    words
}

impl Gguf {
    /// A file in memory, of metadata alone.
    fn of_metadata(metadata: &metadata::Metadata) -> Result<Self> {
        let path = PathBuf::from("memory.gguf");
        let mut bytes = read::MAGIC.to_vec();
        bytes.extend(3u32.to_le_bytes());
        bytes.extend(0u64.to_le_bytes());
        bytes.extend(metadata.count.to_le_bytes());
        bytes.extend(&metadata.bytes);
        let header = read::header(&bytes).map_err(|reason| Error::Corrupt { path: path.clone(), reason })?;
        let io = |source| Error::Io { path: path.clone(), source };
        let mut map = memmap2::MmapMut::map_anon(bytes.len()).map_err(io)?;
        map.copy_from_slice(&bytes);
        let map = Arc::new(map.make_read_only().map_err(io)?);
        Ok(Self {
            path,
            map,
            values: header.values,
            tensors: header.tensors,
            others: Vec::new(),
            beside: Vec::new(),
        })
    }
}
