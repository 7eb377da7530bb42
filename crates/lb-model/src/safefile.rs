//! A safetensors file, opened once and read tensor by tensor.
//!
//! Checkpoints are mapped: 16-bit weights are then used where they lie in the file, and processes share them. Saved
//! caches are read plainly, so that one that is cut short under us is an error instead of a signal.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use lb_io::files::{HEADER, Output, open_regular};
use memmap2::Mmap;
use rayon::prelude::*;
use serde::Deserialize;

use crate::matrix::Bits;
use crate::{Error, Result, misfiled};

#[derive(Debug, Deserialize)]
struct Info {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

#[derive(Deserialize)]
struct Header {
    #[serde(rename = "__metadata__", default)]
    metadata: HashMap<String, String>,
    #[serde(flatten)]
    tensors: BTreeMap<String, Info>,
}

/// Where the bytes are.
enum Content {
    File(File),
    Mapped(Arc<Mmap>),
    #[cfg(feature = "embedded")]
    Static(&'static [u8]),
}

impl Content {
    fn bytes(&mut self, range: Range<usize>) -> std::io::Result<Cow<'_, [u8]>> {
        match self {
            Self::File(file) => {
                let mut bytes = vec![0; range.len()];
                file.seek(SeekFrom::Start(range.start as u64))?;
                file.read_exact(&mut bytes)?;
                Ok(Cow::Owned(bytes))
            }
            Self::Mapped(map) => Ok(Cow::Borrowed(&map[range])),
            #[cfg(feature = "embedded")]
            Self::Static(bytes) => Ok(Cow::Borrowed(&bytes[range])),
        }
    }
}

/// An open file whose header fits its length.
pub(crate) struct SafeFile {
    path: PathBuf,
    content: Content,
    data_start: usize,
    header: Header,
}

/// Maps a file for reading.
pub(crate) fn map(path: &Path) -> Result<Arc<Mmap>> {
    let io = |source| Error::Io { path: path.to_path_buf(), source };
    let file = open_regular(path).map_err(io)?;
    #[allow(
        unsafe_code,
        reason = "a mapped file is unsound only if another process cuts it, as for every loader that maps"
    )]
    let map = unsafe { Mmap::map(&file) }.map_err(io)?;
    Ok(Arc::new(map))
}

/// Writes tensors and metadata to `path`, through a temporary file beside it.
pub(crate) fn write<N: AsRef<str> + Ord + std::fmt::Display>(
    path: &Path,
    tensors: impl IntoIterator<Item = (N, Tensor)>,
    metadata: HashMap<String, String>,
) -> Result<()> {
    let io = |source| Error::Io { path: path.to_path_buf(), source };
    let output = Output::create(path).map_err(io)?;
    safetensors::serialize_to_file(tensors, Some(metadata), output.path()).map_err(|e| match e {
        safetensors::SafeTensorError::IoError(source) => io(source),
        other => Error::Corrupt { path: path.to_path_buf(), reason: other.to_string() },
    })?;
    output.finish().map_err(io)
}

impl SafeFile {
    /// Reads a file plainly.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let io = |source| Error::Io { path: path.to_path_buf(), source };
        let file = open_regular(path).map_err(io)?;
        let len = file.metadata().map_err(io)?.len();
        Self::read_header(Content::File(file), len, path)
    }

    /// Maps a file, whose weights may then be used in place.
    pub(crate) fn map(path: &Path) -> Result<Self> {
        let map = map(path)?;
        let len = map.len() as u64;
        Self::read_header(Content::Mapped(map), len, path)
    }

    #[cfg(feature = "embedded")]
    pub(crate) fn from_static(bytes: &'static [u8], path: &Path) -> Result<Self> {
        Self::read_header(Content::Static(bytes), bytes.len() as u64, path)
    }

    fn read_header(mut content: Content, len: u64, path: &Path) -> Result<Self> {
        let corrupt = |reason: String| Error::Corrupt { path: path.to_path_buf(), reason };
        let io = |source| Error::Io { path: path.to_path_buf(), source };
        let beginning = content.bytes(0..len.min(misfiled::BEGINNING as u64) as usize).map_err(io)?;
        misfiled::check(path, &beginning)?;
        misfiled::check_no_gguf(path, &beginning)?;
        let Some(size) = beginning.first_chunk().copied().map(u64::from_le_bytes) else {
            return Err(corrupt(format!("{len} bytes are too few for a header")));
        };
        drop(beginning);
        if size > HEADER {
            return Err(corrupt(format!("it does not begin as safetensors do (a header of {size} bytes)")));
        }
        if size > len - 8 {
            return Err(corrupt(format!(
                "cut short inside its header, {len} bytes of {} and more",
                size + 8
            )));
        }
        let json = content.bytes(8..8 + size as usize).map_err(io)?;
        let header: Header = serde_json::from_slice(&json).map_err(|e| corrupt(format!("header: {e}")))?;
        check_extents(&header, len - 8 - size).map_err(corrupt)?;
        drop(json);
        Ok(Self { path: path.to_path_buf(), content, data_start: 8 + size as usize, header })
    }

    /// Names tensors anew.
    pub(crate) fn rename(&mut self, name: impl Fn(String) -> String) {
        let tensors = std::mem::take(&mut self.header.tensors);
        self.header.tensors = tensors.into_iter().map(|(old, info)| (name(old), info)).collect();
    }

    /// Whether this tensor and one of another file are the same bytes of the same type and shape; false where one is
    /// missing.
    pub(crate) fn same(&mut self, name: &str, other: &mut Self, twin: &str) -> Result<bool> {
        let (Ok(one), Ok(two)) = (self.find(name), other.find(twin)) else { return Ok(false) };
        Ok((one.0, &one.1) == (two.0, &two.1) && self.read(one.2)? == other.read(two.2)?)
    }

    /// Like [`same`](Self::same), of this file.
    pub(crate) fn same_within(&mut self, name: &str, twin: &str) -> Result<bool> {
        let (Ok(one), Ok(two)) = (self.find(name), self.find(twin)) else { return Ok(false) };
        if (one.0, &one.1) != (two.0, &two.1) {
            return Ok(false);
        }
        if let Content::Mapped(map) = &self.content {
            return Ok(map[one.2] == map[two.2]);
        }
        let bytes = self.read(one.2)?.into_owned();
        Ok(bytes == *self.read(two.2)?)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn metadata(&self, key: &str) -> Option<&str> {
        self.header.metadata.get(key).map(String::as_str)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.header.tensors.keys().map(String::as_str)
    }

    pub(crate) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.header.tensors.get(name).map(|info| info.shape.as_slice())
    }

    pub(crate) fn dtype(&self, name: &str) -> Option<DType> {
        self.header.tensors.get(name).and_then(|info| float_dtype(&info.dtype))
    }

    /// Reads one tensor in its stored dtype.
    pub(crate) fn load(&mut self, name: &str, device: &Device) -> Result<Tensor> {
        let (dtype, shape, range) = self.find(name)?;
        let bytes = self.read(range)?;
        Ok(Tensor::from_raw_buffer(&bytes, dtype, &shape, device)?)
    }

    /// Like `load`, and refuses NaN and infinities.
    pub(crate) fn load_finite(&mut self, name: &str, device: &Device) -> Result<Tensor> {
        let (dtype, shape, range) = self.find(name)?;
        let file = self.path.clone();
        let bytes = self.read(range)?;
        if !all_finite(&bytes, dtype) {
            return Err(Error::NonFinite { tensor: name.to_string(), file });
        }
        Ok(Tensor::from_raw_buffer(&bytes, dtype, &shape, device)?)
    }

    /// The bytes of a tensor of so many; unlike weights it is in U8.
    pub(crate) fn load_codes(&mut self, name: &str, len: usize) -> Result<Vec<u8>> {
        let file = self.path.clone();
        let Some(info) = self.header.tensors.get(name) else {
            return Err(Error::MissingTensor { name: name.to_string(), file });
        };
        if info.dtype != "U8" {
            return Err(Error::TensorDtype { name: name.to_string(), file, got: info.dtype.clone() });
        }
        let (start, end) = info.data_offsets;
        if info.shape != [len] || end - start != len as u64 {
            let (expected, got) = (vec![len], info.shape.clone());
            return Err(Error::TensorShape { name: name.to_string(), file, expected, got });
        }
        let range = self.data_start + start as usize..self.data_start + end as usize;
        Ok(self.read(range)?.into_owned())
    }

    /// The 16-bit numbers of a tensor, in place where the file is mapped. Refuses NaN and infinities.
    pub(crate) fn bits(&mut self, name: &str) -> Result<Bits> {
        let (dtype, _, range) = self.find(name)?;
        self.require_finite(name, dtype, range.clone())?;
        match &self.content {
            Content::Mapped(map) => Ok(Bits::mapped(map, range)),
            _ => Ok(Bits::copied(&self.read(range)?)),
        }
    }

    fn require_finite(&mut self, name: &str, dtype: DType, range: Range<usize>) -> Result<()> {
        let finite = all_finite(&self.read(range)?, dtype);
        let error = || Error::NonFinite { tensor: name.to_string(), file: self.path.clone() };
        if finite { Ok(()) } else { Err(error()) }
    }

    fn find(&self, name: &str) -> Result<(DType, Vec<usize>, Range<usize>)> {
        let file = self.path.clone();
        let Some(info) = self.header.tensors.get(name) else {
            return Err(Error::MissingTensor { name: name.to_string(), file });
        };
        let Some(dtype) = float_dtype(&info.dtype) else {
            return Err(Error::TensorDtype { name: name.to_string(), file, got: info.dtype.clone() });
        };
        let (start, end) = info.data_offsets;
        let range = self.data_start + start as usize..self.data_start + end as usize;
        Ok((dtype, info.shape.clone(), range))
    }

    fn read(&mut self, range: Range<usize>) -> Result<Cow<'_, [u8]>> {
        let path = &self.path;
        self.content.bytes(range).map_err(|source| Error::Io { path: path.clone(), source })
    }
}

/// Every tensor lies inside the data, has the bytes that its shape and dtype need, and together they fill it.
fn check_extents(header: &Header, data_len: u64) -> std::result::Result<(), String> {
    let mut filled = 0;
    let needed = header.tensors.values().map(|info| info.data_offsets.1).max().unwrap_or(0);
    if needed > data_len {
        return Err(format!("cut short, {data_len} of {needed} data bytes; download it again"));
    }
    for (name, info) in &header.tensors {
        let (start, end) = info.data_offsets;
        if start > end {
            return Err(format!("`{name}` lies at {start}..{end} of {data_len} data bytes"));
        }
        if let Some(dtype) = float_dtype(&info.dtype) {
            let count = info.shape.iter().try_fold(dtype.size_in_bytes(), |n, &dim| n.checked_mul(dim));
            if count.map(|n| n as u64) != Some(end - start) {
                return Err(format!(
                    "`{name}` has {} bytes, not those of its shape {:?}",
                    end - start,
                    info.shape
                ));
            }
        }
        filled += end - start;
    }
    if filled == data_len { Ok(()) } else { Err(format!("tensors take {filled} of {data_len} data bytes")) }
}

fn float_dtype(name: &str) -> Option<DType> {
    match name {
        "BF16" => Some(DType::BF16),
        "F16" => Some(DType::F16),
        "F32" => Some(DType::F32),
        _ => None,
    }
}

/// An exponent of all ones is NaN or an infinity.
fn all_finite(bytes: &[u8], dtype: DType) -> bool {
    const PIECE: usize = 1 << 20;
    let narrow = |bytes: &[u8], mask: u16| {
        // No early end: the loop without one runs in vectors.
        bytes.chunks_exact(2).fold(true, |ok, b| ok & (u16::from_le_bytes([b[0], b[1]]) & mask != mask))
    };
    bytes.par_chunks(PIECE).all(|bytes| match dtype {
        DType::BF16 => narrow(bytes, 0x7F80),
        DType::F16 => narrow(bytes, 0x7C00),
        _ => bytes.chunks_exact(4).all(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]).is_finite()),
    })
}
