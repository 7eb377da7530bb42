//! Which slots of a layer stay.

use serde::{Deserialize, Serialize};

use crate::error::{AtLayer, Error, Result};
use crate::layout::LayerKv;

/// The slots of one layer that stay: one list for all its heads, or one for each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Kept {
    lists: Vec<Vec<u32>>,
}

impl Kept {
    /// One list of strictly ascending slots for all heads.
    pub fn shared(slots: Vec<u32>) -> Self {
        Self { lists: vec![slots] }
    }

    /// One list of strictly ascending slots for each head; they may differ in length.
    pub fn per_head(lists: Vec<Vec<u32>>) -> Self {
        Self { lists }
    }

    /// The slots of a head; of all of them where the list is shared.
    pub fn head(&self, head: usize) -> &[u32] {
        match &self.lists[..] {
            [only] => only,
            lists => lists.get(head).map_or(&[], Vec::as_slice),
        }
    }

    /// The lists: one, or one for each head.
    pub fn lists(&self) -> &[Vec<u32>] {
        &self.lists
    }

    /// Whether all heads keep the same slots.
    pub fn is_shared(&self) -> bool {
        self.lists.len() == 1
    }

    /// Whether heads keep different counts.
    pub fn is_ragged(&self) -> bool {
        self.lists.iter().any(|list| list.len() != self.lists[0].len())
    }

    /// Slots of the head that keeps the most.
    pub fn max_len(&self) -> usize {
        self.lists.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// Slots of `kv_heads` heads together.
    pub fn total(&self, kv_heads: usize) -> usize {
        match &self.lists[..] {
            [only] => only.len() * kv_heads,
            lists => lists.iter().map(Vec::len).sum(),
        }
    }

    /// The slots that any head keeps, ascending.
    pub fn union(&self) -> Vec<u32> {
        if let [only] = &self.lists[..] {
            return only.clone();
        }
        let mut all = self.lists.concat();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Checks that the lists fit `layer`.
    pub(crate) fn check(&self, layer: &LayerKv) -> Result<()> {
        let heads = layer.kv_heads();
        if self.lists.len() != 1 && self.lists.len() != heads {
            let expected = format!("one list, or one for each of {heads} heads");
            return Err(Error::Shape { arg: "kept", expected, got: vec![self.lists.len()] });
        }
        for list in &self.lists {
            let Some(last) = list.last() else { return Err(Error::Empty { arg: "kept" }) };
            if let Some([before, after]) = list.windows(2).find(|pair| pair[0] >= pair[1]) {
                let value = format!("[.., {before}, {after}, ..]");
                return Err(Error::Config {
                    field: "kept",
                    value,
                    reason: "slots must be strictly ascending",
                });
            }
            if *last as usize >= layer.seq_len() {
                let reason = "a slot lies beyond the cache";
                return Err(Error::Config { field: "kept", value: last.to_string(), reason });
            }
        }
        Ok(())
    }
}

impl From<Vec<u32>> for Kept {
    fn from(slots: Vec<u32>) -> Self {
        Self::shared(slots)
    }
}

/// Checks a selection that was given: one for all layers, or one per layer.
pub(crate) fn check_given(layers: &[LayerKv], kept: &[Kept]) -> Result<()> {
    if kept.len() != 1 && kept.len() != layers.len() {
        let expected = format!("one selection, or one for each of {} layers", layers.len());
        return Err(Error::Shape { arg: "kept", expected, got: vec![kept.len()] });
    }
    for (index, layer) in layers.iter().enumerate() {
        kept[index % kept.len()].check(layer).at_layer(index)?;
    }
    Ok(())
}
