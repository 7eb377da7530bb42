//! Where the queries come from that a trajectory is compacted for (AM, arXiv 2602.16284, reference queries).

mod context;
mod extra;
mod mixture;
mod repeat;
mod self_study;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::context::Reader;
use crate::{Error, Result};

pub(crate) use extra::Extra;
pub(crate) use repeat::REQUEST;

/// Where the queries come from. All are the worker's own query vectors behind the full cache, but for random ones; a
/// compaction attends with each of them to every position, so its cost grows with their number.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum QuerySource {
    /// The task's own pass over the full cache (Latent Briefing).
    #[default]
    Task,
    /// The queries with which the worker read the trajectory itself (AM, "context prefill"). Costs reading the
    /// trajectory once more.
    ContextPrefill,
    /// The trajectory read once more behind itself, after a request to repeat it (KVzip, arXiv 2505.23416; AM, "repeat
    /// prefill"). Needs positions for the trajectory twice.
    RepeatPrefill,
    /// The worker asks and answers itself behind the full cache: the queries of these prompts and of what it generates
    /// (AM and Cartridges, arXiv 2506.06266, "self-study").
    SelfStudy {
        /// What it is asked, at least one. See [`QuerySource::self_study`] for the defaults.
        prompts: Vec<String>,
        /// Tokens of each answer, at least 1.
        max_new_tokens: usize,
        /// 0 is greedy; otherwise above 0.
        temperature: f64,
        /// Same seed, same answers.
        seed: u64,
    },
    /// Normal vectors through each layer's query norm, rotated to the positions right behind the trajectory (AM,
    /// "random vectors"). They need as many free positions.
    Random {
        /// Tokens' worth of vectors, at least 1.
        count: usize,
        /// Same seed, same vectors.
        seed: u64,
    },
    /// Tokens of several sources, drawn by lot and without replacement. All heads take the same tokens.
    Mixture {
        /// Sources with their shares of `cap`, above 0; they are scaled to a sum of 1. A mixture cannot hold another.
        parts: Vec<(QuerySource, f64)>,
        /// Tokens at most, at least one for each part. A source that has fewer than its share gives all it has.
        cap: usize,
        /// Same seed, same tokens.
        seed: u64,
    },
}

impl QuerySource {
    /// Self-study with prompts that go over facts, names, figures and links: 64 tokens each, greedy.
    pub fn self_study() -> Self {
        let prompts = [
            "Summarise the notes so far.",
            "List every name, code and number in the notes, and what each belongs to.",
            "Which of the notes correct or contradict earlier ones?",
            "Ask a question that the notes answer, then answer it.",
        ];
        let prompts = prompts.map(str::to_owned).to_vec();
        Self::SelfStudy { prompts, max_new_tokens: 64, temperature: 0.0, seed: 0 }
    }

    /// Checks every range.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field.
    pub fn validate(&self) -> Result<()> {
        match self {
            Self::Task | Self::ContextPrefill | Self::RepeatPrefill => Ok(()),
            Self::SelfStudy { prompts, max_new_tokens, temperature, .. } => {
                let blank = prompts.iter().any(|prompt| prompt.trim().is_empty());
                ensure(
                    !blank && !prompts.is_empty(),
                    "queries.prompts",
                    "",
                    "want prompts that say something",
                )?;
                ensure(*max_new_tokens > 0, "queries.max_new_tokens", max_new_tokens, "want at least 1")?;
                let holds = *temperature >= 0.0 && temperature.is_finite();
                ensure(holds, "queries.temperature", temperature, "want 0 or more")
            }
            Self::Random { count, .. } => ensure(*count > 0, "queries.count", count, "want at least 1"),
            Self::Mixture { parts, cap, .. } => {
                ensure(!parts.is_empty(), "queries.parts", "[]", "want at least one source")?;
                ensure(*cap >= parts.len(), "queries.cap", cap, "want a token for each part at least")?;
                for (source, share) in parts {
                    let holds = *share > 0.0 && share.is_finite();
                    ensure(holds, "queries.parts", share, "want shares above 0")?;
                    let nested = matches!(source, Self::Mixture { .. });
                    ensure(!nested, "queries.parts", "mixture", "a mixture cannot hold another")?;
                    source.validate()?;
                }
                Ok(())
            }
        }
    }
}

fn ensure(
    holds: bool,
    field: &'static str,
    value: impl std::fmt::Display,
    reason: &'static str,
) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::config(field, value, reason)) }
}

/// The queries of a source behind the full cache, and how many tokens were read for them; per layer
/// `[kv_heads, group_size * tokens, head_dim]`, rows (head of the group, token).
pub(crate) fn gather(reader: Reader<'_>, source: &QuerySource, task: &[u32]) -> Result<(Vec<Tensor>, usize)> {
    match source {
        QuerySource::Task => Ok((reader.capture_behind_all(task)?.0.queries, task.len())),
        QuerySource::ContextPrefill => context::context_queries(reader),
        QuerySource::RepeatPrefill => repeat::repeat_queries(reader),
        QuerySource::SelfStudy { prompts, max_new_tokens, temperature, seed } => {
            self_study::self_study_queries(reader, prompts, *max_new_tokens, *temperature, *seed)
        }
        QuerySource::Random { count, seed } => {
            let from = reader.context.seq_len();
            Ok((reader.context.model().random_queries(*count, from, *seed)?, 0))
        }
        QuerySource::Mixture { parts, cap, seed } => mixture::mixed_queries(reader, parts, *cap, *seed, task),
    }
}
