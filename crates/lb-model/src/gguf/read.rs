//! The header of a GGUF file, read with hard bounds: whatever the bytes, no more is allocated than a small multiple of
//! what the file holds.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>, versions 2 and 3, little endian.

use std::collections::BTreeMap;
use std::ops::Range;

use super::types::{self, Kind};
use super::value::{Type, Value};

pub(crate) const MAGIC: &[u8; 4] = b"GGUF";
const VERSIONS: [u32; 2] = [2, 3];
/// Metadata and the list of tensors together; vocabularies of 256,000 tokens take about 20 MB.
const MAX_HEADER: usize = 1 << 28;
const MAX_ENTRIES: u64 = 1 << 16;
const MAX_TENSORS: u64 = 1 << 20;
const MAX_KEY: u64 = (1 << 16) - 1;
const MAX_NAME: u64 = 256;
const MAX_DIMS: u32 = 4;
const ALIGNMENT: u64 = 32;

/// What is wrong, in words; the caller knows the file.
type Result<T> = std::result::Result<T, String>;

/// Where a tensor lies.
#[derive(Debug, Clone)]
pub(crate) struct Info {
    pub(crate) kind: Kind,
    /// Rows before columns, the reverse of the file's order.
    pub(crate) shape: Vec<usize>,
    /// Bytes of the file; empty for a type whose size is not known here.
    pub(crate) range: Range<usize>,
    /// Of a file in several parts, which one; from 0.
    pub(crate) part: usize,
}

pub(super) struct Header {
    pub(super) values: BTreeMap<String, Value>,
    pub(super) tensors: BTreeMap<String, Info>,
}

/// Reads the header of a whole file.
pub(super) fn header(bytes: &[u8]) -> Result<Header> {
    let mut reader = Reader { bytes: &bytes[..bytes.len().min(MAX_HEADER)], at: 0 };
    if reader.take(4)? != MAGIC {
        return Err("it does not begin with GGUF".to_owned());
    }
    let version = reader.u32()?;
    if VERSIONS.contains(&version.swap_bytes()) {
        return Err("a big-endian file; only little-endian ones are read".to_owned());
    }
    if !VERSIONS.contains(&version) {
        return Err(format!("version {version}; only 2 and 3 are read"));
    }
    let (tensors, entries) = (reader.u64()?, reader.u64()?);
    if tensors > MAX_TENSORS || entries > MAX_ENTRIES {
        return Err(format!(
            "{tensors} tensors and {entries} metadata entries; at most {MAX_TENSORS} and {MAX_ENTRIES} are read"
        ));
    }
    let mut values = BTreeMap::new();
    for _ in 0..entries {
        let key = reader.text(MAX_KEY)?.to_owned();
        let value = reader.value(&key)?;
        if values.insert(key.clone(), value).is_some() {
            return Err(format!("the key `{key}` appears twice"));
        }
    }
    let infos = (0..tensors).map(|_| reader.tensor()).collect::<Result<Vec<_>>>()?;
    let alignment = alignment(&values)?;
    let start = (reader.at as u64).next_multiple_of(alignment);
    let tensors = place(infos, start, alignment, bytes.len() as u64)?;
    Ok(Header { values, tensors })
}

fn alignment(values: &BTreeMap<String, Value>) -> Result<u64> {
    match values.get("general.alignment") {
        None => Ok(ALIGNMENT),
        Some(Value::Unsigned(n)) if n.is_power_of_two() && (8..=1 << 20).contains(n) => Ok(*n),
        Some(other) => Err(format!("`general.alignment` is {other:?}, not a power of two from 8 to 2^20")),
    }
}

/// A tensor as the header lists it: offset from the start of the data.
struct Listed {
    name: String,
    kind: Kind,
    shape: Vec<usize>,
    offset: u64,
}

/// Checks that every tensor lies inside the file, and none in another.
fn place(listed: Vec<Listed>, start: u64, alignment: u64, len: u64) -> Result<BTreeMap<String, Info>> {
    let mut tensors = BTreeMap::new();
    let mut extents = Vec::with_capacity(listed.len());
    for Listed { name, kind, shape, offset } in listed {
        if !offset.is_multiple_of(alignment) {
            return Err(format!("`{name}` at {offset} is not aligned to {alignment}"));
        }
        let size = size(&name, kind, &shape)?;
        let begin = start.checked_add(offset);
        let end = begin.and_then(|begin| begin.checked_add(size)).filter(|&end| end <= len);
        let (Some(begin), Some(end)) = (begin, end) else {
            return Err(format!(
                "`{name}` of {size} bytes at {start} + {offset} is outside of a file of {len} (truncated?)"
            ));
        };
        extents.push((begin, end, name.clone()));
        let info = Info { kind, shape, range: begin as usize..end as usize, part: 0 };
        if tensors.insert(name.clone(), info).is_some() {
            return Err(format!("the tensor `{name}` appears twice"));
        }
    }
    extents.sort();
    for pair in extents.windows(2) {
        if pair[0].1 > pair[1].0 {
            return Err(format!("`{}` and `{}` overlap", pair[0].2, pair[1].2));
        }
    }
    Ok(tensors)
}

/// Bytes of a tensor, 0 where its type is not known.
fn size(name: &str, kind: Kind, shape: &[usize]) -> Result<u64> {
    let absurd = || format!("`{name}` has the absurd shape {shape:?}");
    let count = shape.iter().try_fold(1usize, |n, &dim| n.checked_mul(dim)).ok_or_else(absurd)?;
    if shape.is_empty() || count == 0 {
        return Err(absurd());
    }
    let Kind::Known(dtype) = kind else { return Ok(0) };
    let columns = shape[shape.len() - 1];
    if !columns.is_multiple_of(dtype.block_size()) {
        return Err(format!("rows of {columns} numbers in `{name}` are no whole blocks of {}", kind.name()));
    }
    types::bytes(dtype, count).map(|n| n as u64).ok_or_else(absurd)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.bytes.len());
        let Some(end) = end else {
            return Err(format!("the header ends after {} bytes (truncated?)", self.bytes.len()));
        };
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let taken = self.take(N)?;
        Ok(std::array::from_fn(|i| taken[i]))
    }

    fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// The place of a string.
    fn string(&mut self, most: u64) -> Result<Range<usize>> {
        let len = self.u64()?;
        if len > most {
            return Err(format!("a string of {len} bytes at {}, at most {most} are read", self.at));
        }
        let start = self.at;
        self.take(len as usize)?;
        Ok(start..self.at)
    }

    fn text(&mut self, most: u64) -> Result<&'a str> {
        let range = self.string(most)?;
        let start = range.start;
        std::str::from_utf8(&self.bytes[range]).map_err(|_| format!("the name at {start} is not UTF-8"))
    }

    fn value(&mut self, key: &str) -> Result<Value> {
        let number = self.u32()?;
        let kind =
            Type::from_number(number).ok_or_else(|| format!("`{key}` has the unknown type {number}"))?;
        if kind == Type::Array {
            return self.list(key);
        }
        if kind == Type::Text {
            return Ok(Value::Text(self.string(MAX_HEADER as u64)?));
        }
        let bytes = self.take(kind.size())?;
        Value::scalar(kind, bytes).ok_or_else(|| format!("`{key}` is neither true nor false"))
    }

    /// Elements are walked over here and read when asked for.
    fn list(&mut self, key: &str) -> Result<Value> {
        let (number, count) = (self.u32()?, self.u64()?);
        let kind = Type::from_number(number).filter(|kind| *kind != Type::Array);
        let kind =
            kind.ok_or_else(|| format!("`{key}` is a list of the type {number}, which is not read"))?;
        let start = self.at;
        // Every element takes at least one byte, every string at least eight.
        let most = (self.bytes.len() - start) / kind.size();
        let count = usize::try_from(count).ok().filter(|count| *count <= most);
        let Some(count) = count else {
            return Err(format!("`{key}` lists more than the header holds"));
        };
        if kind == Type::Text {
            for _ in 0..count {
                self.string(MAX_HEADER as u64)?;
            }
        } else {
            self.take(count * kind.size())?;
        }
        Ok(Value::List { kind, count, range: start..self.at })
    }

    fn tensor(&mut self) -> Result<Listed> {
        let name = self.text(MAX_NAME)?.to_owned();
        let dims = self.u32()?;
        if dims > MAX_DIMS {
            return Err(format!("`{name}` has {dims} dimensions"));
        }
        let mut shape = Vec::new();
        for _ in 0..dims {
            let dim = self.u64()?;
            shape.push(usize::try_from(dim).map_err(|_| format!("`{name}` has a dimension of {dim}"))?);
        }
        shape.reverse();
        let kind = Kind::from_number(self.u32()?);
        Ok(Listed { name, kind, shape, offset: self.u64()? })
    }
}
