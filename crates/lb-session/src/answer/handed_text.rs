//! What a handoff makes of a trajectory as text, before anything is answered.

use std::time::Duration;

use super::ask::Ask;
use super::call::Through;
use crate::handoff::hand_over;
use crate::ledger::CallTokens;
use crate::{Error, Handoff, Result};

/// The text that stands in the trajectory's place; see [`Ask::text`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HandedText {
    /// Behind the template's head, lines with their labels.
    pub text: String,
    /// Its tokens, the template's head counted in.
    pub tokens: usize,
    /// Positions of the trajectory.
    pub seq_len: usize,
    /// What it cost to make: what was read and written for it.
    pub cost: CallTokens,
    /// How long that took.
    pub brief: Duration,
}

impl Ask<'_> {
    /// What the handoff hands over as text, without an answer; a second session, or another program, may read it. Nothing is recorded.
    ///
    /// # Errors
    /// Those of [`run`](Self::run); [`Error::Config`] for a handoff that gives a cache.
    pub fn text(self) -> Result<HandedText> {
        let Ask { asked, plan } = self.alone();
        let guard = plan.guard();
        let answerer = plan.answerer(&guard, &asked);
        let cache = |name: &str| Err(Error::config("handoff", name, "hands over a cache, and no text"));
        answerer.check()?;
        let handoff = match answerer.through {
            Through::Handoff(Handoff::LatentBriefing(_) | Handoff::RenewedBriefing(_))
            | Through::Briefings(_) => {
                return cache("latent-briefing");
            }
            Through::Handoff(handoff) => handoff,
        };
        let tasks: Vec<_> = asked.iter().collect();
        let handed = hand_over(answerer.reader, answerer.memo, handoff, &tasks)
            .map_err(|error| guard.explain(error))?;
        let Some(handed) = handed.into_iter().next().filter(|handed| handed.cache.is_empty()) else {
            return cache(handoff.name());
        };
        let context = answerer.reader.context;
        let behind = handed.text.get(context.head().len()..).unwrap_or_default();
        let text = context.worker().tokenizer().decode(behind)?;
        Ok(HandedText {
            text,
            tokens: handed.text.len(),
            seq_len: handed.seq_len,
            cost: handed.cost,
            brief: handed.brief,
        })
    }
}
