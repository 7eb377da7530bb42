//! The runs of a folder under another handoff, turn by turn what they were.

use std::path::Path;

use lb_model::Worker;
use lb_orchestrate::{PromptProfile, RlmConfig, RunRecord, SharedWork};
use lb_session::{BoundaryPolicy, Handoff};
use serde::{Deserialize, Serialize};

use super::{Replayed, replay};
use crate::Result;
use crate::metrics::{ShortScore, short_answer};
use crate::runs::questions::{QuestionRow, best};
use crate::runs::{LOGS, OpenRepl};
use crate::stats::{grouped, mean, wilson};
use crate::table::cells::percent;
use crate::table::{Column, Table};

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

/// A handoff and its rows.
type Line<'a> = (&'a str, Vec<&'a ReplayedRow>);

/// One line for each handoff over the same runs.
pub fn replay_table(rows: &[ReplayedRow]) -> String {
    let a_call = |(_, rows): &Line<'_>, of: fn(&ReplayedRow) -> f64| {
        let calls = rows.iter().map(|row| row.calls).sum::<usize>().max(1) as f64;
        rows.iter().map(|row| of(row)).sum::<f64>() / calls
    };
    let count =
        |(_, rows): &Line<'_>, of: fn(&ReplayedRow) -> bool| rows.iter().filter(|row| of(row)).count();
    let columns: &[Column<'_, Line<'_>>] = &[
        ("handoff", &|(name, _)| (*name).to_owned()),
        ("exact (95 %)", &|line| {
            let (exact, n) = (count(line, |row| row.score.exact), line.1.len());
            let [low, high] = wilson(exact, n).map(|x| 100.0 * x);
            format!("{exact} of {n} ({low:.0}–{high:.0} %)")
        }),
        ("F1", &|(_, rows)| format!("{:.2}", mean(rows.iter().map(|row| row.score.f1)))),
        ("contained", &|line| count(line, |row| row.score.contained).to_string()),
        ("in a reply", &|line| count(line, |row| row.replies.contained).to_string()),
        ("kept", &|(_, rows)| percent(mean(rows.iter().filter_map(|row| row.keep_ratio)))),
        ("worker tokens", &|line| format!("{:.0}", a_call(line, |row| row.worker_tokens as f64))),
        ("computed", &|line| format!("{:.0}", a_call(line, |row| row.computed as f64))),
        ("ms a call", &|line| format!("{:.0}", 1e3 * a_call(line, |row| row.seconds))),
    ];
    Table::of(&grouped(rows, |row| row.handoff.as_str()), columns).to_string()
}
