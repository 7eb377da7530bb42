//! A summary that the worker writes itself.

use std::time::Instant;

use lb_model::{GenerateOptions, KvCache};
use serde::{Deserialize, Serialize};

use super::last::Last;
use super::stand_in::StandIn;
use crate::context::Reader;
use crate::generate::{Input, generate};
use crate::ledger::{CallTokens, share};
use crate::{Error, Result, Segment, Task};

/// What a summary is written for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SummaryScope {
    /// Any task: it is written once and kept until the trajectory grows. The call that needs it first pays for it.
    #[default]
    Trajectory,
    /// One task, whose question stands behind the instruction. Each call pays for its own.
    Task,
}

/// How a summary is written, over the full cache. The worker then answers over template head and summary alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SummaryConfig {
    /// Tokens of the summary at most, at least 1. Default: 256.
    pub max_tokens: usize,
    /// What the worker is told. Default: to summarise, with names and figures; for the task where there is one.
    pub instruction: Option<String>,
    /// What it is written for. Default: any task.
    pub scope: SummaryScope,
}

impl Default for SummaryConfig {
    fn default() -> Self {
        Self { max_tokens: 256, instruction: None, scope: SummaryScope::Trajectory }
    }
}

impl SummaryConfig {
    /// Sets [`max_tokens`](Self::max_tokens).
    #[must_use]
    pub fn with_max_tokens(self, max_tokens: usize) -> Self {
        Self { max_tokens, ..self }
    }

    /// Sets [`instruction`](Self::instruction).
    #[must_use]
    pub fn with_instruction(self, instruction: impl Into<String>) -> Self {
        Self { instruction: Some(instruction.into()), ..self }
    }

    /// Sets [`scope`](Self::scope).
    #[must_use]
    pub fn with_scope(self, scope: SummaryScope) -> Self {
        Self { scope, ..self }
    }

    /// Checks every range.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field.
    pub fn validate(&self) -> Result<()> {
        if self.max_tokens == 0 {
            return Err(Error::config("summary.max_tokens", 0, "want at least 1"));
        }
        match &self.instruction {
            Some(text) if text.trim().is_empty() => {
                Err(Error::config("summary.instruction", "", "want one that says something"))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn request(&self, task: &Task) -> Task {
        let told = |default| self.instruction.as_deref().unwrap_or(default);
        match self.scope {
            SummaryScope::Trajectory => {
                told("Summarise the notes so far, with every name and number that may be asked for.").into()
            }
            SummaryScope::Task => {
                let told = told("Summarise what the notes so far say that helps with this task:");
                format!("{told}\n{}", task.question).into()
            }
        }
    }
}

/// A summary, and what it cost.
struct Written {
    /// Template head and summary.
    text: Vec<u32>,
    cost: CallTokens,
}

/// For each task a summary, as text. One for any task is written once.
pub(super) fn summarised(
    reader: Reader<'_>,
    known: &Last<SummaryConfig, Vec<u32>>,
    config: &SummaryConfig,
    tasks: &[&Task],
) -> Result<Vec<StandIn>> {
    let context = reader.context;
    context.check_trajectory()?;
    let start = Instant::now();
    if config.scope == SummaryScope::Task {
        let written = write(reader, config, tasks)?;
        let brief = share(start.elapsed(), tasks.len());
        let handed = |written: Written| StandIn::of_text(context, written.text).made(brief, written.cost);
        return Ok(written.into_iter().map(handed).collect());
    }
    if let Some(text) = known.get(config) {
        return Ok(StandIn::of_text(context, text).shared(tasks.len()));
    }
    let Some(first) = tasks.first() else { return Ok(Vec::new()) };
    let Written { text, cost } = write(reader, config, &[first])?.remove(0);
    known.keep(config.clone(), text.clone());
    Ok(StandIn::of_text(context, text).made(start.elapsed(), cost).shared(tasks.len()))
}

/// One summary for each task, over forks of the full cache.
fn write(reader: Reader<'_>, config: &SummaryConfig, tasks: &[&Task]) -> Result<Vec<Written>> {
    let context = reader.context;
    let options = GenerateOptions { max_new_tokens: config.max_tokens, ..context.settings.generate.clone() };
    let requests: Vec<Task> = tasks.iter().map(|task| config.request(task)).collect();
    let tokens = reader.tokens_of(&requests.iter().collect::<Vec<_>>())?;
    let read: Vec<usize> = tokens.iter().map(Vec::len).collect();
    let inputs: Vec<Input> = tokens.into_iter().map(Input::Tokens).collect();
    let mut caches: Vec<KvCache> = tasks.iter().map(|_| context.full.cache.fork()).collect();
    let made = generate(reader, &mut caches, &inputs, (&[], &mut []), &options, None, &mut |_, _| true)?;
    let written = |(made, prefilled): (&lb_model::Generation, usize)| {
        let mut tokens = context.head().to_vec();
        let text = made.text.trim();
        if !text.is_empty() {
            tokens.extend(reader.line(&Segment::finding(text))?);
        }
        let cost = CallTokens { prefilled, drafted: made.tokens.len(), ..CallTokens::default() };
        Ok(Written { text: tokens, cost })
    };
    made.generations.iter().zip(read).map(written).collect()
}
