//! GGUF files taken apart and put together, sharing no code with `lb-model`.

use std::fs;
use std::path::{Path, PathBuf};

/// A value of the metadata, as far as the tests make them.
#[derive(Clone, Debug)]
pub enum Value {
    /// A number.
    U32(u32),
    /// A number.
    F32(f32),
    /// A text.
    Text(String),
    /// A list of numbers.
    U32s(Vec<u32>),
    /// Number of the type and bytes of anything else.
    Raw(u32, Vec<u8>),
}

/// What a file says of one tensor.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Columns first.
    pub dims: Vec<u64>,
    /// The number of its format.
    pub kind: u32,
    /// Where its bytes begin in the data.
    pub offset: u64,
}

/// A whole file.
pub struct Gguf {
    /// Keys and values of the metadata.
    pub values: Vec<(String, Value)>,
    /// What it says of its tensors.
    pub tensors: Vec<Tensor>,
    /// The bytes of all tensors.
    pub data: Vec<u8>,
}

struct Bytes<'a>(&'a [u8], usize);

impl Bytes<'_> {
    fn take(&mut self, count: usize) -> &[u8] {
        self.1 += count;
        &self.0[self.1 - count..self.1]
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().unwrap())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take(8).try_into().unwrap())
    }

    fn text(&mut self) -> String {
        let len = self.u64() as usize;
        String::from_utf8(self.take(len).to_vec()).unwrap()
    }

    fn skip(&mut self, kind: u32) {
        match kind {
            0 | 1 | 7 => drop(self.take(1).len()),
            2 | 3 => drop(self.take(2).len()),
            4..=6 => drop(self.u32()),
            8 => drop(self.text()),
            9 => {
                let (kind, count) = (self.u32(), self.u64());
                (0..count).for_each(|_| self.skip(kind));
            }
            _ => drop(self.u64()),
        }
    }

    fn value(&mut self) -> Value {
        let kind = self.u32();
        let start = self.1;
        self.skip(kind);
        Value::Raw(kind, self.0[start..self.1].to_vec())
    }
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

impl Gguf {
    /// Takes a file apart.
    pub fn read(path: &Path) -> Self {
        let file = fs::read(path).unwrap();
        let mut bytes = Bytes(&file, 8);
        let (tensors, values) = (bytes.u64(), bytes.u64());
        let values = (0..values).map(|_| (bytes.text(), bytes.value())).collect();
        let tensors = (0..tensors).map(|_| {
            let name = bytes.text();
            let dims = bytes.u32();
            let dims = (0..dims).map(|_| bytes.u64()).collect();
            Tensor { name, dims, kind: bytes.u32(), offset: bytes.u64() }
        });
        let tensors = tensors.collect();
        let data = file[bytes.1.next_multiple_of(32)..].to_vec();
        Self { values, tensors, data }
    }

    /// Puts the file together.
    pub fn write(&self, path: &Path) {
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.values.len() as u64).to_le_bytes());
        for (key, value) in &self.values {
            push_text(&mut out, key);
            let mut put = |kind: u32, bytes: &[u8]| {
                out.extend(kind.to_le_bytes());
                out.extend(bytes);
            };
            match value {
                Value::U32(n) => put(4, &n.to_le_bytes()),
                Value::F32(x) => put(6, &x.to_le_bytes()),
                Value::Raw(kind, bytes) => put(*kind, bytes),
                Value::Text(text) => {
                    put(8, &[]);
                    push_text(&mut out, text);
                }
                Value::U32s(numbers) => {
                    put(9, &4u32.to_le_bytes());
                    out.extend((numbers.len() as u64).to_le_bytes());
                    out.extend(numbers.iter().flat_map(|n| n.to_le_bytes()));
                }
            }
        }
        for tensor in &self.tensors {
            push_text(&mut out, &tensor.name);
            out.extend((tensor.dims.len() as u32).to_le_bytes());
            out.extend(tensor.dims.iter().flat_map(|n| n.to_le_bytes()));
            out.extend(tensor.kind.to_le_bytes());
            out.extend(tensor.offset.to_le_bytes());
        }
        out.resize(out.len().next_multiple_of(32), 0);
        out.extend(&self.data);
        fs::write(path, out).unwrap();
    }

    /// Sets a key, or adds it.
    pub fn set(&mut self, key: &str, value: Value) {
        self.values.retain(|(old, _)| old != key);
        self.values.push((key.to_owned(), value));
    }

    /// The tensor of that name.
    pub fn tensor(&mut self, name: &str) -> &mut Tensor {
        self.tensors.iter_mut().find(|tensor| tensor.name == name).unwrap()
    }

    /// Moves a tensor in the data.
    pub fn offset_of(&mut self, name: &str, change: impl FnOnce(u64) -> u64) {
        let tensor = self.tensor(name);
        tensor.offset = change(tensor.offset);
    }

    /// Writes the tensors in `count` files of the names and keys that `llama-gguf-split` gives them, the metadata in the
    /// first.
    pub fn split(&self, folder: &Path, name: &str, count: usize) -> Vec<PathBuf> {
        let mut tensors = self.tensors.clone();
        tensors.sort_by_key(|tensor| tensor.offset);
        let ends: Vec<u64> =
            tensors.iter().skip(1).map(|tensor| tensor.offset).chain([self.data.len() as u64]).collect();
        let small = |number: usize| Value::Raw(2, u16::try_from(number).unwrap().to_le_bytes().to_vec());
        let mut paths = Vec::new();
        for part in 0..count {
            let values = if part == 0 { self.values.clone() } else { Vec::new() };
            let mut file = Self { values, tensors: Vec::new(), data: Vec::new() };
            file.set("split.no", small(part));
            file.set("split.count", small(count));
            let all = i32::try_from(tensors.len()).unwrap();
            file.set("split.tensors.count", Value::Raw(5, all.to_le_bytes().to_vec()));
            for (tensor, end) in tensors.iter().zip(&ends).skip(part).step_by(count) {
                let bytes = &self.data[tensor.offset as usize..*end as usize];
                file.tensors.push(Tensor { offset: file.data.len() as u64, ..tensor.clone() });
                file.data.extend(bytes);
                file.data.resize(file.data.len().next_multiple_of(32), 0);
            }
            let path = folder.join(format!("{name}-{:05}-of-{count:05}.gguf", part + 1));
            file.write(&path);
            paths.push(path);
        }
        paths
    }

    /// Whether the metadata has a key.
    pub fn has(&self, key: &str) -> bool {
        self.values.iter().any(|(known, _)| known == key)
    }
}
