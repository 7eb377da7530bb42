//! Kept slots in few bits: keys before the fits, which are made against what is stored, and values behind them.

use std::sync::Arc;

use candle_core::{DType, Tensor};
use lb_kernels::{Grids, PackedBits, PackedRows};

use crate::backend::{Backend, FitInput};
use crate::compacted::CompactedLayer;
use crate::error::{AtLayer, Error, Result};
use crate::kept::Kept;
use crate::layout::LayerKv;

/// Keys and values of a compacted layer as they are stored in few bits. Slots of −∞ that only fill up shorter heads are not
/// there.
#[derive(Clone, Debug, PartialEq)]
pub struct PackedLayer {
    /// A grid for each channel of some slots.
    pub keys: Arc<PackedRows>,
    /// A grid for some channels of each slot.
    pub values: Arc<PackedRows>,
}

impl PackedLayer {
    /// Bytes of codes and grids.
    pub fn bytes(&self) -> usize {
        let of = |rows: &PackedRows| rows.bytes(&(0..usize::MAX));
        of(&self.keys) + of(&self.values)
    }
}

/// Slots that each head of a layer keeps.
fn counts(kept: &Kept, heads: usize) -> Vec<usize> {
    (0..heads).map(|head| kept.head(head).len()).collect()
}

/// The kept keys of every layer, packed, and as they unpack, `[kv_heads, kept_len, head_dim]` in f32.
pub(crate) fn pack_keys(
    backend: &dyn Backend,
    layers: &[LayerKv],
    kept: &[Kept],
    bits: PackedBits,
) -> Result<(Vec<PackedRows>, Vec<Tensor>)> {
    let one = |(layer, kept): (&LayerKv, &Kept)| -> Result<(PackedRows, Tensor)> {
        let counts = counts(kept, layer.kv_heads());
        let keys = backend.gather(&layer.keys, kept)?;
        let packed = PackedRows::from_tensor(&keys, &counts, Grids::PerChannel, bits)?;
        let keys = packed.to_tensor(&(0..kept.max_len()), DType::F32, layer.keys.device())?;
        Ok((packed, keys))
    };
    let each = layers.iter().zip(kept).enumerate();
    let both = each.map(|(index, pair)| one(pair).at_layer(index)).collect::<Result<Vec<_>>>()?;
    Ok(both.into_iter().unzip())
}

/// Packs the values of a fitted layer; its tensors are then what is stored, in the dtype of the cache.
pub(crate) fn pack_values(
    fitted: CompactedLayer,
    keys: PackedRows,
    layer: &LayerKv,
) -> Result<CompactedLayer> {
    let (counts, slots) = (keys.counts(), 0..fitted.kept_len());
    let values = PackedRows::from_tensor(&fitted.values, counts, Grids::PerRow, keys.bits())?;
    let tensor = |rows: &PackedRows| rows.to_tensor(&slots, layer.dtype(), layer.keys.device());
    let (stored_keys, stored_values) = (tensor(&keys)?, tensor(&values)?);
    let packed = Some(PackedLayer { keys: keys.into(), values: values.into() });
    Ok(CompactedLayer { keys: stored_keys, values: stored_values, packed, ..fitted })
}

/// Fails where a backend has fitted to other keys than it was given.
pub(crate) fn check_keys(input: &FitInput<'_>, fitted: &[CompactedLayer]) -> Result<()> {
    let Some(keys) = input.keys else { return Ok(()) };
    for (index, (want, got)) in keys.iter().zip(fitted).enumerate() {
        let got = &got.keys;
        if got.dtype() != want.dtype() {
            let (expected, got) = (vec![want.dtype()], got.dtype());
            return Err(Error::Dtype { arg: "fitted keys", expected, got }).at_layer(index);
        }
        // A backend hands on what it was given, as a rule.
        let far = |a: &Tensor, b: &Tensor| (a - b)?.abs()?.max_all()?.to_scalar::<f32>();
        if got.id() != want.id() && far(got, want)? > 0.0 {
            let reason = "does not fit against packed keys";
            return Err(Error::Config { field: "backend", value: format!("layer {index}"), reason });
        }
    }
    Ok(())
}
