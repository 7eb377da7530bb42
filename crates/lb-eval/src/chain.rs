//! Two handoffs, one behind the other: what the first makes of the trajectory as text is the trajectory of the second.
//!
//! `selective-context:keep=0.5+latent-briefing:keep=0.2` is a briefing of pruned messages. Sizes of the second are of what the first
//! leaves, so that this keeps a tenth of the whole. `summary:200,by=orchestrator` is what another model writes, as the worker reads it.

use std::str::FromStr;
use std::time::{Duration, Instant};

use lb_session::{Handoff, HandoffKind, Segment, WorkerSession};

use crate::{Error, Result};

/// Who writes the text, as an argument.
const BY: &str = "by=orchestrator";

/// The two texts, where `text` is of this form: a `+` before the name of a handoff.
fn split(text: &str) -> Option<(&str, &str)> {
    let at = text.match_indices('+').map(|(at, _)| at).find(|at| {
        let then = text[at + 1..].trim();
        then.split_once(':').map_or(then, |(name, _)| name).parse::<HandoffKind>().is_ok()
    })?;
    Some((text[..at].trim(), text[at + 1..].trim()))
}

/// Whether a condition of this text is a chain.
pub(crate) fn is_one(text: &str) -> bool {
    split(text).is_some() || text.split([':', ',']).any(|part| part.trim() == BY)
}

/// The two, in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct Chain {
    /// Makes text of the trajectory.
    pub text: Handoff,
    /// Whether it is another model that does: the orchestrator's, which has read the same trajectory.
    pub by_orchestrator: bool,
    /// Hands over what the worker reads of that text.
    pub then: Handoff,
}

/// What the first made, read by the worker.
pub(crate) struct Reread {
    pub(crate) session: WorkerSession,
    /// Tokens that were read and written for the text, and read of it.
    pub(crate) tokens: usize,
    pub(crate) time: Duration,
}

impl FromStr for Chain {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (first, then) = split(text).unwrap_or((text, "full-kv"));
        let (name, arguments) = first.split_once(':').unwrap_or((first, ""));
        let (by, rest): (Vec<&str>, Vec<&str>) =
            arguments.split(',').map(str::trim).filter(|part| !part.is_empty()).partition(|part| *part == BY);
        let first: Handoff =
            if rest.is_empty() { name.parse()? } else { format!("{name}:{}", rest.join(",")).parse()? };
        let is_cache = matches!(
            first,
            Handoff::FullKv
                | Handoff::PackedKv(_)
                | Handoff::Recent(_)
                | Handoff::Random { .. }
                | Handoff::LatentBriefing(_)
                | Handoff::RenewedBriefing(_)
                | Handoff::None
        );
        if is_cache {
            return Err(Error::config("conditions", text, "want a first handoff that makes text"));
        }
        Ok(Self { text: first, by_orchestrator: !by.is_empty(), then: then.parse()? })
    }
}

impl Chain {
    /// Has `blank`, a session without a trajectory, read what the first makes of `session`'s for `task`.
    pub(crate) fn reread(
        &self,
        session: &mut WorkerSession,
        task: &str,
        mut blank: WorkerSession,
    ) -> Result<Reread> {
        let start = Instant::now();
        let handed = session.ask(task).via(self.text.clone()).text()?;
        blank.extend(Segment::finding(handed.text.trim()))?;
        let tokens = handed.cost.prefilled + handed.cost.drafted + blank.seq_len();
        Ok(Reread { session: blank, tokens, time: start.elapsed() })
    }
}
