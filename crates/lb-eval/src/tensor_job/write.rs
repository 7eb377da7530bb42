//! From a compacted cache to the bytes of a file.

use candle_core::{Device, Tensor};
use lb_am::{Compacted, CompactedLayer};

use crate::Result;

/// Index of a row that is padding.
const NO_SLOT: i64 = -1;

pub(super) fn serialize(compacted: &Compacted) -> Result<Vec<u8>> {
    let longest = compacted.layers.iter().map(CompactedLayer::kept_len).max().unwrap_or(0);
    let each = |tensor: fn(&CompactedLayer, usize) -> Result<Tensor>| -> Result<Tensor> {
        let all = compacted.layers.iter().map(|layer| tensor(layer, longest));
        Ok(Tensor::stack(&all.collect::<Result<Vec<_>>>()?, 0)?)
    };
    let tensors = [
        ("keys", each(|layer, t| filled(&layer.keys, t))?),
        ("values", each(|layer, t| filled(&layer.values, t))?),
        ("beta", each(beta)?),
        ("indices", each(indices)?),
    ];
    Ok(safetensors::serialize(tensors, None).map_err(candle_core::Error::from)?)
}

/// `[H, kept_len, d]` with zeros up to `[H, t, d]`.
fn filled(tensor: &Tensor, t: usize) -> Result<Tensor> {
    Ok(tensor.pad_with_zeros(1, 0, t - tensor.dim(1)?)?)
}

fn beta(layer: &CompactedLayer, t: usize) -> Result<Tensor> {
    let (heads, kept) = layer.bias.dims2()?;
    if kept == t {
        return Ok(layer.bias.clone());
    }
    let fill = Tensor::full(f32::NEG_INFINITY, (heads, t - kept), layer.bias.device())?;
    Ok(Tensor::cat(&[&layer.bias, &fill], 1)?)
}

fn indices(layer: &CompactedLayer, t: usize) -> Result<Tensor> {
    let heads = layer.keys.dim(0)?;
    let slot =
        |head: usize, row: usize| layer.kept.head(head).get(row).map_or(NO_SLOT, |slot| i64::from(*slot));
    let all: Vec<i64> = (0..heads).flat_map(|head| (0..t).map(move |row| slot(head, row))).collect();
    Ok(Tensor::from_vec(all, (heads, t), &Device::Cpu)?)
}
