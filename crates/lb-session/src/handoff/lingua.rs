//! LLMLingua and LongLLMLingua: passages first, then tokens, each judged behind what was kept so far.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::coarse::{by_information, by_question, chosen};
use super::information::of_text;
use super::lines::Lines;
use super::prune::{Plan, pruned};
use super::size::SelectionSize;
use super::stand_in::StandIn;
use super::{Memo, PASSAGE};
use crate::context::Reader;
use crate::ledger::CallTokens;
use crate::{Error, Result, Task};

/// LLMLingua (Jiang et al. 2023, arXiv 2310.05736): a budget controller drops whole passages, those with the least perplexity first, until
/// `coarse` times the size is left; then tokens are dropped `stretch` by `stretch`, the least informative given what was kept so
/// far. Instructions and question, which the paper compresses less, are the template's head and the task here, and kept.
///
/// Perplexity is that of a passage between all before it, from the pass that
/// [`SelectiveContext`](crate::SelectiveContext) makes as well; the paper reads each demonstration alone. A passage of which anything is
/// kept keeps its line's label and end.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LlmLingua {
    /// How much, of the text's tokens. The template's head counts towards it. Default: half.
    pub size: SelectionSize,
    /// Tokens that are judged together, 8 to 4096; the paper's segment. Default: 100.
    pub stretch: usize,
    /// Passages are kept for this many times the size, 1 to 100; the paper's k. Default: 2.
    pub coarse: f64,
    /// Longest passage, in tokens, at least 1. Default: 128.
    pub passage: usize,
}

impl Default for LlmLingua {
    fn default() -> Self {
        Self { size: SelectionSize::KeepRatio(0.5), stretch: 100, coarse: 2.0, passage: PASSAGE }
    }
}

impl LlmLingua {
    /// Checks every range.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field.
    pub fn validate(&self) -> Result<()> {
        self.size.validate()?;
        if !(8..=4096).contains(&self.stretch) {
            return Err(Error::config("stretch", self.stretch, "want 8 to 4096 tokens"));
        }
        if !(1.0..=100.0).contains(&self.coarse) {
            return Err(Error::config("coarse", self.coarse, "want 1 to 100 times the size"));
        }
        if self.passage == 0 {
            return Err(Error::config("passage", self.passage, "want at least 1"));
        }
        Ok(())
    }
}

/// The order in which passages reach the worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PassageOrder {
    /// That of the trajectory.
    #[default]
    Text,
    /// The most relevant first, each as a line of its own; the paper's reordering.
    Relevance,
}

/// LongLLMLingua (Jiang et al. 2023, arXiv 2310.06839): as [`LlmLingua`], for a question. Passages are ranked by the likelihood of the question behind
/// each; tokens by how much likelier the question in front makes them (contrastive perplexity); and a passage keeps the more of
/// its tokens the further up it stands, from `spread` above the mean ratio to `spread` below it.
///
/// The paper's recovery of subsequences, which mends names in answers of a model behind an API, is not part of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LongLlmLingua {
    /// How much, of the text's tokens. The template's head counts towards it. Default: a quarter.
    pub size: SelectionSize,
    /// As [`LlmLingua::stretch`].
    pub stretch: usize,
    /// As [`LlmLingua::coarse`].
    pub coarse: f64,
    /// As [`LlmLingua::passage`].
    pub passage: usize,
    /// The order of what is kept. Default: the text's.
    pub order: PassageOrder,
    /// How far ratios of passages are from their mean at most, 0 to 1; the paper's δτ. Default: 0.3.
    pub spread: f64,
}

impl Default for LongLlmLingua {
    fn default() -> Self {
        let LlmLingua { stretch, coarse, passage, .. } = LlmLingua::default();
        let (size, order) = (SelectionSize::KeepRatio(0.25), PassageOrder::default());
        Self { size, stretch, coarse, passage, order, spread: 0.3 }
    }
}

impl LongLlmLingua {
    /// Checks every range.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field.
    pub fn validate(&self) -> Result<()> {
        let Self { size, stretch, coarse, passage, spread, .. } = *self;
        LlmLingua { size, stretch, coarse, passage }.validate()?;
        if !(0.0..=1.0).contains(&spread) {
            return Err(Error::config("spread", spread, "want 0 to 1"));
        }
        Ok(())
    }
}

/// What is left of the text, for any task; kept until the trajectory grows.
pub(super) fn for_any(reader: Reader<'_>, memo: &Memo, config: &LlmLingua) -> Result<StandIn> {
    let (start, context) = (Instant::now(), reader.context);
    if let Some(text) = memo.pruned.get(config) {
        return Ok(StandIn::of_text(context, text));
    }
    let room = config.size.resolve(context.text.tokens.len())?.saturating_sub(context.head().len());
    let (information, mut cost) = of_text(reader, &memo.information)?;
    let lines = Lines::of(context);
    let passages = lines.passages(config.passage);
    let ranked = by_information(&passages, &information);
    let order = PassageOrder::Text;
    let chosen = chosen(&lines, &passages, &ranked, (config.coarse, room, order));
    let plan = Plan { lines: &lines, passages: &passages, chosen: &chosen, order, stretch: config.stretch };
    let text = pruned(reader, &plan, (room, 0.0), None, &mut cost)?;
    memo.pruned.keep(*config, text.clone());
    let cost = CallTokens { prefilled: cost, ..CallTokens::default() };
    Ok(StandIn::of_text(context, text).made(start.elapsed(), cost))
}

/// What is left of the text for each task.
pub(super) fn for_each(reader: Reader<'_>, config: &LongLlmLingua, tasks: &[&Task]) -> Result<Vec<StandIn>> {
    let context = reader.context;
    let room = config.size.resolve(context.text.tokens.len())?.saturating_sub(context.head().len());
    let lines = Lines::of(context);
    let passages = lines.passages(config.passage);
    let one = |task: &Task| {
        let (start, mut cost) = (Instant::now(), 0);
        let ranked = by_question(reader, &lines, &passages, &task.question, &mut cost)?;
        let chosen = chosen(&lines, &passages, &ranked, (config.coarse, room, config.order));
        let LongLlmLingua { order, stretch, spread, .. } = *config;
        let plan = Plan { lines: &lines, passages: &passages, chosen: &chosen, order, stretch };
        let text = pruned(reader, &plan, (room, spread), Some(&task.question), &mut cost)?;
        let cost = CallTokens { prefilled: cost, ..CallTokens::default() };
        Ok(StandIn::of_text(context, text).made(start.elapsed(), cost))
    };
    let numbered = tasks.iter().enumerate();
    numbered.map(|(index, task)| one(task).map_err(|error: Error| error.in_call(index))).collect()
}
