//! What the worker would write, tried before the briefing is made (Lookahead Q-Cache, arXiv 2505.20334).
//!
//! A task's own queries are not those of its answer. A few tokens of an answer, however rough, ask nearly what the real one
//! will: read once behind the full cache, their queries join the task's.

use candle_core::Tensor;
use lb_am::Budget;
use lb_model::{GenerateOptions, KvCache};
use serde::{Deserialize, Serialize};

use super::{BriefConfig, Briefer, TaskState};
use crate::context::{Context, Reader, Text};
use crate::{Error, Result, Source, Task};

/// Whose words are those of the one who asks or answers.
const OWN: [Source; 2] = [Source::Reasoning, Source::Reply];

/// A draft of the answer, whose queries join the task's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Draft {
    /// Tokens at most, at least 1. It ends where the worker ends its answer.
    pub tokens: usize,
    /// What it is written over.
    pub over: DraftOver,
    /// How often it is written, 1 to 8: each further draft over the briefing that the one before has led to. Over the full
    /// cache once is enough.
    pub rounds: usize,
    /// Positions that the first briefing keeps, in (0, 1]; more than the final one may keep, since it only has to carry the
    /// draft. Without it the first briefing is as large as the final one.
    pub first: Option<f64>,
}

/// What a draft is written over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DraftOver {
    /// A first briefing by the task alone, of the same configuration.
    #[default]
    Briefing,
    /// The full cache.
    Full,
}

impl Default for Draft {
    fn default() -> Self {
        Self { tokens: 32, over: DraftOver::Briefing, rounds: 1, first: None }
    }
}

impl Draft {
    /// So many tokens over a first briefing.
    pub fn of(tokens: usize) -> Self {
        Self { tokens, ..Self::default() }
    }

    /// So many tokens over the full cache.
    pub fn over_full(tokens: usize) -> Self {
        Self { tokens, over: DraftOver::Full, ..Self::default() }
    }

    /// Checks every range.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field.
    pub fn validate(&self) -> Result<()> {
        if self.tokens == 0 {
            return Err(Error::config("draft.tokens", 0, "want at least 1"));
        }
        if !(1..=8).contains(&self.rounds) {
            return Err(Error::config("draft.rounds", self.rounds, "want 1 to 8"));
        }
        if let Some(first) = self.first {
            let holds = first > 0.0 && first <= 1.0 && self.over == DraftOver::Briefing;
            if !holds {
                return Err(Error::config("draft.first", first, "want a ratio above 0 and at most 1, of a draft over a briefing"));
            }
        }
        if self.over == DraftOver::Full && self.rounds > 1 {
            return Err(Error::config("draft.rounds", self.rounds, "want 1 over the full cache: nothing better comes after it"));
        }
        Ok(())
    }
}

/// What was drafted, and the queries of it.
pub(super) struct Drafted {
    pub(super) tokens: Vec<u32>,
    /// Behind the full cache and the task, by layer of the model; none where nothing was drafted.
    pub(super) queries: Option<Vec<Tensor>>,
    /// Tokens that the model computed.
    pub(super) computed: usize,
}

/// The configuration of the briefing that the first draft is written over.
fn first(config: &BriefConfig, draft: Draft) -> BriefConfig {
    let mut first = BriefConfig { draft: None, task_state: TaskState::Recompute, ..config.clone() };
    if let Some(ratio) = draft.first {
        first.compaction.budget = Budget::KeepRatio(ratio);
    }
    first
}

/// What the author of the trajectory wrote last, at most `limit` tokens of it: as likely a beginning of what comes next as
/// can be had for nothing. Empty where nobody's own words are in it.
pub(super) fn echo(context: &Context, limit: usize) -> Vec<u32> {
    let Text { tokens, segments } = &*context.text;
    let own = |label: &str| OWN.iter().any(|source| label.starts_with(source.tag()));
    let end_of = |index: usize| segments.get(index + 1).map_or(tokens.len(), |(start, _)| *start as usize);
    let mut written = Vec::new();
    // The latest first, each from its beginning.
    for (index, (start, _)) in segments.iter().enumerate().rev().filter(|(_, (_, label))| own(label)) {
        let room = limit - written.len();
        written.extend(tokens[*start as usize..end_of(index)].iter().take(room));
        if written.len() == limit {
            break;
        }
    }
    written
}

/// Writes a draft for `task`, whose tokens are read behind the full cache in `fork` already.
pub(super) fn drafted(
    reader: Reader<'_>,
    task: (&Task, &[u32]),
    (fork, logits): (&KvCache, &Tensor),
    config: &BriefConfig,
    draft: Draft,
) -> Result<Drafted> {
    let options = GenerateOptions::greedy(draft.tokens);
    let worker = reader.context.worker();
    let mut heard = |_: u32, _: &str| reader.guard.goes_on();
    let mut computed = 0;
    let tokens = match draft.over {
        DraftOver::Full => {
            let mut cache = fork.fork();
            worker.generate_from_logits(&mut cache, logits, &options, &mut heard)?.tokens
        }
        DraftOver::Briefing => {
            let first = match draft.rounds {
                1 => self::first(config, draft),
                more => BriefConfig { draft: Some(Draft { rounds: more - 1, ..draft }), ..config.clone() },
            };
            let briefing = Briefer::new(reader).brief(task.0, &first)?;
            computed += briefing.prefilled + task.1.len();
            let mut cache = briefing.cache.fork();
            let logits = reader.prefill(task.1, &mut cache)?;
            worker.generate_from_logits(&mut cache, &logits, &options, &mut heard)?.tokens
        }
    };
    reader.guard.check()?;
    computed += tokens.len();
    if tokens.is_empty() {
        return Ok(Drafted { tokens, queries: None, computed });
    }
    let mut behind = fork.fork();
    let queries = reader.capture(&tokens, &mut behind)?.queries;
    computed += tokens.len();
    Ok(Drafted { tokens, queries: Some(queries), computed })
}
