//! The stages as tensor operations: every device, and what other backends are held to.

mod beta;
mod fit;
mod nnls;
mod observe;
mod softmax;
mod values;

use candle_core::{Device, Tensor};

use crate::backend::{Attended, Backend, FitInput, Fitted, Observing};
use crate::compacted::Timing;
use crate::error::{AtLayer, Result};
use crate::kept::Kept;
use crate::layout::LayerKv;
use crate::observed::Observed;

pub(crate) use nnls::{FLOOR, POWER_ROUNDS, TINY};
pub(crate) use softmax::{logits, probabilities, weights_at};

/// Tensor operations, on any device.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reference;

impl Backend for Reference {
    fn name(&self) -> &'static str {
        "reference"
    }

    fn serves(&self, _: &Device) -> bool {
        true
    }

    fn observe(&self, layers: &[LayerKv], queries: &[Tensor], what: Observing) -> Result<Vec<Observed>> {
        let pass = observe::Pass { what, tile: observe::TILE };
        let one = |(index, (layer, queries)): (usize, (&LayerKv, &Tensor))| {
            pass.observe(layer, queries).at_layer(index)
        };
        layers.iter().zip(queries).enumerate().map(one).collect()
    }

    fn attend(&self, layer: &LayerKv, queries: &Tensor) -> Result<Attended> {
        observe::attend(layer, queries)
    }

    fn gather(&self, tensor: &Tensor, kept: &Kept) -> Result<Tensor> {
        gather(tensor, kept)
    }

    fn fit(&self, input: &FitInput<'_>, timing: &mut Timing) -> Result<Fitted> {
        fit::fit(input, timing)
    }
}

fn gather(tensor: &Tensor, kept: &Kept) -> Result<Tensor> {
    let tensor = tensor.contiguous()?;
    if let [only] = kept.lists() {
        return Ok(tensor.index_select(&Tensor::new(&only[..], tensor.device())?, 1)?);
    }
    let t = kept.max_len();
    let one_head = |(head, list): (usize, &Vec<u32>)| -> Result<Tensor> {
        let index = Tensor::new(&list[..], tensor.device())?;
        let rows = tensor.narrow(0, head, 1)?.index_select(&index, 1)?;
        Ok(if list.len() < t { rows.pad_with_zeros(1, 0, t - list.len())? } else { rows })
    };
    let heads = kept.lists().iter().enumerate().map(one_head).collect::<Result<Vec<_>>>()?;
    Ok(Tensor::cat(&heads, 0)?)
}
