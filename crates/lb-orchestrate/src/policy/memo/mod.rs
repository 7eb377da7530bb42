//! Answers of a worker that are remembered on disk, so that the same question over the same trajectory is not computed
//! again.
//!
//! An answer is found by the SHA-256 of all that decides it: tenant, the worker's [`Fingerprint`](lb_model::Fingerprint) and
//! dtype, how it generates and is worded, handoff, the contents that the handoff is made from, document and prompt. The digest
//! of those contents stands for the briefing's own: the same input gives the same briefing, and it need not be made for a
//! hit. Each answer is a file of its own, written whole; a file that is not what was written is no answer, is counted and taken
//! away. A tenant has a folder of its own, named by a digest.

mod entry;
mod key;
mod store;

use std::path::PathBuf;
use std::time::Duration;

use lb_session::CallTokens;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

pub use key::MemoKey;
pub(crate) use key::{Setting, applies};
pub use store::AnswerMemo;

/// Where answers are remembered, for whom, and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MemoConfig {
    /// The folder; it is made where it is missing.
    pub dir: PathBuf,
    /// Whose answers they are. Nobody gets another tenant's. Default: `local`.
    pub tenant: String,
    /// Seconds that an answer is good for, at least 1. Default: a week.
    pub time_to_live_s: u64,
    /// Bytes of one tenant's answers; beyond it what was not used for longest is forgotten. Default: 64 MiB.
    pub max_bytes: u64,
}

impl Default for MemoConfig {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("answer-memo"),
            tenant: "local".to_owned(),
            time_to_live_s: 7 * 24 * 3600,
            max_bytes: 64 << 20,
        }
    }
}

impl MemoConfig {
    /// In this folder, with the defaults.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), ..Self::default() }
    }

    /// Checks every range.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field.
    pub fn validate(&self) -> Result<()> {
        if self.tenant.trim().is_empty() {
            return Err(Error::config("memo.tenant", &self.tenant, "want a name"));
        }
        if self.time_to_live_s == 0 {
            return Err(Error::config("memo.time_to_live_s", 0, "want at least 1"));
        }
        if self.max_bytes < 4096 {
            return Err(Error::config("memo.max_bytes", self.max_bytes, "want at least 4096"));
        }
        Ok(())
    }

    pub(crate) fn time_to_live(&self) -> Duration {
        Duration::from_secs(self.time_to_live_s)
    }
}

/// An answer that was remembered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RememberedAnswer {
    /// Its text.
    pub response: String,
    /// What it took to compute.
    pub tokens: CallTokens,
    /// Share of the trajectory that the worker could attend to.
    pub keep_ratio: Option<f64>,
    /// Seconds that it took to compute.
    pub seconds: f64,
}

/// How a call was answered from memory: what it did not have to compute.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemoHit {
    /// Tokens of the call that computed it.
    pub tokens: CallTokens,
    /// Seconds of it.
    pub seconds: f64,
    /// Seconds since then.
    pub age_s: u64,
}

/// What came of a memo so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoStats {
    /// Calls that were answered from it.
    pub hits: usize,
    /// Calls that were not in it.
    pub misses: usize,
    /// Of the misses, those whose answer was too old.
    pub expired: usize,
    /// Of the misses, those whose file was not what was written.
    pub corrupt: usize,
    /// Calls that were not looked up: sampled answers, queries that depend on what was answered before, chances.
    pub bypassed: usize,
    /// Answers that were written.
    pub stored: usize,
    /// Answers that were forgotten for want of room.
    pub evicted: usize,
    /// Answers that could not be written; the calls are answered all the same.
    pub unwritten: usize,
}
