//! Queries that look like the answer's, before there is one.
//!
//! A task's own queries are not those of its answer: on real logs a briefing by them retains half as much again less than one by
//! the answer's own (`docs/real.md`). What can be had beforehand is an *echo*, the last words of whoever writes in the
//! trajectory, and a *draft*, a few tokens that the worker writes over a first briefing (Lookahead Q-Cache, arXiv
//! 2505.20334), the task's own state behind it; or *vectors* that were trained on other answers (LookaheadKV, arXiv 2603.10899). Each is
//! read behind the task and the full cache, and its queries join the task's; a draft is mended where the full cache would have gone
//! on otherwise.

mod drafting;
mod echo;
mod learned;
mod passes;

use std::path::PathBuf;

use lb_am::Budget;
use serde::{Deserialize, Serialize};

use super::{BriefConfig, TaskState};
use crate::{Error, Result};

pub(super) use echo::echo;
pub use learned::Learned;
pub(super) use passes::{joined, passes_ahead};

/// What stands in for the answer while a briefing is made; its queries join the task's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lookahead {
    /// Tokens of what the trajectory's own author wrote last (reasoning, replies), the latest segment first, each from its
    /// beginning. 0 for none. Default: 128.
    pub echo: usize,
    /// Tokens of what the session has answered so far, the answers to the most similar tasks first; a snapshot knows those up to its
    /// making. 0 for none, the default.
    pub earlier: usize,
    /// Vectors that were trained to ask what answers ask, read in the place of one. Default: none.
    pub learned: Option<Learned>,
    /// What the worker writes on trial. Default: [`Draft::default`].
    pub draft: Option<Draft>,
}

/// A trial answer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Draft {
    /// Tokens at most, at least 1. It ends where the worker ends its answer. Default: 64.
    pub tokens: usize,
    /// The same where an echo is read as well; 0 for no draft there. Default: 4: of a long answer an echo tells most of what a
    /// draft would (`docs/real.md`), and what a short one begins with it does not tell.
    pub beside_echo: usize,
    /// What it is written over.
    pub over: DraftOver,
    /// The share of the positions that the first briefing keeps, in (0, 1], as they are: it has to carry the draft alone, and so much
    /// of a cache needs no fits. `None` for a first briefing like the final one. Default: 0.5.
    pub first: Option<f64>,
    /// Tokens that are written over a briefing before the full cache, which reads them for their queries, has a look: what it would
    /// have gone on with takes the place of what it would not have written. The first look comes after so many, later ones sooner or
    /// later, as it is more often wrong or right. 0 for a draft as it is written. Default: 8; 0 over the full cache.
    pub check: usize,
}

/// What a draft is written over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DraftOver {
    /// A first briefing by the task, and by the echo where there is one.
    #[default]
    Briefing,
    /// The full cache.
    Full,
}

impl Default for Lookahead {
    fn default() -> Self {
        Self { echo: 128, draft: Some(Draft::default()), ..Self::NONE }
    }
}

impl Default for Draft {
    fn default() -> Self {
        Self { tokens: 64, beside_echo: 4, over: DraftOver::Briefing, first: Some(0.5), check: 8 }
    }
}

impl Draft {
    /// So many tokens over a first briefing, beside an echo as well.
    pub fn of(tokens: usize) -> Self {
        Self { tokens, beside_echo: tokens, ..Self::default() }
    }

    /// So many tokens over the full cache.
    pub fn over_full(tokens: usize) -> Self {
        Self { over: DraftOver::Full, first: None, check: 0, ..Self::of(tokens) }
    }

    fn validate(&self) -> Result<()> {
        if self.tokens == 0 {
            return Err(Error::config("draft.tokens", 0, "want at least 1"));
        }
        if self.over == DraftOver::Full && self.check > 0 {
            return Err(Error::config("draft.check", self.check, "want 0 of a draft over the full cache"));
        }
        match self.first {
            Some(first) if !(first > 0.0 && first <= 1.0 && self.over == DraftOver::Briefing) => {
                let reason = "want a ratio above 0 and at most 1, of a draft over a briefing";
                Err(Error::config("draft.first", first, reason))
            }
            _ => Ok(()),
        }
    }

    /// The draft where an echo is read as well.
    fn beside_echo(self) -> Option<Self> {
        (self.beside_echo > 0).then_some(Self { tokens: self.beside_echo, ..self })
    }

    /// The configuration of the briefing that the first draft is written over.
    fn first_briefing(&self, config: &BriefConfig) -> BriefConfig {
        let mut first = BriefConfig { task_state: TaskState::Recompute, ..config.clone() };
        if let Some(ratio) = self.first {
            first.compaction.budget = Budget::KeepRatio(ratio);
            first.compaction = first.compaction.selection_only();
        }
        first
    }
}

impl Lookahead {
    /// The task's queries alone.
    pub const NONE: Self = Self { echo: 0, earlier: 0, learned: None, draft: None };

    /// An echo of so many tokens, and no draft.
    pub fn echo(tokens: usize) -> Self {
        Self { echo: tokens, ..Self::NONE }
    }

    /// Vectors from a file, and neither echo nor draft.
    pub fn learned(file: impl Into<PathBuf>) -> Self {
        Self { learned: Some(Learned::of(file)), ..Self::NONE }
    }

    /// A draft, and no echo.
    pub fn draft(draft: Draft) -> Self {
        Self { draft: Some(draft), ..Self::NONE }
    }

    /// The draft that is written beside this echo.
    pub(in crate::briefing) fn draft_beside(&self, echo: &[u32]) -> Option<Draft> {
        if echo.is_empty() { self.draft } else { self.draft.and_then(Draft::beside_echo) }
    }

    /// Whether there is any.
    pub fn is_none(&self) -> bool {
        self.echo == 0 && self.earlier == 0 && self.learned.is_none() && self.draft.is_none()
    }

    /// Checks every range.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field.
    pub fn validate(&self) -> Result<()> {
        self.learned.as_ref().map_or(Ok(()), Learned::validate)?;
        self.draft.as_ref().map_or(Ok(()), Draft::validate)
    }
}
