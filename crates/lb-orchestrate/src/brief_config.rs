//! Everything that can be said about how a briefing is made.

use lb_am::Compaction;
use serde::{Deserialize, Serialize};

use crate::chunked::{ChunkMode, Chunking};
use crate::queries::QuerySource;
use crate::{Error, Result, TaskState};

/// How a briefing is made; see [`WorkerSession::brief_as`](crate::WorkerSession::brief_as).
///
/// ```
/// use lb_am::Compaction;
/// use lb_orchestrate::{BriefConfig, Chunking, QuerySource};
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

impl BriefConfig {
    /// Sets [`queries`](Self::queries).
    #[must_use]
    pub fn with_queries(self, queries: QuerySource) -> Self {
        Self { queries, ..self }
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
            if self.task_state == TaskState::Reuse {
                let reason = "no pass of the task sees all chunks that are read on their own";
                return Err(Error::config("task_state", "reuse", reason));
            }
        }
        Ok(())
    }
}
