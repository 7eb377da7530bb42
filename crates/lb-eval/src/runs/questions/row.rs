//! What a run came to, and which kind of failure it was.

use std::path::PathBuf;

use lb_orchestrate::{Run, RunRecord, Stopped, Usage, WorkerCall};
use serde::{Deserialize, Serialize};

use super::QuestionItem;
use crate::Result;
use crate::metrics::{ShortScore, same_in_another_form, short_answer};
use crate::pipeline::Row;

/// How a run ended, seen from its question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The right answer, by normalised exact match.
    Right,
    /// The right answer in another form: a sentence around it, a part of a name, a number in digits instead of words.
    OtherForm,
    /// A worker gave the right answer, the run another one.
    ReplyNotUsed,
    /// Workers were asked, and no reply has the right answer.
    NotFound,
    /// No worker was asked.
    NeverAsked,
    /// The run ended without an answer.
    Stopped,
}

impl Outcome {
    /// Every outcome, the best one first.
    pub const ALL: [Self; 6] =
        [Self::Right, Self::OtherForm, Self::ReplyNotUsed, Self::NotFound, Self::NeverAsked, Self::Stopped];

    /// As tables have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Right => "right",
            Self::OtherForm => "right in another form",
            Self::ReplyNotUsed => "a worker had it, the answer is another",
            Self::NotFound => "no worker had it",
            Self::NeverAsked => "no worker was asked",
            Self::Stopped => "stopped without an answer",
        }
    }

    fn of(row: &QuestionRow) -> Self {
        let QuestionRow { score, replies, calls, .. } = *row;
        let said = row.answer.as_deref().unwrap_or_default();
        let same = || row.answers.iter().any(|right| same_in_another_form(said, right));
        if score.exact {
            Self::Right
        } else if row.stopped.is_some() {
            Self::Stopped
        } else if score.contained || same() {
            Self::OtherForm
        } else if calls == 0 {
            Self::NeverAsked
        } else if replies.contained {
            Self::ReplyNotUsed
        } else {
            Self::NotFound
        }
    }
}

/// One question's run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuestionRow {
    /// The question's id.
    pub id: String,
    /// What was asked.
    pub question: String,
    /// Right answers.
    pub answers: Vec<String>,
    /// The run's answer.
    pub answer: Option<String>,
    /// What stopped it.
    pub stopped: Option<String>,
    /// What the answer is worth.
    pub score: ShortScore,
    /// The best of each over the workers' replies.
    pub replies: ShortScore,
    /// How it ended.
    pub outcome: Outcome,
    /// Turns.
    pub turns: usize,
    /// Worker calls.
    pub calls: usize,
    /// Tokens of the orchestrator.
    pub orchestrator: Usage,
    /// Seconds.
    pub seconds: f64,
    /// The log's name, in the folder `logs` beside the rows.
    pub log: Option<PathBuf>,
}

impl QuestionRow {
    /// The row of a run that is over.
    ///
    /// # Errors
    /// [`Error::Run`](crate::Error::Run) where its log cannot be read.
    pub fn of(item: &QuestionItem, ended: &std::result::Result<Run, Box<Stopped>>) -> Result<Self> {
        let (answer, stopped, ledger, turns, log) = match ended {
            Ok(run) => (Some(run.answer.clone()), None, &run.ledger, run.turns, &run.log),
            Err(stopped) => (None, Some(stopped.to_string()), &stopped.ledger, stopped.turns, &stopped.log),
        };
        let replies = match log {
            Some(path) => replies(&RunRecord::open(path)?),
            None => Vec::new(),
        };
        let mut row = Self {
            id: item.id.clone(),
            question: item.question.clone(),
            answers: item.answers.clone(),
            outcome: Outcome::Stopped,
            score: short_answer(answer.as_deref().unwrap_or_default(), &item.answers),
            replies: best(&replies, &item.answers),
            answer,
            stopped,
            turns,
            calls: ledger.worker.calls,
            orchestrator: ledger.orchestrator.usage,
            seconds: ledger.elapsed_s,
            log: log.as_ref().and_then(|path| path.file_name()).map(PathBuf::from),
        };
        row.outcome = Outcome::of(&row);
        Ok(row)
    }
}

/// The best of each score over several texts.
pub(in crate::runs) fn best(texts: &[String], answers: &[String]) -> ShortScore {
    texts.iter().map(|text| short_answer(text, answers)).fold(ShortScore::default(), |a, b| ShortScore {
        exact: a.exact || b.exact,
        f1: a.f1.max(b.f1),
        contained: a.contained || b.contained,
    })
}

/// What workers replied in a run.
fn replies(record: &RunRecord) -> Vec<String> {
    let blocks = record.iterations.iter().flat_map(|iteration| &iteration.code_blocks);
    let calls = blocks.flat_map(|block| &block.result.rlm_calls);
    calls.filter(|call: &&WorkerCall| call.error.is_none()).map(|call| call.response.clone()).collect()
}

impl Row for QuestionRow {
    fn item(&self) -> &str {
        &self.id
    }
}
