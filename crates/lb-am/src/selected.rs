//! What was selected, and by which scores.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::kept::{Kept, check_given};
use crate::layout::LayerKv;
use crate::mask::{MaskInfo, given};
use crate::scene::Scene;
use crate::selectors::Picked;

/// What stays in each layer, and why; see [`Compactor::select`](crate::Compactor::select).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Selected {
    /// The slots that stay, one entry per layer.
    pub kept: Vec<Kept>,
    /// How the masks came about: one for all layers, one per layer, or one per layer and head.
    pub masks: Vec<MaskInfo>,
    /// Position scores g over all layers and heads, after spans.
    pub scores: Vec<f32>,
    /// The same before spans.
    pub raw_scores: Vec<f32>,
    /// The scores that the selection went by, after spans: `[layer or 1][head or 1]`, each of the layer's length.
    pub importance: Vec<Vec<Vec<f32>>>,
}

impl Selected {
    /// The scores that the selection of a layer went by: one list for all its heads, or one for each.
    pub(crate) fn importance(&self, layer: usize) -> &[Vec<f32>] {
        &self.importance[layer % self.importance.len()]
    }

    /// The selection of one layer, for a compaction of that layer alone.
    #[must_use]
    pub fn layer(&self, layer: usize) -> Self {
        let per_layer = self.masks.len() / self.kept.len().max(1);
        let masks = match per_layer {
            0 => self.masks.clone(),
            count => self.masks.iter().skip(layer * count).take(count).cloned().collect(),
        };
        Self {
            kept: self.kept.iter().skip(layer).take(1).cloned().collect(),
            masks,
            scores: self.scores.clone(),
            raw_scores: self.raw_scores.clone(),
            importance: vec![self.importance(layer).to_vec()],
        }
    }

    /// What the configuration's selector picks.
    pub(crate) fn by_selector(scene: &Scene<'_>) -> Result<Self> {
        let selector = scene.config.selection.selector();
        let Picked { kept, masks, importance } = selector.select(scene)?;
        if kept.len() != scene.layers.len() {
            let expected = format!("a selection for each of {} layers", scene.layers.len());
            return Err(Error::Shape { arg: "kept", expected, got: vec![kept.len()] });
        }
        check_given(scene.layers, &kept)?;
        let importance =
            if importance.is_empty() { scene.attention_importance(selector.lists()) } else { importance };
        check_importance(&importance, scene.layers, "selection")?;
        let masks = if masks.is_empty() { vec![mask_of_given(scene)] } else { masks };
        let scores = scene.shared_pair();
        Ok(Self { kept, masks, scores: scores.pooled.clone(), raw_scores: scores.raw.clone(), importance })
    }

    /// The slots that were given, one selection for all layers or one per layer.
    pub(crate) fn given(scene: &Scene<'_>, kept: &[Kept]) -> Self {
        let lists = scene.config.selection.selector().lists();
        let scores = scene.shared_pair();
        Self {
            kept: (0..scene.layers.len()).map(|index| kept[index % kept.len()].clone()).collect(),
            masks: vec![mask_of_given(scene)],
            scores: scores.pooled.clone(),
            raw_scores: scores.raw.clone(),
            importance: scene.attention_importance(lists),
        }
    }
}

fn mask_of_given(scene: &Scene<'_>) -> MaskInfo {
    given(scene.shared_scores(), |slot| scene.padding.iter().all(|layer| layer.is_dead(slot)))
}

/// Whether there are scores for every slot of every layer.
pub(crate) fn check_importance(
    importance: &[Vec<Vec<f32>>],
    layers: &[LayerKv],
    field: &'static str,
) -> Result<()> {
    let enough = |(index, layer): (usize, &LayerKv)| {
        let lists = &importance[index % importance.len()];
        !lists.is_empty() && lists.iter().all(|scores| scores.len() >= layer.seq_len())
    };
    if !importance.is_empty() && layers.iter().enumerate().all(enough) {
        return Ok(());
    }
    let (value, reason) = ("importance".to_owned(), "was made for another cache");
    Err(Error::Config { field, value, reason })
}
