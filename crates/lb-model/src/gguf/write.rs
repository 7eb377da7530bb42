//! A checkpoint written as a GGUF file.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::Path;

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use lb_io::files::Output;

use super::config::ROPE_FACTORS;
use super::format::{GgufFormat, Matrix};
use super::metadata::{Metadata, metadata, push_text};
use super::{read, types};
use crate::checkpoint::Origin;
use crate::weights::{Safetensors, Stored, is_judge, place, says_nothing};
use crate::{Checkpoint, Error, ModelConfig, Result, RopeScaling};

const VERSION: u32 = 3;
const ALIGNMENT: usize = 32;

/// A tensor of the file to be.
struct Planned {
    name: String,
    /// Without the dimension of the experts.
    shape: Vec<usize>,
    dtype: GgmlDType,
    stored: Stored,
    /// Names in the checkpoint, one per expert; none for what is computed.
    sources: Vec<String>,
    experts: bool,
}

impl Checkpoint {
    /// Writes the checkpoint as a GGUF file, through a temporary file beside it: names, order of rows and choice of
    /// types as llama.cpp has them, tokenizer and chat template in its metadata. Tensors are quantised one by one, so
    /// the peak of memory is the largest of them in f32.
    ///
    /// # Errors
    /// Those of [`load`](Self::load); [`Error::UnsupportedConfig`] for a checkpoint that is a GGUF file already, and
    /// for a tokenizer or a setting that such files cannot hold; [`Error::Io`].
    pub fn write_gguf(&self, path: impl AsRef<Path>, format: GgufFormat) -> Result<()> {
        let path = path.as_ref();
        if let Origin::Gguf(file) = self.source() {
            return Err(file.unsupported("general.architecture", "a GGUF file is not converted again"));
        }
        let config = self.config()?;
        let metadata = metadata(self, &config, self.name(), format)?;
        let mut shards = Safetensors::open(self.source())?;
        let planned = plan(&shards, &config, format)?;
        let header = header(&metadata, &planned)?;
        let io = |source| Error::Io { path: path.to_path_buf(), source };
        let mut output = BufWriter::new(Output::create(path).map_err(io)?);
        write(&mut output, path, &header, &planned, &mut shards, &config)?;
        output.into_inner().map_err(std::io::IntoInnerError::into_error).and_then(Output::finish).map_err(io)
    }
}

/// The tensors by their new names, in the order of the file.
fn plan(shards: &Safetensors, config: &ModelConfig, format: GgufFormat) -> Result<Vec<Planned>> {
    let mut planned: BTreeMap<String, Planned> = BTreeMap::new();
    let mut unknown = Vec::new();
    let tied = config.tie_word_embeddings;
    for (source, shape) in shards.shapes() {
        let harmless = says_nothing(source) || is_judge(source) || (tied && source == "lm_head.weight");
        if harmless {
            continue;
        }
        let experts = config.experts.as_ref().map_or(0, |experts| experts.count);
        let place = place(source, config.family.spec())
            .filter(|place| place.expert.is_none_or(|expert| expert < experts));
        let Some(place) = place else {
            unknown.push(source.to_owned());
            continue;
        };
        let columns = shape.last().copied().unwrap_or(0);
        let matrix = Matrix { name: &place.name, columns, layers: config.num_hidden_layers, tied };
        let dtype = if shape.len() < 2 { GgmlDType::F32 } else { format.dtype(&matrix) };
        let entry = planned.entry(place.name.clone()).or_insert_with(|| Planned {
            name: place.name.clone(),
            shape: shape.to_vec(),
            dtype,
            stored: place.stored,
            sources: Vec::new(),
            experts: place.expert.is_some(),
        });
        let at = place.expert.unwrap_or(0);
        // Tensors come sorted by name, 10 before 2.
        entry.sources.resize(entry.sources.len().max(at + 1), String::new());
        source.clone_into(&mut entry.sources[at]);
    }
    if !unknown.is_empty() {
        return Err(Error::UnexpectedTensors { names: unknown, file: shards.origin().to_path_buf() });
    }
    if matches!(config.rope_scaling, RopeScaling::Llama3 { .. } | RopeScaling::Factors { .. }) {
        let (name, shape) = (ROPE_FACTORS.to_owned(), vec![config.head_dim / 2]);
        let (dtype, stored) = (GgmlDType::F32, Stored::Same);
        let factors = Planned { name, shape, dtype, stored, sources: Vec::new(), experts: false };
        planned.insert(ROPE_FACTORS.to_owned(), factors);
    }
    Ok(planned.into_values().collect())
}

impl Planned {
    /// Of the whole tensor, experts included.
    fn full_shape(&self) -> Vec<usize> {
        self.experts.then_some(self.sources.len()).into_iter().chain(self.shape.iter().copied()).collect()
    }

    fn size(&self) -> Result<usize> {
        let shape = self.full_shape();
        let count = shape.iter().try_fold(1usize, |n, &dim| n.checked_mul(dim));
        count.and_then(|count| types::bytes(self.dtype, count)).ok_or_else(|| Error::Shape {
            arg: "weight",
            expected: "fewer numbers".to_owned(),
            got: shape,
        })
    }

    /// The bytes of one part, read and quantised.
    fn bytes(&self, source: &str, shards: &mut Safetensors, config: &ModelConfig) -> Result<Vec<u8>> {
        let tensor = shards.claim(source, &self.shape)?.load_finite(source, &Device::Cpu)?;
        let tensor = tensor.to_dtype(DType::F32)?;
        let spec = config.family.spec();
        let tensor = match self.stored {
            Stored::Queries if spec.gguf_adjacent_pairs => in_pairs(&tensor, config.num_attention_heads)?,
            Stored::Keys if spec.gguf_adjacent_pairs => in_pairs(&tensor, config.num_key_value_heads)?,
            Stored::Gain if spec.norm_offset != 0.0 => (tensor + spec.norm_offset)?,
            _ => tensor,
        };
        Ok(QTensor::quantize(&tensor, self.dtype)?.data()?.into_owned())
    }
}

/// Rows of every head from all firsts of the rotary pairs before all seconds to the order (first, second).
fn in_pairs(tensor: &Tensor, heads: usize) -> Result<Tensor> {
    let shape = tensor.dims().to_vec();
    let columns = shape.get(1).copied().unwrap_or(1);
    let split = tensor.reshape((heads, 2, shape[0] / heads / 2, columns))?;
    Ok(split.transpose(1, 2)?.contiguous()?.reshape(shape)?)
}

fn header(metadata: &Metadata, planned: &[Planned]) -> Result<Vec<u8>> {
    let mut bytes = read::MAGIC.to_vec();
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend((planned.len() as u64).to_le_bytes());
    bytes.extend(metadata.count.to_le_bytes());
    bytes.extend(&metadata.bytes);
    let mut offset = 0;
    for tensor in planned {
        let shape = tensor.full_shape();
        push_text(&mut bytes, &tensor.name);
        bytes.extend((shape.len() as u32).to_le_bytes());
        bytes.extend(shape.iter().rev().flat_map(|&dim| (dim as u64).to_le_bytes()));
        bytes.extend(types::number(tensor.dtype).to_le_bytes());
        bytes.extend((offset as u64).to_le_bytes());
        offset += tensor.size()?.next_multiple_of(ALIGNMENT);
    }
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
    Ok(bytes)
}

fn write(
    file: &mut impl Write,
    path: &Path,
    header: &[u8],
    planned: &[Planned],
    shards: &mut Safetensors,
    config: &ModelConfig,
) -> Result<()> {
    let io = |source| Error::Io { path: path.to_path_buf(), source };
    file.write_all(header).map_err(io)?;
    for tensor in planned {
        let mut written = 0;
        if tensor.name == ROPE_FACTORS {
            let factors = crate::rope::frequency_factors(config);
            written += factors.len() * 4;
            file.write_all(&factors.iter().flat_map(|f| f.to_le_bytes()).collect::<Vec<_>>()).map_err(io)?;
        }
        for source in &tensor.sources {
            let bytes = tensor.bytes(source, shards, config)?;
            written += bytes.len();
            file.write_all(&bytes).map_err(io)?;
        }
        let size = tensor.size()?;
        crate::config::check(written == size, "weight", written, "as many bytes as its shape says")?;
        file.write_all(&vec![0; size.next_multiple_of(ALIGNMENT) - size]).map_err(io)?;
    }
    Ok(())
}
