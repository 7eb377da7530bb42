//! Where the heavy stages of a compaction are computed.

mod fit;
#[cfg(test)]
mod parity;

use std::fmt;

use candle_core::{DType, Device, Tensor};

pub use fit::{BetaPart, BetaSums, FitInput, Fitted, ValuesPart, ValuesSums};

pub use crate::cpu::Cpu;
pub use crate::reference::Reference;

use crate::compacted::Timing;
use crate::config::ScoreAgg;
use crate::error::{Error, Result};
use crate::kept::Kept;
use crate::layout::LayerKv;
use crate::observed::Observed;

/// The stages of a compaction that read whole caches, and the fits.
///
/// One is chosen for a compaction, by the device of its layers ([`of`]) or by
/// [`Compactor::with_backend`](crate::Compactor::with_backend). [`Reference`] computes them by tensor operations on any
/// device, [`Cpu`] by the kernels of `lb-kernels`. What is decided by sorting scores, and the small systems of the value
/// fit, is done on the host whatever the backend.
///
/// # A backend of one's own, on CUDA for instance
///
/// 1. [`serves`](Self::serves) the devices whose tensors it reads without copying them. Everything that it returns is on the
///    device of its input, but for scores, which are on the host.
/// 2. [`observe`](Self::observe) in one pass over keys and values, softmax in f32 with one shift a row (online softmax), what
///    each slot gets of it summed up as [`ScoreAgg`] says. Padding is a bias of −∞: weight 0, score 0.
/// 3. [`attend`](Self::attend) is the same without scores. `Observed::mass` and `Attended::mass` are at the row's own maximum.
/// 4. [`gather`](Self::gather) copies rows bit for bit and fills up shorter heads with zeros.
/// 5. [`fit`](Self::fit) every layer: biases by the steps of [`BetaMethod`](crate::BetaMethod), rounded to what the cache's
///    dtype can hold before the values are fitted against them; a layer that keeps everything comes back as it is. Methods
///    that it does not know go to [`Reference`], as [`Cpu`] does with two of them. Where keys are stored packed it is given them
///    ([`FitInput::keys`]) and gathers none.
/// 6. The scale of every logit is [`LayerKv::scale`], never 1/√d.
/// 7. Add it to the table in `backend/parity.rs`, which runs every backend over the same cases against [`Reference`] with a
///    tolerance for each dtype, and to [`of`].
pub trait Backend: fmt::Debug + Send + Sync {
    /// Its name, in messages.
    fn name(&self) -> &'static str;

    /// Whether it reads tensors of this device.
    fn serves(&self, device: &Device) -> bool;

    /// What the queries of each layer see in its cache: the target of the fits and what positions are scored by.
    ///
    /// # Shapes
    ///
    /// `queries[l]` is `[kv_heads, n_queries, head_dim]` for `layers[l]`, in f32 or the cache's dtype; checked before.
    ///
    /// # Errors
    ///
    /// [`Error::Tensor`], [`Error::Kernel`] where tensors cannot be read, within
    /// [`Error::Layer`].
    fn observe(&self, layers: &[LayerKv], queries: &[Tensor], what: Observing) -> Result<Vec<Observed>>;

    /// The attention of queries over one layer, in f32.
    ///
    /// # Shapes
    ///
    /// `queries` is `[kv_heads, n_queries, head_dim]` in f32.
    ///
    /// # Errors
    ///
    /// As [`observe`](Self::observe).
    fn attend(&self, layer: &LayerKv, queries: &Tensor) -> Result<Attended>;

    /// The kept rows of `[kv_heads, seq_len, ...]`, bit for bit; zeros fill up a head that keeps fewer than another.
    ///
    /// # Errors
    ///
    /// As [`observe`](Self::observe).
    fn gather(&self, tensor: &Tensor, kept: &Kept) -> Result<Tensor>;

    /// Biases and values of every layer for a selection. Times of the two fits are added to `timing`.
    ///
    /// # Errors
    ///
    /// As [`observe`](Self::observe), and [`Error::Singular`].
    fn fit(&self, input: &FitInput<'_>, timing: &mut Timing) -> Result<Fitted>;

    /// Whether a tensor holds neither NaN nor an infinity.
    ///
    /// # Errors
    ///
    /// As [`observe`](Self::observe).
    fn is_finite(&self, tensor: &Tensor) -> Result<bool> {
        // 0 · x is 0 for a finite x and NaN otherwise, and a sum passes NaN on: two passes on any device.
        Ok(!tensor.affine(0.0, 0.0)?.sum_all()?.to_dtype(DType::F32)?.to_scalar::<f32>()?.is_nan())
    }
}

/// What to note of the attention over a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observing {
    /// How the attention to a position is aggregated over queries.
    pub score: ScoreAgg,
    /// Whether the output is wanted.
    pub output: bool,
}

/// The attention of queries over a layer.
#[derive(Clone, Debug)]
pub struct Attended {
    /// `[kv_heads, n_queries, head_dim]` in f32.
    pub output: Tensor,
    /// Row maximum m of the logits, `[kv_heads, n_queries, 1]`.
    pub max: Tensor,
    /// Σ exp(logit − m), likewise.
    pub mass: Tensor,
}

/// The fastest backend for tensors of all these layers.
pub fn of(layers: &[LayerKv]) -> &'static dyn Backend {
    if layers.iter().all(|layer| Cpu.serves(layer.keys.device())) { &Cpu } else { &Reference }
}

/// Fails where a backend does not read the layers' device.
pub(crate) fn check_serves(backend: &dyn Backend, layers: &[LayerKv]) -> Result<()> {
    match layers.iter().find(|layer| !backend.serves(layer.keys.device())) {
        None => Ok(()),
        Some(layer) => Err(Error::Config {
            field: "backend",
            value: format!("{} for tensors on {:?}", backend.name(), layer.keys.device().location()),
            reason: "does not read tensors of this device",
        }),
    }
}
