//! What a selector has chosen.

use crate::kept::Kept;
use crate::mask::MaskInfo;

/// What stays in each layer, and how that came about.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Picked {
    /// The slots that stay, one entry per layer.
    pub kept: Vec<Kept>,
    /// How the lists came about: one entry for all layers, one per layer, or one per layer and head; none where there is
    /// nothing to tell.
    pub masks: Vec<MaskInfo>,
    /// The scores that the selection went by, which hold values fast where they are high: `[layer or 1][head or 1]`, each
    /// of the layer's length, none below 0. Empty where the queries' attention is to do that
    /// ([`Selector::lists`](super::Selector::lists)).
    pub importance: Vec<Vec<Vec<f32>>>,
}

impl Picked {
    /// Lists that were chosen without scores, one entry per layer.
    pub fn lists(kept: Vec<Kept>) -> Self {
        Self { kept, ..Self::default() }
    }

    /// One list for all heads of a layer where they have chosen the same.
    #[must_use]
    pub fn merged(mut self) -> Self {
        for kept in &mut self.kept {
            if let [first, rest @ ..] = kept.lists()
                && rest.iter().all(|list| list == first)
            {
                *kept = Kept::shared(first.clone());
            }
        }
        self
    }
}

/// The list of one head, of one layer, or of all.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadPick {
    /// The slots that stay, ascending.
    pub slots: Vec<u32>,
    /// How that came about.
    pub mask: MaskInfo,
    /// See [`Picked::importance`].
    pub importance: Option<Vec<f32>>,
}

impl HeadPick {
    /// With the scores that hold values fast.
    #[must_use]
    pub fn with_importance(self, scores: Vec<f32>) -> Self {
        Self { importance: Some(scores), ..self }
    }
}
