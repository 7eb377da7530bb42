//! A safetensors file, opened once and read tensor by tensor.
//!
//! Plain reads rather than a memory map: no `unsafe`, and a file that is cut short under us is an error instead of
//! a signal. Loading holds one stored tensor at a time.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use serde::Deserialize;

use crate::{Error, Result};

/// Larger headers are refused, like in the reference implementation.
const MAX_HEADER: u64 = 100_000_000;

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

trait ReadSeek: Read + Seek + Send {}
impl<T: Read + Seek + Send> ReadSeek for T {}

/// An open file whose header fits its length.
pub(crate) struct SafeFile {
    path: PathBuf,
    reader: Box<dyn ReadSeek>,
    data_start: u64,
    header: Header,
}

impl SafeFile {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let io = |source| Error::Io { path: path.to_path_buf(), source };
        let file = File::open(path).map_err(io)?;
        let len = file.metadata().map_err(io)?.len();
        Self::read_header(Box::new(file), len, path)
    }

    #[cfg(feature = "embedded")]
    pub(crate) fn from_static(bytes: &'static [u8], path: &Path) -> Result<Self> {
        Self::read_header(Box::new(std::io::Cursor::new(bytes)), bytes.len() as u64, path)
    }

    fn read_header(mut reader: Box<dyn ReadSeek>, len: u64, path: &Path) -> Result<Self> {
        let corrupt = |reason: String| Error::Corrupt { path: path.to_path_buf(), reason };
        let io = |source| Error::Io { path: path.to_path_buf(), source };
        if len < 8 {
            return Err(corrupt(format!("{len} bytes are too few for a header")));
        }
        let mut size = [0; 8];
        reader.read_exact(&mut size).map_err(io)?;
        let size = u64::from_le_bytes(size);
        if size > MAX_HEADER.min(len - 8) {
            return Err(corrupt(format!("a header of {size} bytes in a file of {len}")));
        }
        let mut json = vec![0; size as usize];
        reader.read_exact(&mut json).map_err(io)?;
        let header: Header = serde_json::from_slice(&json).map_err(|e| corrupt(format!("header: {e}")))?;
        check_extents(&header, len - 8 - size).map_err(corrupt)?;
        Ok(Self { path: path.to_path_buf(), reader, data_start: 8 + size, header })
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
        let (bytes, dtype, shape) = self.read(name)?;
        Ok(Tensor::from_raw_buffer(&bytes, dtype, &shape, device)?)
    }

    /// Like `load`, and refuses NaN and infinities.
    pub(crate) fn load_finite(&mut self, name: &str, device: &Device) -> Result<Tensor> {
        let (bytes, dtype, shape) = self.read(name)?;
        if !all_finite(&bytes, dtype) {
            return Err(Error::NonFinite { tensor: name.to_string(), file: self.path.clone() });
        }
        Ok(Tensor::from_raw_buffer(&bytes, dtype, &shape, device)?)
    }

    fn read(&mut self, name: &str) -> Result<(Vec<u8>, DType, Vec<usize>)> {
        let (file, io_path) = (self.path.clone(), self.path.clone());
        let Some(info) = self.header.tensors.get(name) else {
            return Err(Error::MissingTensor { name: name.to_string(), file });
        };
        let Some(dtype) = float_dtype(&info.dtype) else {
            return Err(Error::TensorDtype { name: name.to_string(), file, got: info.dtype.clone() });
        };
        let (start, end) = info.data_offsets;
        let mut bytes = vec![0; (end - start) as usize];
        let read = self.reader.seek(SeekFrom::Start(self.data_start + start));
        read.and_then(|_| self.reader.read_exact(&mut bytes))
            .map_err(|source| Error::Io { path: io_path, source })?;
        Ok((bytes, dtype, info.shape.clone()))
    }
}

/// Every tensor lies inside the data, has the bytes that its shape and dtype need, and together they fill it.
fn check_extents(header: &Header, data_len: u64) -> std::result::Result<(), String> {
    let mut filled = 0;
    for (name, info) in &header.tensors {
        let (start, end) = info.data_offsets;
        if start > end || end > data_len {
            return Err(format!(
                "`{name}` lies at {start}..{end} of {data_len} data bytes (truncated file?)"
            ));
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
    let narrow = |mask: u16| bytes.chunks_exact(2).all(|b| u16::from_le_bytes([b[0], b[1]]) & mask != mask);
    match dtype {
        DType::BF16 => narrow(0x7F80),
        DType::F16 => narrow(0x7C00),
        _ => bytes.chunks_exact(4).all(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]).is_finite()),
    }
}
