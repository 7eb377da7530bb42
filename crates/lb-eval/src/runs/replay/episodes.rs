//! Episodes whose questions a program asks: recorded once, replayed under each handoff.

use std::path::Path;

use lb_model::Worker;
use lb_orchestrate::{RlmConfig, RunRecord, Script};
use lb_session::Handoff;
use serde::{Deserialize, Serialize};

use super::{Replayed, config, opened};
use crate::Result;
use crate::episodes::{Episode, Kind, LineKind};
use crate::runs::OpenRepl;
use crate::stats::{Accuracy, paired_difference};
use crate::table::cells::{accuracy, difference, percent};
use crate::table::{Column, Table};

/// Lines of the log that the recorded program looks at in one turn.
const LINES_A_TURN: usize = 40;

/// Records a program that reads the episode's log in turns of 40 lines, notes its findings, prints the rest, and asks the
/// episode's questions in one batch, one answer a line.
///
/// # Errors
/// [`crate::Error::Run`] where the run does not come to its end.
pub fn record(worker: &Worker, open: &OpenRepl, episode: &Episode, dir: &Path) -> Result<RunRecord> {
    let line = |line: &crate::episodes::Line| {
        let tag = match line.source {
            LineKind::Finding => "finding",
            LineKind::Reasoning => "reasoning",
            LineKind::Tool => "tool",
        };
        format!("{tag}: {}", line.text)
    };
    let text: Vec<String> = episode.lines.iter().map(line).collect();
    let config = RlmConfig { log_dir: Some(dir.to_owned()), handoff: Handoff::None, ..config() };
    let mut rlm = opened(worker, open, config)?;
    rlm.add_context(&text.join("\n"))?;
    let run = rlm.run(&mut Script::new(turns(episode)).named("walk"), "Answer all questions about the log.");
    let run = run.map_err(|stopped| stopped.error)?;
    let log = run.log.ok_or(lb_orchestrate::Error::Empty { arg: "log" })?;
    Ok(RunRecord::open(log)?)
}

fn turns(episode: &Episode) -> Vec<String> {
    let read = |from: usize| {
        let to = from + LINES_A_TURN;
        format!(
            "Lines {from} to {to}.\n\n```repl\nfor line in context.split(\"\\n\")[{from}:{to}]:\n    \
             if line.startswith(\"finding: \"):\n        note(line[9:])\n    else:\n        print(line)\n```"
        )
    };
    let mut turns: Vec<String> = (0..episode.lines.len()).step_by(LINES_A_TURN).map(read).collect();
    let questions: Vec<&str> = episode.questions.iter().map(|question| question.text.as_str()).collect();
    let questions = serde_json::Value::from(questions);
    turns.push(format!(
        "The workers answer.\n\n```repl\nreplies = llm_query_batched({questions})\n\
         answer[\"content\"] = \"\\n\".join([r.replace(\"\\n\", \" \") for r in replies])\nanswer[\"ready\"] = True\n```"
    ));
    turns
}

/// How many of a worker's answers are right, and what they cost, over all episodes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct HandoffRow {
    /// The handoff as JSON.
    pub handoff: String,
    /// For each question in order, whether the answer was right.
    pub right: Vec<bool>,
    /// For each question, its kind.
    pub kinds: Vec<Kind>,
    /// Positions in the worker's context plus generated tokens, all questions.
    pub worker_tokens: usize,
    /// Tokens that the worker computed: prompts, text read anew, summaries, answers. The trajectory, read once in every
    /// run alike, is apart.
    pub computed: usize,
    /// Tokens of the trajectory, read once.
    pub trajectory: usize,
    /// Seconds of the worker but for reading the trajectory.
    pub seconds: f64,
    /// Sum of the shares of the trajectory that could be attended to.
    pub keep_ratios: f64,
    /// Episodes.
    pub episodes: usize,
}

impl HandoffRow {
    /// Counts a replay of an episode.
    pub fn add(&mut self, episode: &Episode, replayed: &Replayed) {
        let answers: Vec<&str> =
            replayed.answer.as_ref().map(|a| a.split('\n').collect()).unwrap_or_default();
        for (number, question) in episode.questions.iter().enumerate() {
            self.right.push(answers.get(number).is_some_and(|answer| *answer == question.answer));
            self.kinds.push(question.kind);
        }
        let worker = &replayed.ledger.worker;
        self.worker_tokens += worker.tokens.worker_tokens();
        self.computed += worker.tokens.prefilled + worker.tokens.drafted + worker.tokens.generated;
        self.trajectory += worker.trajectory_prefilled;
        self.seconds += worker.brief_s + worker.prefill_s + worker.decode_s;
        self.keep_ratios += replayed.keep_ratio.unwrap_or(0.0);
        self.episodes += 1;
    }

    /// Share of right answers with its 95 % interval.
    pub fn accuracy(&self) -> Accuracy {
        Accuracy::of(self.right.iter().copied())
    }

    /// Difference in accuracy to `other` on the same questions, with its 95 % interval.
    pub fn difference(&self, other: &Self) -> [f64; 3] {
        let pairs: Vec<_> = self.right.iter().copied().zip(other.right.iter().copied()).collect();
        paired_difference(&pairs)
    }
}

/// One row for each handoff: accuracy with its interval, the difference to the full cache on the same questions, and what
/// a question cost on average.
pub fn table(rows: &[HandoffRow]) -> String {
    let full = rows.iter().find(|row| row.handoff == "full-kv");
    let a_question = |row: &HandoffRow, sum: f64| sum / row.right.len().max(1) as f64;
    let columns: &[Column<'_, HandoffRow>] = &[
        ("handoff", &|row| row.handoff.clone()),
        ("accuracy (95 %)", &|row| accuracy(row.accuracy())),
        ("against full-kv", &|row| {
            let full = full.filter(|full| full.handoff != row.handoff);
            full.map_or_else(String::new, |full| difference(row.difference(full)))
        }),
        ("kept", &|row| percent(row.keep_ratios / row.episodes.max(1) as f64)),
        ("worker tokens", &|row| format!("{:.0}", a_question(row, row.worker_tokens as f64))),
        ("computed", &|row| format!("{:.0}", a_question(row, row.computed as f64))),
        ("ms", &|row| format!("{:.1}", a_question(row, 1e3 * row.seconds))),
        ("all computed", &|row| (row.computed + row.trajectory).to_string()),
    ];
    Table::of(rows, columns).to_string()
}
