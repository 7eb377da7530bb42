//! Selective Context: what the worker could have guessed is left out.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::Memo;
use super::information::of_text;
use super::lines::{Lines, Part};
use super::size::SelectionSize;
use super::stand_in::StandIn;
use crate::Result;
use crate::context::Reader;
use crate::ledger::CallTokens;

/// What is kept or left out as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TextUnit {
    /// A sentence: it begins with a segment, behind a line end, and behind `.`, `!` or `?` where a space follows.
    Sentence,
    /// Up to four words as Unicode has them without a punctuation mark between them. The paper's noun phrases need a parser of
    /// one language.
    #[default]
    Phrase,
    /// A token, or as many as make whole characters.
    Token,
}

impl TextUnit {
    pub(super) fn parts(self, lines: &Lines) -> Vec<Part> {
        match self {
            Self::Sentence => lines.parts(|body| lines.sentences(body)),
            Self::Phrase => lines.parts(|body| lines.phrases(body)),
            Self::Token => lines.parts(|body| lines.tokens(body)),
        }
    }
}

/// Selective Context (Li et al. 2023, arXiv 2310.06201): units of the text by the self-information of their tokens under
/// the worker, the mean of a unit, as the authors' code has it (their equation is the sum, which favours long units). The most
/// informative are kept, in their own order, as many as fit; a line of which anything is kept keeps its label and its end.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SelectiveContext {
    /// How much, of the text's tokens. The template's head counts towards it. Default: half.
    pub size: SelectionSize,
    /// What is kept or left out. Default: phrases.
    pub unit: TextUnit,
}

impl Default for SelectiveContext {
    fn default() -> Self {
        Self { size: SelectionSize::KeepRatio(0.5), unit: TextUnit::default() }
    }
}

/// What is left of the text, for any task.
pub(super) fn kept(reader: Reader<'_>, memo: &Memo, config: &SelectiveContext) -> Result<StandIn> {
    let (start, context) = (Instant::now(), reader.context);
    let room = config.size.resolve(context.text.tokens.len())?.saturating_sub(context.head().len());
    let (information, read) = of_text(reader, &memo.information)?;
    let lines = Lines::of(context);
    let parts = config.unit.parts(&lines);
    let values: Vec<f64> = parts.iter().map(|part| mean(&information[part.range.clone()])).collect();
    let text = lines.text(context, lines.best(&parts, &values, room).into_iter().map(|index| &parts[index]));
    let cost = CallTokens { prefilled: read, ..CallTokens::default() };
    Ok(StandIn::of_text(context, text).made(start.elapsed(), cost))
}

pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}
