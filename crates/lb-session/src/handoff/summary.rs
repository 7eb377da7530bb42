//! A summary that the worker writes itself.

use std::time::{Duration, Instant};

use lb_model::{GenerateOptions, KvCache};
use serde::{Deserialize, Serialize};

use super::hand::Handed;
use crate::answer::{Prompted, share};
use crate::ledger::CallTokens;
use crate::session::WorkerSession;
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

    fn request(&self, task: &Task) -> Task {
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

/// The summary of a trajectory.
#[derive(Debug)]
pub(super) struct Kept {
    config: SummaryConfig,
    /// Tokens of the text that it is a summary of.
    text_len: usize,
    /// Template head and summary.
    before: Vec<u32>,
}

/// A summary, and what it cost.
struct Written {
    before: Vec<u32>,
    cost: CallTokens,
}

impl WorkerSession {
    pub(super) fn summarised(&mut self, config: &SummaryConfig, tasks: &[Task]) -> Result<Vec<Handed>> {
        self.check_trajectory()?;
        let start = Instant::now();
        if config.scope == SummaryScope::Task {
            let written = self.write_summaries(config, tasks)?;
            let brief = share(start.elapsed(), tasks.len());
            let handed = |written: Written| self.as_made_text(written.before, brief, written.cost);
            return Ok(written.into_iter().map(handed).collect());
        }
        let text_len = self.text.tokens.len();
        let kept = self.keeps.summary.as_ref();
        if let Some(kept) = kept.filter(|kept| kept.text_len == text_len && kept.config == *config) {
            let (before, nothing) = (kept.before.clone(), CallTokens::default());
            return Ok(self.as_common_text(before, Duration::ZERO, nothing, tasks.len()));
        }
        let Some(first) = tasks.first() else { return Ok(Vec::new()) };
        let Written { before, cost } = self.write_summaries(config, std::slice::from_ref(first))?.remove(0);
        self.keeps.summary = Some(Kept { config: config.clone(), text_len, before: before.clone() });
        Ok(self.as_common_text(before, start.elapsed(), cost, tasks.len()))
    }

    /// One summary for each task, over forks of the full cache.
    fn write_summaries(&self, config: &SummaryConfig, tasks: &[Task]) -> Result<Vec<Written>> {
        let options = GenerateOptions { max_new_tokens: config.max_tokens, ..self.config.generate.clone() };
        let requests: Vec<Task> = tasks.iter().map(|task| config.request(task)).collect();
        let tokens = self.tokens_of(&requests)?;
        let read: Vec<usize> = tokens.iter().map(Vec::len).collect();
        let prompts: Vec<Prompted> = tokens.into_iter().map(Prompted::Tokens).collect();
        let mut caches: Vec<KvCache> = tasks.iter().map(|_| self.held.cache.fork()).collect();
        let made = self.generate_over(&mut caches, &prompts, &options, None, &mut |_, _| true)?;
        let written = |(made, prefilled): (&lb_model::Generation, usize)| {
            let mut before = self.prompt.head.clone();
            let text = made.text.trim();
            if !text.is_empty() {
                before.extend(self.line(&Segment::finding(text))?);
            }
            let cost = CallTokens { prefilled, drafted: made.tokens.len(), ..CallTokens::default() };
            Ok(Written { before, cost })
        };
        made.generations.iter().zip(read).map(written).collect()
    }
}
