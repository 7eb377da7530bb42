//! The stages by the kernels of [`lb_kernels`], head by head, on the CPU.

mod exact;
mod finite;
mod fit;
mod gather;
mod layers;
mod nnls;
mod observe;
mod values;

use candle_core::{Device, Tensor};

use crate::backend::{Attended, Backend, FitInput, Fitted, Observing, Reference};
use crate::compacted::Timing;
use crate::error::Result;
use crate::kept::Kept;
use crate::layout::LayerKv;
use crate::observed::Observed;

/// Kernels on slices, for tensors in the memory of the CPU. A bias fit that starts at least squares and values that choose
/// their own λ go to [`Reference`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu;

impl Backend for Cpu {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn serves(&self, device: &Device) -> bool {
        device.is_cpu()
    }

    fn observe(&self, layers: &[LayerKv], queries: &[Tensor], what: Observing) -> Result<Vec<Observed>> {
        observe::observe(layers, queries, what)
    }

    fn attend(&self, layer: &LayerKv, queries: &Tensor) -> Result<Attended> {
        observe::attend(layer, queries)
    }

    fn gather(&self, tensor: &Tensor, kept: &Kept) -> Result<Tensor> {
        gather::gather(tensor, kept)
    }

    fn fit(&self, input: &FitInput<'_>, timing: &mut Timing) -> Result<Fitted> {
        if fit::knows(input.config) { layers::fit(input, timing) } else { Reference.fit(input, timing) }
    }

    fn is_finite(&self, tensor: &Tensor) -> Result<bool> {
        finite::is_finite(tensor)
    }
}
