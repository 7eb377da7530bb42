//! Moving cached keys to other positions.

use candle_core::Tensor;

use crate::config::check;
use crate::{Decoder, Error, Result};

impl Decoder {
    /// Keys that `layer` cached at `positions`, as they are `by` positions later (earlier where `by` is negative). Rotations
    /// add up, so nothing else about a key changes (AM, arXiv 2602.16284, text-based chunking).
    ///
    /// # Shapes
    /// `keys` `[kv_heads, slots, head_dim]`, one position for each slot; the result like `keys`.
    ///
    /// # Numerics
    /// f32, stored in the dtype of `keys`. The angle is the difference of the two angles as the model rounds them, which
    /// is why the positions are asked for.
    ///
    /// # Errors
    /// [`Error::Shape`] where positions and slots differ in number, [`Error::Config`] for a position below 0,
    /// [`Error::ContextOverflow`].
    pub fn rerotate(&self, layer: usize, keys: &Tensor, positions: &[u32], by: isize) -> Result<Tensor> {
        let limit = self.config().position_limit();
        let moved = |position: &u32| {
            let moved = i64::from(*position).saturating_add(by as i64);
            check(moved >= 0, "by", by, "must not move a key to a position below 0")?;
            let positions = (moved as usize).saturating_add(1);
            u32::try_from(moved).map_err(|_| Error::ContextOverflow { positions, limit })
        };
        let targets = positions.iter().map(moved).collect::<Result<Vec<u32>>>()?;
        self.rerotate_to(layer, keys, positions, &targets)
    }

    /// Like [`rerotate`](Self::rerotate) to a position of its own for each slot.
    ///
    /// # Shapes
    /// `keys` `[kv_heads, slots, head_dim]`, one position and one target for each slot; the result like `keys`.
    ///
    /// # Errors
    /// [`Error::Shape`] where positions, targets and slots differ in number, [`Error::ContextOverflow`].
    pub fn rerotate_to(
        &self,
        layer: usize,
        keys: &Tensor,
        positions: &[u32],
        targets: &[u32],
    ) -> Result<Tensor> {
        if keys.rank() != 3 || keys.dims()[1] != positions.len() {
            let expected = format!("[kv_heads, {}, head_dim]", positions.len());
            return Err(Error::Shape { arg: "keys", expected, got: keys.dims().to_vec() });
        }
        if targets.len() != positions.len() {
            let expected = format!("[{}], one for each position", positions.len());
            return Err(Error::Shape { arg: "targets", expected, got: vec![targets.len()] });
        }
        let limit = self.config().position_limit();
        let furthest = positions.iter().chain(targets).max().map_or(0, |last| *last as usize + 1);
        if furthest > limit {
            return Err(Error::ContextOverflow { positions: furthest, limit });
        }
        if positions == targets {
            return Ok(keys.clone());
        }
        let rotation = self.ropes.of(self.config().window(layer)).between(positions, targets)?;
        Ok(rotation.apply(&keys.unsqueeze(0)?)?.squeeze(0)?)
    }
}
