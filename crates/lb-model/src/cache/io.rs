//! A cache on disk: one safetensors file, keys, values and biases by layer, the rest in its metadata.
//!
//! The metadata field `latent_briefing` holds a JSON header: the format, what the model must look like, and by layer a
//! list of chunks. Chunk c of layer l has the tensors `layers.l.c.keys` and `.values`, `[1, kv_heads, slots, head_dim]`,
//! and, where `bias` is true, `layers.l.c.bias`, `[kv_heads, slots]` in f32. A chunk with `counts`, one per KV head, is
//! ragged: its tensors hold the rows of head 0, then those of head 1 and so on, `[1, 1, rows, head_dim]` and
//! `[1, rows]`; `slots` is the largest count. No padding is written. A chunk of a layer with a window that has not all of its
//! positions lists those it has in `places`.
//!
//! `latent-briefing-kv-1` has no ragged chunks; `latent-briefing-kv-2` is the same with them. Both are read; a cache
//! without ragged chunks is written as the former, so that older readers can use it. `latent-briefing-kv-3` has packed chunks
//! as well, those with `bits`: for keys and values alike `.codes` in U8, `[rows of all heads · bytes of a row]`, and `.grid` in
//! F16, head by head and group by group the zeros of a group, then its steps; and it names the dtype of all other slots.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use lb_kernels::PackedBits;
use serde::{Deserialize, Serialize};

use super::chunk::Chunk;
use super::slots::Slots;
use super::tail::Tail;
use super::{Geometry, KvCache, io_packed};
use crate::config::{read_json, usual_scale};
use crate::safefile::{self, SafeFile};
use crate::{Error, LocalAttention, ModelConfig, Result, RopeScaling};

const FORMAT: &str = "latent-briefing-kv-1";
const RAGGED: &str = "latent-briefing-kv-2";
const PACKED: &str = "latent-briefing-kv-3";
const META: &str = "latent_briefing";

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    format: String,
    logical_len: usize,
    layers: usize,
    kv_heads: usize,
    head_dim: usize,
    rope_theta: f64,
    #[serde(default)]
    rope_scaling: RopeScaling,
    limit: usize,
    /// Of attention; 1/√head_dim where it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scale: Option<f32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    local: Option<LocalAttention>,
    /// Of slots that are not packed, where some are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dtype: Option<String>,
    /// By layer.
    chunks: Vec<Vec<ChunkHeader>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ChunkHeader {
    slots: usize,
    positions: usize,
    exact: bool,
    bias: bool,
    /// The growing end; restored as such, so that later sums run in the same order.
    tail: bool,
    /// Rows of each head of a ragged chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    counts: Option<Vec<usize>>,
    /// Of each number, where they are packed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bits: Option<usize>,
    /// Which positions the slots are, in a layer with a window where they are not all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    places: Option<Vec<u32>>,
}

fn names(layer: usize, chunk: usize) -> [String; 3] {
    ["keys", "values", "bias"].map(|part| format!("layers.{layer}.{chunk}.{part}"))
}

impl KvCache {
    /// Writes the cache to `path`, biases and logical length included, through a temporary file beside it.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Tensor`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        self.save_with(path, None)
    }

    /// Like [`save`](Self::save), with a note in the file's metadata: a key of its owner's and a text. What reads caches alone passes
    /// over it.
    ///
    /// # Errors
    /// Those of [`save`](Self::save).
    pub fn save_with(&self, path: impl AsRef<Path>, note: Option<(&str, String)>) -> Result<()> {
        let path = path.as_ref();
        let (header, tensors) = self.to_parts()?;
        let header = serde_json::to_string(&header)
            .map_err(|source| Error::Json { path: path.to_path_buf(), source })?;
        let mut metadata = HashMap::from([(META.to_string(), header)]);
        metadata.extend(note.map(|(key, text)| (key.to_string(), text)));
        safefile::write(path, tensors, metadata)
    }

    fn to_parts(&self) -> Result<(Header, Vec<(String, Tensor)>)> {
        let mut tensors = Vec::new();
        let mut chunks = Vec::new();
        for (index, layer) in self.layers.iter().enumerate() {
            let tail_len = layer.tail.as_ref().map_or(0, Tail::len);
            let tail = layer.tail.as_ref().filter(|_| tail_len > 0).map(|t| t.view(tail_len));
            let mut headers = Vec::new();
            let frozen = layer.frozen.iter().map(|c| (c, false));
            for (number, (chunk, is_tail)) in frozen.chain(tail.iter().map(|c| (c, true))).enumerate() {
                let [keys, values, bias] = names(index, number);
                let mut bits = None;
                match &chunk.kv {
                    Slots::Plain { keys: own_keys, values: own_values } => {
                        tensors.push((keys, own_keys.contiguous()?));
                        tensors.push((values, own_values.contiguous()?));
                    }
                    Slots::Packed(packed) => {
                        tensors.extend(io_packed::to_tensors(packed, [&keys, &values])?);
                        bits = Some(packed.keys.bits().count());
                    }
                }
                if let Some(b) = &chunk.bias {
                    tensors.push((bias, b.contiguous()?));
                }
                headers.push(ChunkHeader {
                    slots: chunk.slots(),
                    positions: chunk.positions,
                    exact: chunk.exact,
                    bias: chunk.bias.is_some(),
                    tail: is_tail,
                    bits,
                    counts: chunk.counts.as_ref().map(|counts| counts.to_vec()),
                    places: chunk.places.as_ref().map(|places| places.to_vec()),
                });
            }
            chunks.push(headers);
        }
        let Geometry { layers, kv_heads, head_dim, rope_theta, rope_scaling, limit, scale, local } =
            self.geometry.clone();
        let scale = (scale.to_bits() != usual_scale(head_dim).to_bits()).then_some(scale);
        let ragged = chunks.iter().flatten().any(|chunk| chunk.counts.is_some());
        let packed = chunks.iter().flatten().any(|chunk| chunk.bits.is_some());
        let dtype = packed.then(|| self.dtype.as_str().to_string());
        let format = if ragged { RAGGED } else { FORMAT };
        let (format, logical_len) = (if packed { PACKED } else { format }.to_string(), self.logical_len);
        let header = Header {
            format,
            logical_len,
            layers,
            kv_heads,
            head_dim,
            rope_theta,
            rope_scaling,
            limit,
            scale,
            local,
            dtype,
            chunks,
        };
        Ok((header, tensors))
    }

    /// Reads a cache for a model of shape `config`. Decoding from it gives the same bits as from the one saved.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Corrupt`] (truncated, or not a cache), [`Error::Cache`] when it belongs to a model of
    /// another shape, [`Error::TensorShape`], [`Error::NonFinite`] (a bias may be −∞, nothing else).
    pub fn load(path: impl AsRef<Path>, config: &ModelConfig, device: &Device) -> Result<Self> {
        Self::load_from(&mut SafeFile::open(path.as_ref())?, config, device)
    }

    /// Like [`load`](Self::load), with the note under `key` that [`save_with`](Self::save_with) wrote, if there is one.
    ///
    /// # Errors
    /// Those of [`load`](Self::load).
    pub fn load_with(
        path: impl AsRef<Path>,
        key: &str,
        config: &ModelConfig,
        device: &Device,
    ) -> Result<(Self, Option<String>)> {
        let mut file = SafeFile::open(path.as_ref())?;
        let cache = Self::load_from(&mut file, config, device)?;
        Ok((cache, file.metadata(key).map(str::to_string)))
    }

    fn load_from(file: &mut SafeFile, config: &ModelConfig, device: &Device) -> Result<Self> {
        let path = file.path().to_path_buf();
        let path = path.as_path();
        let corrupt = |reason: &str| Error::Corrupt { path: path.to_path_buf(), reason: reason.to_string() };
        let json = file.metadata(META).ok_or_else(|| corrupt("not a saved cache"))?.to_string();
        let header: Header = read_json(json.as_bytes(), path)?;
        if ![FORMAT, RAGGED, PACKED].contains(&header.format.as_str()) {
            let reason = format!("the format {} is none of {FORMAT}, {RAGGED} and {PACKED}", header.format);
            return Err(corrupt(&reason));
        }
        let Header { layers, kv_heads, head_dim, rope_theta, limit, .. } = header;
        let (rope_scaling, local) = (header.rope_scaling.clone(), header.local.clone());
        let scale = header.scale.unwrap_or_else(|| usual_scale(head_dim));
        let geometry = Geometry { layers, kv_heads, head_dim, rope_theta, rope_scaling, limit, scale, local };
        let dtype = match &header.dtype {
            None => file.dtype(&names(0, 0)[0]).unwrap_or(DType::F32),
            Some(name) => {
                io_packed::dtype_of(name).ok_or_else(|| corrupt(&format!("no dtype is {name:?}")))?
            }
        };
        let mut cache = Self::new(config, dtype, device);
        if geometry != cache.geometry {
            let reason = format!("{} is for {geometry:?}, the model is {:?}", path.display(), cache.geometry);
            return Err(Error::cache(reason));
        }
        check_header(&header).map_err(|reason| corrupt(&reason))?;
        cache.logical_len = header.logical_len;
        for (index, chunks) in header.chunks.iter().enumerate() {
            for (number, chunk) in chunks.iter().enumerate() {
                cache.load_chunk(file, index, number, chunk)?;
            }
        }
        Ok(cache)
    }

    fn load_chunk(
        &mut self,
        file: &mut SafeFile,
        layer: usize,
        number: usize,
        chunk: &ChunkHeader,
    ) -> Result<()> {
        let [keys, values, bias] = names(layer, number);
        let Geometry { kv_heads, head_dim, .. } = self.geometry;
        let ragged = chunk.counts.as_ref().map(|counts| counts.iter().sum());
        let [heads, rows] = ragged.map_or([kv_heads, chunk.slots], |rows| [1, rows]);
        let shape = [1, heads, rows, head_dim];
        let kv = if let Some(bits) = chunk.bits {
            if !self.device.is_cpu() {
                return Err(Error::cache("packed slots are for the CPU"));
            }
            let no_bits = || Error::cache(format!("chunk {number} of layer {layer} is in {bits} bits"));
            let bits = PackedBits::of(bits).ok_or_else(no_bits)?;
            let counts = chunk.counts.clone().unwrap_or_else(|| vec![chunk.slots; kv_heads]);
            let names = [&*keys, &*values];
            Slots::Packed(io_packed::load(file, names, &counts, head_dim, (bits, self.dtype))?)
        } else {
            let keys = checked(file, &keys, &shape, Some(self.dtype), &self.device)?;
            let values = checked(file, &values, &shape, Some(self.dtype), &self.device)?;
            if chunk.tail {
                return self.layers[layer].append(&keys, &values);
            }
            Slots::Plain { keys, values }
        };
        let bias = if chunk.bias {
            let bias = checked(file, &bias, &[heads, rows], None, &self.device)?;
            Some(bias)
        } else {
            None
        };
        let (positions, exact) = (chunk.positions, chunk.exact);
        let counts = chunk.counts.as_deref().map(Into::into);
        let places = chunk.places.as_deref().map(Into::into);
        self.layers[layer].push(Chunk { kv, bias, counts, positions, exact, places });
        Ok(())
    }
}

/// A tensor of this shape; of `dtype` and finite, or else a bias: f32, finite or −∞.
fn checked(
    file: &mut SafeFile,
    name: &str,
    shape: &[usize],
    dtype: Option<DType>,
    device: &Device,
) -> Result<Tensor> {
    let path = file.path().to_path_buf();
    let got = file.shape(name).unwrap_or_default().to_vec();
    if file.shape(name).is_some() && got != shape {
        return Err(Error::TensorShape { name: name.to_string(), file: path, expected: shape.to_vec(), got });
    }
    let tensor = if dtype.is_some() { file.load_finite(name, device)? } else { file.load(name, device)? };
    let expected = dtype.unwrap_or(DType::F32);
    if tensor.dtype() != expected {
        return Err(Error::Corrupt {
            path,
            reason: format!("`{name}` is {:?}, not {expected:?}", tensor.dtype()),
        });
    }
    if dtype.is_none() {
        let bad = |b: &f32| b.is_nan() || *b == f32::INFINITY;
        if tensor.flatten_all()?.to_vec1::<f32>()?.iter().any(bad) {
            return Err(Error::NonFinite { tensor: name.to_string(), file: path });
        }
    }
    Ok(tensor)
}

/// Whether positions are listed where a window needs them, and nowhere else.
fn placed(header: &Header, layer: usize, chunk: &ChunkHeader) -> bool {
    let windowed = header.local.as_ref().is_some_and(|local| local.layers.get(layer) == Some(&true));
    match &chunk.places {
        None => !windowed || chunk.exact,
        Some(places) => {
            let ascending = places.windows(2).all(|pair| pair[0] < pair[1]);
            let inside = places.last().is_none_or(|last| (*last as usize) < chunk.positions);
            let fits = places.len() == chunk.slots && chunk.counts.is_none() && !chunk.exact;
            windowed && ascending && inside && fits
        }
    }
}

/// Every layer's chunks stand for all positions, and the tail comes last.
fn check_header(header: &Header) -> std::result::Result<(), String> {
    if header.chunks.len() != header.layers {
        return Err(format!("{} layers of chunks for {} layers", header.chunks.len(), header.layers));
    }
    if header.logical_len > header.limit {
        return Err(format!("{} positions are more than {}", header.logical_len, header.limit));
    }
    for (index, chunks) in header.chunks.iter().enumerate() {
        let positions: usize = chunks.iter().map(|c| c.positions).sum();
        if positions != header.logical_len {
            return Err(format!("layer {index} stands for {positions} of {} positions", header.logical_len));
        }
        let last = chunks.len().saturating_sub(1);
        for (number, c) in chunks.iter().enumerate() {
            let plain = !c.tail || (c.exact && !c.bias && c.bits.is_none() && number == last);
            let known = c.bits.is_none_or(|bits| PackedBits::of(bits).is_some());
            let ragged = c.counts.as_ref().is_some_and(|counts| {
                let longest = counts.iter().copied().max();
                c.tail || c.exact || counts.len() != header.kv_heads || longest != Some(c.slots)
            });
            if ragged
                || !plain
                || !known
                || !placed(header, index, c)
                || c.slots > c.positions
                || (c.exact && c.slots != c.positions)
            {
                return Err(format!("chunk {number} of layer {index} contradicts itself"));
            }
        }
    }
    Ok(())
}
