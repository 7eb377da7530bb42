//! Passes over vectors that were trained to be read in the place of tokens, and the files that these lie in.

use std::borrow::BorrowMut;
use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};

use crate::attention::Heard;
use crate::batch::check_count;
use crate::model::{HEADROOM, Rows};
use crate::safefile::{self, SafeFile};
use crate::{Decoder, Error, KvCache, Result, buffers};

const FORMAT: &str = "latent-briefing-vectors-1";
const VECTORS: &str = "vectors";
const PROBE: &str = "probe";

/// Vectors of a file at most. They are read in one pass.
const MOST: usize = 256;

/// Tokens, and numbers of each one's embedding, by which a model is known again.
const PROBED: (usize, usize) = (8, 64);

/// Cosine of two probes from which on both are of one model. Files of one model in 4 bits and more are above it.
const ALIKE: f64 = 0.98;

/// What the sequences of one pass read.
#[derive(Clone, Copy)]
pub(crate) enum Input<'a> {
    /// Of each sequence its tokens.
    Tokens(&'a [&'a [u32]]),
    /// The same rows `[m, hidden]` in each of so many sequences.
    Vectors(&'a Tensor, usize),
}

impl Input<'_> {
    /// Positions of each sequence.
    pub(crate) fn lengths(self) -> Result<Vec<usize>> {
        Ok(match self {
            Self::Tokens(tokens) => tokens.iter().map(|tokens| tokens.len()).collect(),
            Self::Vectors(rows, sequences) => vec![rows.dim(0)?; sequences],
        })
    }
}

/// Vectors `[m, hidden]` that a model reads in the place of the embeddings of `m` tokens (LookaheadKV, arXiv 2603.10899).
///
/// They lie in a safetensors file: `vectors` in f32, f16 or bf16; `probe`, [`Decoder::probe`] of the model that they were trained
/// for; and in the metadata `format`, `model` and `trained_on`, the latter two for people.
#[derive(Debug, Clone)]
pub struct InputVectors {
    rows: Tensor,
    /// Whom they were trained for, in words.
    pub model: String,
    /// What they were trained on, in words.
    pub trained_on: String,
}

impl InputVectors {
    /// `rows` is `[m, hidden]`, what stands behind any scaling of embeddings.
    pub fn new(rows: Tensor) -> Self {
        Self { rows, model: String::new(), trained_on: String::new() }
    }

    /// Reads those of `decoder` from a file.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Corrupt`] for a file that is cut short or no such file, [`Error::MissingTensor`],
    /// [`Error::TensorDtype`], [`Error::TensorShape`] for vectors of another width, none or too many, [`Error::NonFinite`],
    /// [`Error::OtherModel`] for those of another model. Each names the file and the field.
    pub fn load(path: impl AsRef<Path>, decoder: &Decoder) -> Result<Self> {
        Ok(Self::load_with(path, decoder, "")?.0)
    }

    /// The same, and what the metadata says under `key`.
    ///
    /// # Errors
    /// Those of [`load`](Self::load).
    pub fn load_with(path: impl AsRef<Path>, decoder: &Decoder, key: &str) -> Result<(Self, Option<String>)> {
        let path = path.as_ref();
        let mut file = SafeFile::open(path)?;
        let format = file.metadata("format").unwrap_or_default().to_owned();
        if format != FORMAT {
            let reason = format!("`format` is {format:?}, expected {FORMAT:?}");
            return Err(Error::Corrupt { path: path.to_path_buf(), reason });
        }
        let said = |key: &str| file.metadata(key).unwrap_or_default().to_owned();
        let (model, trained_on) = (said("model"), said("trained_on"));
        let note = file.metadata(key).map(str::to_owned);
        let hidden = decoder.config().hidden_size;
        check_shape(&file, VECTORS, |shape| matches!(shape, [1..=MOST, width] if *width == hidden), hidden)?;
        let probe = decoder.probe()?;
        check_shape(&file, PROBE, |shape| shape == probe.dims(), probe.dim(1)?)?;
        let cosine = cosine(&file.load_finite(PROBE, &Device::Cpu)?, &probe)?;
        if cosine.is_nan() || cosine < ALIKE {
            return Err(Error::OtherModel { path: path.to_path_buf(), field: PROBE, trained_for: model });
        }
        let rows = file.load_finite(VECTORS, decoder.device())?.to_dtype(decoder.compute_dtype())?;
        Ok((Self { rows, model, trained_on }, note))
    }

    /// Writes them for `decoder`, in f32.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Tensor`].
    pub fn save(&self, path: impl AsRef<Path>, decoder: &Decoder) -> Result<()> {
        self.save_with(path, decoder, None)
    }

    /// The same with a note in the metadata, under a key of its own.
    ///
    /// # Errors
    /// Those of [`save`](Self::save).
    pub fn save_with(
        &self,
        path: impl AsRef<Path>,
        decoder: &Decoder,
        note: Option<(&str, &str)>,
    ) -> Result<()> {
        let stored = |x: &Tensor| x.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.contiguous();
        let tensors = [(VECTORS, stored(&self.rows)?), (PROBE, stored(&decoder.probe()?)?)];
        let metadata = [("format", FORMAT), ("model", &self.model), ("trained_on", &self.trained_on)];
        let metadata: HashMap<String, String> =
            metadata.into_iter().chain(note).map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        safefile::write(path.as_ref(), tensors, metadata)
    }

    /// `[m, hidden]`.
    pub fn rows(&self) -> &Tensor {
        &self.rows
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.rows.dims().first().copied().unwrap_or(0)
    }
}

impl Decoder {
    /// The embeddings of tokens as the first layer reads them.
    ///
    /// # Shapes
    /// `[tokens, hidden]`.
    ///
    /// # Errors
    /// [`Error::TokenRange`], [`Error::Tensor`].
    pub fn embeddings(&self, tokens: &[u32]) -> Result<Tensor> {
        self.check_ids(tokens)?;
        self.embed(tokens)
    }

    /// By what this model is known again, whatever its weights are packed in: the beginnings of eight embeddings.
    ///
    /// # Shapes
    /// `[8, 64]`, f32, less of a smaller model.
    ///
    /// # Errors
    /// [`Error::Tensor`].
    pub fn probe(&self) -> Result<Tensor> {
        let (vocab, count) = (self.config().vocab_size, PROBED.0.min(self.config().vocab_size));
        let tokens: Vec<u32> = (0..count).map(|i| ((2 * i + 1) * vocab / (2 * count)) as u32).collect();
        let width = PROBED.1.min(self.config().hidden_size);
        Ok(self.embed(&tokens)?.narrow(1, 0, width)?.to_dtype(DType::F32)?.to_device(&Device::Cpu)?)
    }

    /// Reads `vectors` behind what `cache` holds, at the positions that tokens would have there, and appends their keys and values.
    ///
    /// # Shapes
    /// `vectors` is `[m, hidden]`; logits of the last one, `[vocab]`, f32.
    ///
    /// # Errors
    /// Those of [`capture_vectors`](Self::capture_vectors); the cache is as before then.
    pub fn forward_vectors(&self, vectors: &Tensor, cache: &mut KvCache) -> Result<Tensor> {
        self.make_room(self.vector_count(vectors)?, cache)?;
        let _keeper = buffers::keep();
        let rows = vectors.to_device(self.device())?.to_dtype(self.compute_dtype())?;
        Ok(self.run_input(Input::Vectors(&rows, 1), &mut [cache], Rows::Last, None, None)?.squeeze(0)?)
    }

    /// Reads `vectors` behind each of `caches` in one pass, at the positions that tokens would have there, appends their keys and
    /// values, and hands out their queries by sequence and layer.
    ///
    /// # Shapes
    /// `vectors` is `[m, hidden]`; queries are as of [`prefill_capturing`](Self::prefill_capturing).
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::ContextOverflow`], [`Error::Cache`] for another model's cache, [`Error::Tensor`]; what is wrong
    /// with one cache is an [`Error::Sequence`]. The caches are as before then.
    pub fn capture_vectors<C: BorrowMut<KvCache>>(
        &self,
        vectors: &Tensor,
        caches: &mut [C],
    ) -> Result<Vec<Vec<Tensor>>> {
        let m = self.vector_count(vectors)?;
        let mut caches: Vec<&mut KvCache> = caches.iter_mut().map(BorrowMut::borrow_mut).collect();
        let _keeper = buffers::keep();
        for (index, cache) in caches.iter_mut().enumerate() {
            self.make_room(m, cache).map_err(|error| error.in_sequence(index))?;
        }
        let mut queries = vec![Vec::with_capacity(self.layers.len()); caches.len()];
        if caches.is_empty() {
            return Ok(queries);
        }
        let mut capture = |_: usize, number: usize, heard: Heard| queries[number].push(heard.queries);
        let rows = vectors.to_device(self.device())?.to_dtype(self.compute_dtype())?;
        let input = Input::Vectors(&rows, caches.len());
        self.run_input(input, &mut caches, Rows::None, None, Some(&mut capture))?;
        check_count("queries", queries.len(), caches.len())?;
        Ok(queries)
    }

    /// How many they are.
    fn vector_count(&self, vectors: &Tensor) -> Result<usize> {
        let hidden = self.config().hidden_size;
        match vectors.dims() {
            [m, width] if *m > 0 && *width == hidden => Ok(*m),
            got => {
                let expected = format!("[m, {hidden}]");
                Err(Error::Shape { arg: "vectors", expected, got: got.to_vec() })
            }
        }
    }

    /// For `m` more positions in a cache of this model.
    fn make_room(&self, m: usize, cache: &mut KvCache) -> Result<()> {
        self.check_cache(cache)?;
        let (positions, limit) = (cache.logical_len() + m, self.config().position_limit());
        if positions > limit {
            return Err(Error::ContextOverflow { positions, limit });
        }
        cache.reserve(m, HEADROOM)
    }
}

fn check_shape(file: &SafeFile, name: &str, fits: impl Fn(&[usize]) -> bool, width: usize) -> Result<()> {
    let (name, path) = (name.to_owned(), file.path().to_path_buf());
    match file.shape(&name) {
        None => Err(Error::MissingTensor { name, file: path }),
        Some(shape) if fits(shape) => Ok(()),
        Some(shape) => {
            // How many rows there may be is said by the one that fits best.
            let rows = shape.first().map_or(1, |rows| (*rows).clamp(1, MOST));
            Err(Error::TensorShape { name, file: path, expected: vec![rows, width], got: shape.to_vec() })
        }
    }
}

/// Of all numbers together.
fn cosine(a: &Tensor, b: &Tensor) -> Result<f64> {
    let flat = |x: &Tensor| x.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>();
    let (a, b) = (flat(a)?, flat(b)?);
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    Ok(dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt())
}
