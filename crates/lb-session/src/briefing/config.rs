//! Everything that can be said about how a briefing is made.

use lb_am::Compaction;
use serde::{Deserialize, Serialize};

use super::{Lookahead, Storage, TaskState};
use crate::queries::QuerySource;
use crate::{Error, Result};

/// How a briefing is made; see [`Snapshot::brief`](crate::Snapshot::brief).
///
/// ```
/// use lb_am::Compaction;
/// use lb_session::{BriefConfig, Chunking, QuerySource};
///
/// let config = BriefConfig::from(Compaction::keep_ratio(0.1)).with_chunking(Chunking::in_place(4096));
/// assert!(config.validate().is_ok());
/// let config = BriefConfig::default().with_queries(QuerySource::ContextPrefill).with_on_policy(true);
/// assert!(config.validate().is_err(), "only the task's own queries can be on-policy");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BriefConfig {
    /// What stays and how it is corrected. Default: that of [`Compaction`].
    pub compaction: Compaction,
    /// Where the queries come from that decide it. Default: the task.
    pub queries: QuerySource,
    /// What stands in for the answer, so that its queries join the task's. Default: `None`, which is [`Lookahead::default`] where
    /// the task's own queries are read off-policy behind the whole cache, and nothing elsewhere.
    pub lookahead: Option<Lookahead>,
    /// Whether the queries of a layer come from a residual stream that has run through the layers compacted before it
    /// (AM, arXiv 2602.16284, on-policy queries), not through the full cache. Default: false.
    ///
    /// One more pass of the task for a shared mask or an error target, none otherwise. Only for [`QuerySource::Task`]
    /// without chunks.
    pub on_policy: bool,
    /// What becomes of the task's own state. Default: [`TaskState::Recompute`].
    pub task_state: TaskState,
    /// Whether the trajectory is compacted piece by piece. Default: no.
    pub chunking: Option<Chunking>,
    /// What the kept slots are stored in; biases and values are fitted against the keys as they are stored. Default:
    /// [`Storage::Full`]. Slots of layers with a window stay as they are.
    pub storage: Storage,
}

impl From<Compaction> for BriefConfig {
    fn from(compaction: Compaction) -> Self {
        Self { compaction, ..Self::default() }
    }
}

impl From<&Compaction> for BriefConfig {
    fn from(compaction: &Compaction) -> Self {
        compaction.clone().into()
    }
}

impl From<&BriefConfig> for BriefConfig {
    fn from(config: &BriefConfig) -> Self {
        config.clone()
    }
}

impl BriefConfig {
    /// Sets [`queries`](Self::queries).
    #[must_use]
    pub fn with_queries(self, queries: QuerySource) -> Self {
        Self { queries, ..self }
    }

    /// Sets [`lookahead`](Self::lookahead).
    #[must_use]
    pub fn with_lookahead(self, lookahead: Lookahead) -> Self {
        Self { lookahead: Some(lookahead), ..self }
    }

    /// Sets [`on_policy`](Self::on_policy).
    #[must_use]
    pub fn with_on_policy(self, on_policy: bool) -> Self {
        Self { on_policy, ..self }
    }

    /// Sets [`task_state`](Self::task_state).
    #[must_use]
    pub fn with_task_state(self, task_state: TaskState) -> Self {
        Self { task_state, ..self }
    }

    /// Sets [`chunking`](Self::chunking).
    #[must_use]
    pub fn with_chunking(self, chunking: Chunking) -> Self {
        Self { chunking: Some(chunking), ..self }
    }

    /// Sets [`storage`](Self::storage).
    #[must_use]
    pub fn with_storage(self, storage: Storage) -> Self {
        Self { storage, ..self }
    }

    /// Whether answers can be looked ahead to: the task's own queries, read off-policy behind the whole cache.
    fn can_look_ahead(&self) -> bool {
        let rerotated = self.chunking.is_some_and(|chunking| chunking.mode == ChunkMode::Rerotated);
        self.queries == QuerySource::Task && !self.on_policy && !rerotated
    }

    /// What is looked ahead to, where anything is.
    pub(crate) fn looks_ahead(&self) -> Option<Lookahead> {
        let lookahead = self.lookahead.clone().unwrap_or_default();
        (self.can_look_ahead() && !lookahead.is_none()).then_some(lookahead)
    }

    /// Checks every range, and what goes with what.
    ///
    /// # Errors
    /// [`Error::Compaction`] and [`Error::Config`] naming the first field that does not hold.
    pub fn validate(&self) -> Result<()> {
        self.compaction.validate()?;
        self.queries.validate()?;
        if self.on_policy && self.queries != QuerySource::Task {
            return Err(Error::config("on_policy", true, "only the task's own queries can be on-policy"));
        }
        if let Some(lookahead) = &self.lookahead {
            lookahead.validate()?;
            if !lookahead.is_none() && !self.can_look_ahead() {
                let reason = "joins the task's own queries, read off-policy behind the whole cache";
                return Err(Error::config("lookahead", format!("{lookahead:?}"), reason));
            }
        }
        let Some(chunking) = self.chunking else { return Ok(()) };
        chunking.validate()?;
        if self.on_policy {
            return Err(Error::config("on_policy", true, "does not go with chunks"));
        }
        if chunking.mode == ChunkMode::Rerotated {
            let needs = self.compaction.selection.selector().needs();
            if needs.context || needs.repeat {
                let reason = "reads queries of the whole trajectory, which chunks that are read on their own do not have";
                return Err(Error::config("select", &self.compaction.selection, reason));
            }
            if self.queries != QuerySource::Task {
                let reason = "chunks that are read on their own are asked by the task alone";
                return Err(Error::config("queries", format!("{:?}", self.queries), reason));
            }
            if self.storage != Storage::Full {
                let reason =
                    "keys of chunks that are read on their own are rotated after they were compacted";
                return Err(Error::config("storage", format!("{:?}", self.storage), reason));
            }
            if self.task_state == TaskState::Reuse {
                let reason = "no pass of the task sees all chunks that are read on their own";
                return Err(Error::config("task_state", "reuse", reason));
            }
        }
        Ok(())
    }
}

/// How a trajectory is cut for its compaction. Everything that a [`Compaction`] says of a cache, budgets above all, is
/// then said of each chunk: a ratio of 0.1 keeps a tenth of every chunk, and a kept length that many positions in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chunking {
    /// Positions of a chunk, at least 1; the last chunk may be shorter.
    pub chunk_len: usize,
    /// What a chunk is.
    pub mode: ChunkMode,
}

/// What a chunk is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ChunkMode {
    /// A range of the full cache. Each is compacted on its own by the same queries, so that the mass of the whole and
    /// its output are the sums of the parts'; the compaction never needs more memory than one chunk.
    #[default]
    InPlace,
    /// A piece of the text, read on its own right behind the template's head with the task behind it, compacted there,
    /// and its keys then rotated to where the piece stands in the whole. Tokens of a chunk have not seen the chunks
    /// before. The chunk, the head and the task together must fit the model; the first chunk has the head in addition.
    /// Where room was made ([`RoomPolicy`](crate::RoomPolicy)), the tokens that are left are read as if they were the text.
    Rerotated,
}

impl Chunking {
    /// Ranges of the full cache.
    pub fn in_place(chunk_len: usize) -> Self {
        Self { chunk_len, mode: ChunkMode::InPlace }
    }

    /// Pieces of the text that are read on their own.
    pub fn rerotated(chunk_len: usize) -> Self {
        Self { chunk_len, mode: ChunkMode::Rerotated }
    }

    /// Checks every range.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field.
    pub fn validate(&self) -> Result<()> {
        if self.chunk_len == 0 {
            return Err(Error::config("chunking.chunk_len", 0, "want at least 1"));
        }
        Ok(())
    }
}
