//! Caches that lie in safetensors files, compacted without a model.
//!
//! What goes in:
//!
//! | tensor | shape | |
//! |---|---|---|
//! | `keys`, `values` | `[layers, kv_heads, seq_len, head_dim]` | f16, bf16, f32 or f64, both the same |
//! | `queries` | `[layers, kv_heads, n_queries, head_dim]` | any of these; heads of a group one after another |
//! | `held_out_queries` | `[layers, kv_heads, n, head_dim]` | optional; only measured, never fitted |
//! | `bias` | `[layers, kv_heads, seq_len]` | optional; −∞ marks padding |
//!
//! What comes out:
//!
//! | tensor | shape | |
//! |---|---|---|
//! | `keys`, `values` | `[layers, kv_heads, kept_len, head_dim]` | in the dtype of the input; f32 for f64 |
//! | `beta` | `[layers, kv_heads, kept_len]` | f32, to be added to q·k/√d |
//! | `indices` | `[layers, kv_heads, kept_len]` | i64, the slot of the input that a row was |
//!
//! `kept_len` is that of the head that keeps the most. Shorter ones end in padding: keys and values of 0, a `beta` of −∞
//! and an index of −1. PyTorch indexes with i64, and hardly with u32.

mod read;
mod write;

use std::fmt;
use std::io::Read;
use std::path::Path;

use candle_core::Tensor;
use lb_am::{
    BetaFit, Compacted, Compaction, Compactor, ErrorTarget, Fidelity, LayerKv, Sizes, Timing, ValuesFit,
};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::files::write_file;

/// A cache and its queries, read and checked.
#[derive(Clone, Debug)]
pub struct TensorJob {
    layers: Vec<LayerKv>,
    queries: Vec<Tensor>,
    held_out: Option<Vec<Tensor>>,
}

/// A compacted cache with its report.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The compacted cache, layer by layer.
    pub compacted: Compacted,
    /// What was done, how long it took, and how well it answers.
    pub report: JobReport,
}

/// What a [`TensorJob`] did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobReport {
    /// The settings.
    pub config: Compaction,
    /// Query heads per KV head, as told.
    pub group_size: usize,
    /// Dtype of the cache.
    pub dtype: String,
    /// Shape of the input: layers, KV heads, slots, width of a head.
    pub shape: [usize; 4],
    /// Queries per KV head that were fitted.
    pub n_queries: usize,
    /// Slots of the layer and head that keep the most.
    pub kept_len: usize,
    /// Kept / original slots over all layers and heads.
    pub keep_ratio: f64,
    /// Slots and bytes before and after.
    pub sizes: Sizes,
    /// The bias fit, where one was asked for.
    pub beta: Option<BetaFit>,
    /// The value fit, where one was asked for.
    pub values: Option<ValuesFit>,
    /// How an error target was met, where there was one.
    pub error_target: Option<ErrorTarget>,
    /// Where the time went.
    pub timing_ms: TimingMs,
    /// Errors on the queries that were fitted.
    pub fidelity: Fidelity,
    /// Errors on queries that were not, where there are any.
    pub held_out_fidelity: Option<Fidelity>,
}

/// [`Timing`] in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimingMs {
    /// Finding the budget for an error target.
    pub search: f64,
    /// Attention of the queries over the full cache.
    pub scores: f64,
    /// Pooling and selection.
    pub mask: f64,
    /// Gathering the keys and fitting the biases.
    pub beta: f64,
    /// Refitting the values.
    pub values: f64,
    /// The whole compaction; reading, measuring and writing are not part of it.
    pub total: f64,
}

impl From<Timing> for TimingMs {
    fn from(timing: Timing) -> Self {
        let ms = |time: std::time::Duration| time.as_secs_f64() * 1e3;
        Self {
            search: ms(timing.search),
            scores: ms(timing.scores),
            mask: ms(timing.mask),
            beta: ms(timing.beta),
            values: ms(timing.values),
            total: ms(timing.total),
        }
    }
}

/// A few lines to read: what was kept, its bytes, its error, the time.
impl fmt::Display for JobReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sizes, fitted) = (self.sizes, self.fidelity.total.relative_l2);
        writeln!(f, "cache   {:?} {} (layers, KV heads, slots, width)", self.shape, self.dtype)?;
        writeln!(f, "kept    {} of {} slots, at most {} per head", sizes.kept, sizes.full, self.kept_len)?;
        let percent = 100.0 * sizes.bytes_ratio;
        writeln!(f, "bytes   {} of {} ({percent:.1} %)", sizes.bytes, sizes.full_bytes)?;
        writeln!(f, "error   {fitted:.4} on fitted queries (relative, of the attention output)")?;
        if let Some(held_out) = &self.held_out_fidelity {
            writeln!(f, "        {:.4} on held-out queries", held_out.total.relative_l2)?;
        }
        write!(f, "time    {:.1} ms", self.timing_ms.total)
    }
}

impl TensorJob {
    /// Reads a file.
    ///
    /// # Shapes
    ///
    /// Those of the [module](self).
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io), [`Corrupt`](crate::Error::Corrupt), [`MissingTensor`](crate::Error::MissingTensor),
    /// [`TensorShape`](crate::Error::TensorShape), [`TensorDtype`](crate::Error::TensorDtype) and
    /// [`NonFinite`](crate::Error::NonFinite), each with the name of the file.
    pub fn read(path: &Path) -> Result<Self> {
        let io = |source| crate::Error::Io { path: path.to_owned(), source };
        let mut file = lb_io::files::open_regular(path).map_err(io)?;
        let mut bytes = Vec::new();
        // The rest of a file is not read that does not begin as such files do.
        (&mut file).take(8).read_to_end(&mut bytes).map_err(io)?;
        read::check_header(&bytes, path)?;
        file.read_to_end(&mut bytes).map_err(io)?;
        Self::from_bytes(&bytes, path)
    }

    /// Reads what a file holds; `file` is for the messages.
    ///
    /// # Shapes
    ///
    /// Those of the [module](self).
    ///
    /// # Errors
    ///
    /// Those of [`read`](Self::read).
    pub fn from_bytes(bytes: &[u8], file: &Path) -> Result<Self> {
        read::parse(bytes, file)
    }

    /// The cache, layer by layer.
    pub fn layers(&self) -> &[LayerKv] {
        &self.layers
    }

    /// The queries to fit, layer by layer, in f32.
    pub fn queries(&self) -> &[Tensor] {
        &self.queries
    }

    /// The queries to measure, layer by layer, in f32.
    pub fn held_out(&self) -> Option<&[Tensor]> {
        self.held_out.as_deref()
    }

    /// Compacts and measures.
    ///
    /// `group_size` is the number of query heads per KV head; an error target splits queries by token and needs it.
    ///
    /// # Errors
    ///
    /// [`Error::Compaction`](crate::Error::Compaction) for settings out of range or which do not fit the cache.
    pub fn run(&self, config: &Compaction, group_size: usize) -> Result<Outcome> {
        let compacted = Compactor::new(&self.layers, &self.queries, config).group_size(group_size).run()?;
        let measure = |queries: &[Tensor]| Fidelity::measure(&self.layers, &compacted.layers, queries);
        let fidelity = measure(&self.queries)?;
        let held_out_fidelity = self.held_out().map(measure).transpose()?;
        let (first, done) = (&self.layers[0], compacted.report.clone());
        let report = JobReport {
            config: config.clone(),
            group_size,
            dtype: first.dtype().as_str().to_owned(),
            shape: [self.layers.len(), first.kv_heads(), first.seq_len(), first.head_dim()],
            n_queries: self.queries[0].dim(1)?,
            kept_len: done.kept_len,
            keep_ratio: done.keep_ratio,
            sizes: fidelity.sizes,
            beta: done.beta,
            values: done.values,
            error_target: done.error_target,
            timing_ms: done.timing.into(),
            fidelity,
            held_out_fidelity,
        };
        Ok(Outcome { compacted, report })
    }
}

impl Outcome {
    /// The compacted cache as a safetensors file in memory.
    ///
    /// # Shapes
    ///
    /// Those of the [module](self).
    ///
    /// # Errors
    ///
    /// [`Error::Tensor`](crate::Error::Tensor) where a tensor operation fails.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        write::serialize(&self.compacted)
    }

    /// Writes the compacted cache, all of it or nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) naming the file; whatever was there before is then as it was.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_file(path, &self.to_bytes()?)
    }
}
