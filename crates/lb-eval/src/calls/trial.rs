//! Episodes answered through every handoff, on the same questions.

use lb_am::Compaction;
use lb_model::Worker;
use lb_session::{
    Briefing, Handoff, OpenSession, Outcome, Segment, SelectionSize, Source as Tag, WorkerSession,
};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::episodes::{Difficulty, Episode, Kind, Line, Source};

impl From<&Line> for Segment {
    fn from(line: &Line) -> Self {
        let tag = match line.source {
            Source::Finding => Tag::Finding,
            Source::Reasoning => Tag::Reasoning,
            Source::Tool => Tag::Tool,
        };
        Segment::new(tag, line.text.clone())
    }
}

/// One way to hand the trajectory over, in a trial.
#[derive(Clone, Debug)]
pub enum Condition {
    /// A handoff that does not depend on the others.
    Fixed(Handoff),
    /// The most recent positions, as many as the trial's briefing kept for the same question.
    RecentAtSameSize,
    /// Positions drawn by lot, as many as the trial's briefing kept for the same question.
    RandomAtSameSize {
        /// Together with the question's number, the seed.
        seed: u64,
    },
}

impl Condition {
    /// The six conditions of the main table, the briefing last.
    pub fn main_table(compaction: Compaction, seed: u64) -> Vec<Self> {
        vec![
            Self::Fixed(Handoff::None),
            Self::Fixed(Handoff::FullKv),
            Self::Fixed(Handoff::TextReplay),
            Self::RecentAtSameSize,
            Self::RandomAtSameSize { seed },
            Self::Fixed(Handoff::briefing(compaction)),
        ]
    }

    /// The name used in reports and JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Fixed(handoff) => handoff.name(),
            Self::RecentAtSameSize => "recent",
            Self::RandomAtSameSize { .. } => "random",
        }
    }

    fn handoff(&self, kept_len: usize, question: u64) -> Handoff {
        let size = SelectionSize::KeptLen(kept_len);
        match self {
            Self::Fixed(handoff) => handoff.clone(),
            Self::RecentAtSameSize => Handoff::Recent(size),
            Self::RandomAtSameSize { seed } => {
                Handoff::Random { size, seed: seed.wrapping_mul(1_000_003).wrapping_add(question) }
            }
        }
    }
}

/// One question, answered under one condition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Name of the condition.
    pub handoff: String,
    /// Seed of the episode.
    pub episode: u64,
    /// Number of the question within its episode.
    pub question: usize,
    /// What it asks.
    pub kind: Kind,
    /// Of the episode.
    pub difficulty: Difficulty,
    /// Positions of the trajectory, template head counted in.
    pub seq_len: usize,
    /// The right answer.
    pub expected: String,
    /// The worker's answer.
    pub answer: String,
    /// Exact match of the whole answer.
    pub right: bool,
    /// Positions in the worker's context when it answers, plus generated tokens.
    pub worker_tokens: usize,
    /// Kept / original positions.
    pub keep_ratio: f64,
    /// Milliseconds to make the selection or the briefing.
    pub brief_ms: f64,
    /// Milliseconds to read the task (for text replay: everything) and answer.
    pub answer_ms: f64,
}

/// A trial in progress: ask it for one episode after another.
#[derive(Debug)]
pub struct Trial<'a> {
    worker: &'a Worker,
    compaction: Compaction,
    conditions: Vec<Condition>,
}

impl<'a> Trial<'a> {
    /// A trial of `conditions`; `compaction` sets the size for those that are "at the same size".
    pub fn new(worker: &'a Worker, compaction: Compaction, conditions: Vec<Condition>) -> Self {
        Self { worker, compaction, conditions }
    }

    /// A session that has read the episode's log.
    ///
    /// # Errors
    /// [`crate::Error::Session`] where the log does not fit the model.
    pub fn session(&self, episode: &Episode) -> Result<WorkerSession> {
        let mut session = self.worker.session()?;
        session.extend_all(episode.lines.iter().map(Segment::from), &mut |_, _| {})?;
        Ok(session)
    }

    /// Every question of `episode` under every condition. `shown` sees each briefing and its answer.
    ///
    /// # Errors
    /// [`crate::Error::Session`] where the log does not fit the model or a condition is out of range.
    pub fn run(&self, episode: &Episode, shown: &mut dyn FnMut(&Briefing, &str)) -> Result<Vec<Row>> {
        let mut session = self.session(episode)?;
        let mut rows = Vec::with_capacity(episode.questions.len() * self.conditions.len());
        for (number, question) in episode.questions.iter().enumerate() {
            let same_size = self.conditions.iter().any(|c| !matches!(c, Condition::Fixed(_)));
            let kept_len = if same_size {
                session.brief(question.text.as_str(), &self.compaction)?.kept_len()
            } else {
                0
            };
            for condition in &self.conditions {
                let handoff = condition.handoff(kept_len, episode.seed.wrapping_mul(1009) + number as u64);
                let outcome = session.answer_via(&handoff, question.text.as_str())?;
                if let Some(briefing) = &outcome.briefing {
                    shown(briefing, &outcome.answer.text);
                }
                rows.push(row(condition, episode, number, session.seq_len(), &outcome));
            }
        }
        Ok(rows)
    }
}

fn row(condition: &Condition, episode: &Episode, number: usize, seq_len: usize, outcome: &Outcome) -> Row {
    let question = &episode.questions[number];
    let millis = |d: std::time::Duration| d.as_secs_f64() * 1e3;
    Row {
        handoff: condition.name().to_owned(),
        episode: episode.seed,
        question: number,
        kind: question.kind,
        difficulty: question.difficulty,
        seq_len,
        expected: question.answer.clone(),
        right: outcome.answer.text == question.answer,
        answer: outcome.answer.text.clone(),
        worker_tokens: outcome.answer.tokens.worker_tokens(),
        keep_ratio: outcome.keep_ratio,
        brief_ms: millis(outcome.brief),
        answer_ms: millis(outcome.answer.elapsed),
    }
}
