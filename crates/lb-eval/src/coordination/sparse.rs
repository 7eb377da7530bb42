//! Gates over recorded questions: the documents of several questions as one stream, a worker for each question, and who has to read what.

use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;

use lb_coordinate::{Gate, ReaderTokens, Readers};
use lb_model::Worker;
use lb_session::{CancelToken, Handoff, OpenSession, Segment};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::condition::{Condition, Way};
use crate::logs::LogItem;
use crate::metrics::{ShortScore, short_answer};
use crate::pipeline::{
    self, Context, Existing, Finished, PlanRecord, Protocol, Row, Settings, Shard, fingerprint, mixed,
};
use crate::retained::nll;
use crate::stats::bootstrap::{Bootstrap, interval};
use crate::stats::grouped;
use crate::table::cells::{percent, retained};
use crate::table::{Column, Table};
use crate::{Error, Result};

/// What is to be asked through which gates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SparsePlan {
    /// Gates. [`Gate::all`] is measured in any case: the others are compared with it.
    pub gates: Vec<Gate>,
    /// Questions, and so workers, of a stream, 2 to 16. Default: 4.
    pub workers: usize,
    /// How what a worker has read reaches its answer: a handoff, or two of them with a `+` between. Default: `full-kv`.
    pub handoff: String,
    /// Most tokens of an answer. Default: 32.
    pub answer_tokens: usize,
    /// In which order documents come. Same seed, same order.
    pub seed: u64,
    /// Which part of the streams.
    #[serde(skip)]
    pub shard: Shard,
}

impl Default for SparsePlan {
    fn default() -> Self {
        let gates = vec![Gate::all(), Gate::attention(1)];
        let handoff = "full-kv".to_owned();
        Self { gates, workers: 4, handoff, answer_tokens: 32, seed: 0, shard: Shard::default() }
    }
}

impl SparsePlan {
    /// Checks every range.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field; what a handoff says of its text.
    pub fn validate(&self) -> Result<()> {
        if !(2..=16).contains(&self.workers) {
            return Err(Error::config("workers", self.workers, "want 2 to 16"));
        }
        pipeline::at_least_one(&[("answer_tokens", self.answer_tokens)])?;
        for (number, gate) in self.gates.iter().enumerate() {
            if self.gates[..number].contains(gate) {
                return Err(Error::config("gates", gate, "is there twice"));
            }
        }
        self.way().map(drop)
    }

    /// How what was read reaches an answer.
    fn way(&self) -> Result<Way> {
        let condition: Condition = self.handoff.parse()?;
        match &condition.way {
            _ if condition.wants_orchestrator() => {
                Err(condition.refused("wants an orchestrator, which is not here"))
            }
            Way::Handoff(_) | Way::Chain(_) => Ok(condition.way),
            _ => Err(condition.refused("is no handoff")),
        }
    }

    /// All gates, everyone reading first.
    fn gates(&self) -> Vec<Gate> {
        let others = self.gates.iter().copied().filter(|gate| *gate != Gate::all());
        std::iter::once(Gate::all()).chain(others).collect()
    }
}

/// One stream under one gate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SparseRow {
    /// The ids of its questions.
    pub item: String,
    /// The gate, as text.
    #[serde(rename = "condition")]
    pub gate: String,
    /// Segments of the stream.
    pub segments: usize,
    /// Tokens that were read until the questions were answered, answers and questions not counted in.
    pub tokens: ReaderTokens,
    /// What each worker answered.
    pub answers: Vec<String>,
    /// What that is worth.
    pub scores: Vec<ShortScore>,
    /// Nats a token of each right answer behind what the worker has read.
    pub nll: Vec<f64>,
    /// The same behind nothing.
    pub nll_none: Vec<f64>,
    /// Share of segments of a question's own documents that its worker has read.
    pub own_read: f64,
    /// Seconds of reading, gates counted in.
    pub read_s: f64,
}

impl Row for SparseRow {
    fn item(&self) -> &str {
        &self.item
    }

    fn place(&self) -> Option<(&str, usize)> {
        Some((&self.gate, 0))
    }
}

struct Sparse<'a> {
    worker: &'a Worker,
    plan: &'a SparsePlan,
    way: Way,
}

/// Answers the questions of `items`, so many at a time, under every gate. The trajectory of an item is its documents, its task the question, its
/// answers, or else its target, what is right.
///
/// # Errors
/// Those of [`SparsePlan::validate`] and of [`pipeline::run`]; [`Error::Config`] for fewer items than workers; what a session says where a stream
/// does not fit the worker.
pub fn run(
    worker: &Worker,
    plan: &SparsePlan,
    items: &[LogItem],
    dir: Option<&Path>,
    cancel: &CancelToken,
    on_row: &(dyn Fn(&SparseRow) + Sync),
) -> Result<Finished<SparseRow>> {
    plan.validate()?;
    let streams: Vec<&[LogItem]> = items.chunks_exact(plan.workers).collect();
    if streams.is_empty() {
        return Err(Error::config("items", items.len(), "want at least as many questions as workers"));
    }
    let sparse = Sparse { worker, plan, way: plan.way()? };
    let settings = Settings {
        dir,
        existing: Existing::Resume,
        shard: plan.shard,
        jobs: 1,
        cancel,
        on_row,
        hear_earlier: true,
    };
    pipeline::run(&sparse, &streams, &settings)
}

impl<'a> Protocol for Sparse<'a> {
    type Item = &'a [LogItem];
    type Row = SparseRow;

    fn record(&self, streams: &[&'a [LogItem]]) -> Result<Option<PlanRecord>> {
        let numbers = streams.iter().map(|items| mixed(fingerprint(&name(items))));
        PlanRecord::new(self.plan, self.worker.name(), "recorded", streams.len(), numbers).map(Some)
    }

    fn rows(&self, items: &&'a [LogItem], context: &Context<'_, SparseRow>) -> Result<()> {
        let item = name(items);
        for gate in self.plan.gates() {
            let there = context.done(&item).iter().any(|row| row.gate == gate.to_string());
            if !there && !context.cancelled() {
                context.push(self.row(&item, items, gate)?)?;
            }
        }
        Ok(())
    }
}

impl Sparse<'_> {
    fn row(&self, item: &str, items: &[LogItem], gate: Gate) -> Result<SparseRow> {
        let of = |number: usize| items[number].trajectory.iter().map(move |segment| (number, segment));
        let mut stream: Vec<(usize, &Segment)> = (0..items.len()).flat_map(of).collect();
        let seed = self.plan.seed ^ fingerprint(item);
        stream.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        let tasks = items.iter().map(|item| item.task.as_str());
        let mut readers = Readers::new(self.worker, tasks, gate)?;
        let (start, mut own) = (Instant::now(), 0);
        for (whose, segment) in &stream {
            own += usize::from(readers.offer((*segment).clone())?.readers.contains(whose));
        }
        let read_s = start.elapsed().as_secs_f64();
        let mut row = SparseRow {
            item: item.to_owned(),
            gate: gate.to_string(),
            segments: stream.len(),
            tokens: readers.tokens(),
            own_read: own as f64 / stream.len().max(1) as f64,
            read_s,
            ..SparseRow::default()
        };
        for (number, item) in items.iter().enumerate() {
            let session = readers.session(number)?;
            let mut reread = None;
            let (handoff, session) = match &self.way {
                // Who has read nothing answers from what it is asked.
                _ if session.is_empty() => (&Handoff::None, session),
                Way::Chain(chain) => {
                    let read = reread.insert(chain.reread(session, &item.task, self.worker.session()?)?);
                    (&chain.then, &mut read.session)
                }
                Way::Handoff(handoff) => (handoff.as_ref(), session),
                _ => (&Handoff::FullKv, session),
            };
            let asked = session.ask(item.task.as_str()).via(handoff).at_most(self.plan.answer_tokens);
            let answer = asked.run()?.answer.text.lines().next().unwrap_or_default().trim().to_owned();
            let right = item.right_answers();
            row.scores.push(short_answer(&answer, &right));
            row.answers.push(answer);
            let text = right.into_iter().next().unwrap_or_default();
            let target = self.worker.tokenizer().encode_text(&text).map_err(lb_session::Error::from)?;
            let forced = |handoff: &Handoff, session: &mut lb_session::WorkerSession| {
                nll(&session.ask(item.task.as_str()).via(handoff).forced(&target)?, &target)
            };
            row.nll.push(forced(handoff, session)?);
            row.nll_none.push(forced(&Handoff::None, session)?);
        }
        Ok(row)
    }
}

fn name(items: &[LogItem]) -> String {
    items.iter().map(|item| item.id.as_str()).collect::<Vec<_>>().join("+")
}

/// One gate over all streams.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SparseFigure {
    /// The gate, as text.
    pub gate: String,
    /// Questions.
    pub questions: usize,
    /// Tokens read, workers and gate, as a share of those where everyone reads everything.
    pub read: f64,
    /// The gate's own part of it.
    pub gating: f64,
    /// Share of its own documents that a worker has read.
    pub own_read: f64,
    /// Mean F1 of answers, and answers that hold a right one.
    pub f1: f64,
    /// Share of answers that hold a right one.
    pub contained: f64,
    /// Of what the stream is worth where everyone reads everything, what is left, by the likelihood of right answers; with its interval over
    /// streams.
    pub retained: Option<(f64, [f64; 2])>,
    /// Seconds of reading as a share of those where everyone reads everything.
    pub time: f64,
}

/// The figures of every gate, everyone reading first.
pub fn figures(rows: &[SparseRow], settings: &Bootstrap) -> Vec<SparseFigure> {
    let all: HashMap<&str, &SparseRow> =
        rows.iter().filter(|row| row.gate == "all").map(|row| (row.item.as_str(), row)).collect();
    let figure = |(gate, rows): (&str, Vec<&SparseRow>)| {
        let pairs: Vec<(&SparseRow, &SparseRow)> =
            rows.iter().filter_map(|row| Some((*row, *all.get(row.item.as_str())?))).collect();
        let sum = |of: &dyn Fn(&SparseRow, &SparseRow) -> f64| {
            pairs.iter().map(|(row, all)| of(row, all)).sum::<f64>()
        };
        let total = sum(&|_, all| all.tokens.read as f64);
        let questions: usize = rows.iter().map(|row| row.answers.len()).sum();
        let per_question = |of: fn(&ShortScore) -> f64| {
            rows.iter().flat_map(|row| &row.scores).map(of).sum::<f64>() / questions.max(1) as f64
        };
        let retained = interval(pairs.len().max(1), settings, |drawn| {
            let sum = |of: &dyn Fn(&SparseRow, &SparseRow) -> f64| {
                drawn.iter().filter_map(|at| pairs.get(*at)).map(|(row, all)| of(row, all)).sum::<f64>()
            };
            let worth = sum(&|_, all| all.nll_none.iter().sum::<f64>() - all.nll.iter().sum::<f64>());
            let lost = sum(&|row, all| row.nll.iter().sum::<f64>() - all.nll.iter().sum::<f64>());
            if worth > 0.0 { 1.0 - lost / worth } else { f64::NAN }
        });
        SparseFigure {
            gate: gate.to_owned(),
            questions,
            read: sum(&|row, _| row.tokens.total() as f64) / total,
            gating: sum(&|row, _| row.tokens.gate as f64) / total,
            own_read: rows.iter().map(|row| row.own_read).sum::<f64>() / rows.len().max(1) as f64,
            f1: per_question(|score| score.f1),
            contained: per_question(|score| f64::from(u8::from(score.contained))),
            retained: retained.ok().map(|figure| (figure.estimate, [figure.low, figure.high])),
            time: sum(&|row, _| row.read_s) / sum(&|_, all| all.read_s),
        }
    };
    grouped(rows, |row| row.gate.as_str()).into_iter().map(figure).collect()
}

/// One line for each gate.
pub fn table(figures: &[SparseFigure]) -> String {
    let columns: Vec<Column<'_, SparseFigure>> = vec![
        ("gate", &|of| of.gate.clone()),
        ("tokens read", &|of| percent(of.read)),
        ("for the gate", &|of| percent(of.gating)),
        ("own documents read", &|of| percent(of.own_read)),
        ("retained (95 %)", &|of| retained(of.retained)),
        ("F1", &|of| format!("{:.2}", of.f1)),
        ("right answer in it", &|of| percent(of.contained)),
        ("time", &|of| percent(of.time)),
    ];
    Table::of(figures, &columns).to_string()
}
