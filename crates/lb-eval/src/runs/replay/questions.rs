//! The runs of a folder under another handoff, turn by turn what they were.

use std::path::Path;

use lb_model::Worker;
use lb_orchestrate::{PromptProfile, RlmConfig, RunRecord, SharedWork};
use lb_session::{BoundaryPolicy, Handoff};
use serde::{Deserialize, Serialize};

use super::QuestionRow;
use super::row::best;
use crate::Result;
use crate::handoffs::{OpenRepl, Replayed, replay};
use crate::metrics::{ShortScore, short_answer};

/// Folder of the logs, beside the rows.
const LOGS: &str = "logs";

/// A question's run under a handoff.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplayedRow {
    /// The handoff as text.
    pub handoff: String,
    /// The question's id.
    pub id: String,
    /// The run's answer.
    pub answer: Option<String>,
    /// What stopped it.
    pub stopped: Option<String>,
    /// What the answer is worth.
    pub score: ShortScore,
    /// The best of each over the workers' replies.
    pub replies: ShortScore,
    /// Share of the trajectory that the worker could attend to, on average over the calls.
    pub keep_ratio: Option<f64>,
    /// Worker calls.
    pub calls: usize,
    /// Positions in the worker's context plus generated tokens.
    pub worker_tokens: usize,
    /// Tokens that the worker computed for the calls.
    pub computed: usize,
    /// Seconds of the worker but for reading the trajectory.
    pub seconds: f64,
}

/// Replays the run behind each row that has a log, under each handoff; its documents are read once. `heard` gets each row
/// as it is done.
///
/// # Errors
/// [`crate::Error::Run`] where a log or its documents cannot be read, or a session cannot be opened.
pub fn replay_rows(
    worker: &Worker,
    open: &OpenRepl,
    folder: &Path,
    rows: &[QuestionRow],
    handoffs: &[String],
    heard: &mut dyn FnMut(&ReplayedRow),
) -> Result<Vec<ReplayedRow>> {
    let parsed = handoffs.iter().map(|handoff| Ok((handoff, handoff.parse()?)));
    let parsed: Vec<(&String, Handoff)> = parsed.collect::<Result<_>>()?;
    let mut replayed = Vec::new();
    for row in rows {
        let Some(log) = &row.log else { continue };
        let record = RunRecord::open(folder.join(LOGS).join(log))?;
        let policy = match record.metadata.latent_briefing.profile {
            PromptProfile::Small => RlmConfig::small().session.policy,
            PromptProfile::Standard => BoundaryPolicy::default(),
        };
        let shared = SharedWork::new();
        for (name, handoff) in &parsed {
            let made = replay(worker, open, &record, handoff, policy.clone(), Some(&shared))?;
            let row = ReplayedRow::of(row, name, made);
            heard(&row);
            replayed.push(row);
        }
    }
    Ok(replayed)
}

impl ReplayedRow {
    fn of(row: &QuestionRow, handoff: &str, made: Replayed) -> Self {
        let (answer, stopped) = match made.answer {
            Ok(answer) => (Some(answer), None),
            Err(stopped) => (None, Some(stopped)),
        };
        let work = &made.ledger.worker;
        Self {
            handoff: handoff.to_owned(),
            id: row.id.clone(),
            score: short_answer(answer.as_deref().unwrap_or_default(), &row.answers),
            replies: best(&made.replies, &row.answers),
            answer,
            stopped,
            keep_ratio: made.keep_ratio,
            calls: work.calls,
            worker_tokens: work.tokens.worker_tokens(),
            computed: work.tokens.prefilled + work.tokens.drafted + work.tokens.generated,
            seconds: work.brief_s + work.prefill_s + work.decode_s,
        }
    }
}
