//! Debates over recorded questions: agents that have read the same documents, and what each way of telling each other costs.

use std::path::Path;
use std::time::Instant;

use lb_coordinate::{Debate, DebateConfig, Told};
use lb_model::Worker;
use lb_session::{CallTokens, CancelToken, Handoff, OpenSession, WorkerSession};
use serde::{Deserialize, Serialize};

use crate::logs::LogItem;
use crate::metrics::{ShortScore, short_answer, text::normalise};
use crate::pipeline::{
    self, Context, Existing, Finished, PlanRecord, Protocol, Row, Settings, Shard, fingerprint, mixed,
};
use crate::stats::grouped;
use crate::table::cells::percent;
use crate::table::{Column, Table};
use crate::{Error, Result};

/// One agent, one answer, nobody to talk to.
pub const ALONE: &str = "alone";

/// What is to be debated, and how agents tell each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DebatePlan {
    /// Ways: [`ALONE`], `text`, `diff`, or a handoff for what an agent has in its cache.
    pub told: Vec<String>,
    /// How debates are led.
    pub debate: DebateConfig,
    /// Which part of the items.
    #[serde(skip)]
    pub shard: Shard,
}

impl Default for DebatePlan {
    fn default() -> Self {
        let told = [ALONE, "text", "diff", "latent-briefing:keep=0.1"].map(str::to_owned).to_vec();
        Self { told, debate: DebateConfig::default(), shard: Shard::default() }
    }
}

impl DebatePlan {
    /// Checks every range.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field, [`Error::Coordinate`] for a debate's own, what a handoff says of its text.
    pub fn validate(&self) -> Result<()> {
        self.debate.validate()?;
        for (number, told) in self.told.iter().enumerate() {
            if self.told[..number].contains(told) {
                return Err(Error::config("told", told, "is there twice"));
            }
            if told != ALONE {
                told.parse::<Told>()?;
            }
        }
        pipeline::at_least_one(&[("told", self.told.len())])
    }
}

/// One question, debated in one way.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DebateRow {
    /// The item's id.
    pub item: String,
    /// The way.
    #[serde(rename = "condition")]
    pub told: String,
    /// What came out.
    pub answer: String,
    /// What that is worth.
    pub score: ShortScore,
    /// How many agents said so in the last round.
    pub votes: usize,
    /// Rounds that were held.
    pub rounds: usize,
    /// Whether all said the same in the last one.
    pub agreed: bool,
    /// What agents said, round by round.
    pub said: Vec<Vec<String>>,
    /// Tokens of all calls.
    pub tokens: CallTokens,
    /// Tokens that went into agents' caches besides.
    pub heard: usize,
    /// Seconds, without reading the documents.
    pub seconds: f64,
}

impl Row for DebateRow {
    fn item(&self) -> &str {
        &self.item
    }

    fn place(&self) -> Option<(&str, usize)> {
        Some((&self.told, 0))
    }
}

struct Debates<'a> {
    worker: &'a Worker,
    plan: &'a DebatePlan,
}

/// Debates every item in every way. The trajectory of an item is what all agents have read, its task the question.
///
/// # Errors
/// Those of [`DebatePlan::validate`] and of [`pipeline::run`]; what a session says where documents do not fit the worker.
pub fn run(
    worker: &Worker,
    plan: &DebatePlan,
    items: &[LogItem],
    dir: Option<&Path>,
    cancel: &CancelToken,
    on_row: &(dyn Fn(&DebateRow) + Sync),
) -> Result<Finished<DebateRow>> {
    plan.validate()?;
    let settings = Settings {
        dir,
        existing: Existing::Resume,
        shard: plan.shard,
        jobs: 1,
        cancel,
        on_row,
        hear_earlier: true,
    };
    pipeline::run(&Debates { worker, plan }, items, &settings)
}

impl Protocol for Debates<'_> {
    type Item = LogItem;
    type Row = DebateRow;

    fn record(&self, items: &[LogItem]) -> Result<Option<PlanRecord>> {
        let numbers = items.iter().map(|item| mixed(fingerprint(&item.id)));
        PlanRecord::new(self.plan, self.worker.name(), "recorded", items.len(), numbers).map(Some)
    }

    fn rows(&self, item: &LogItem, context: &Context<'_, DebateRow>) -> Result<()> {
        let done = context.done(&item.id);
        let missing: Vec<&String> =
            self.plan.told.iter().filter(|told| !done.iter().any(|row| row.told == **told)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let mut session = self.worker.session()?;
        session.extend_all(item.trajectory.clone(), &mut |_, _| {})?;
        for told in missing {
            if !context.cancelled() {
                context.push(self.row(item, &mut session, told)?)?;
            }
        }
        Ok(())
    }
}

impl Debates<'_> {
    fn row(&self, item: &LogItem, session: &mut WorkerSession, told: &str) -> Result<DebateRow> {
        let right = item.right_answers();
        let blank = DebateRow { item: item.id.clone(), told: told.to_owned(), ..DebateRow::default() };
        let start = Instant::now();
        if told == ALONE {
            let asked = session.ask(item.task.as_str()).via(Handoff::FullKv);
            let outcome = asked.at_most(self.plan.debate.reply_tokens).run()?;
            let answer = outcome.answer.text.lines().next().unwrap_or_default().trim().to_owned();
            return Ok(DebateRow {
                score: short_answer(&answer, &right),
                said: vec![vec![answer.clone()]],
                answer,
                votes: 1,
                rounds: 1,
                agreed: true,
                tokens: outcome.record.tokens,
                seconds: start.elapsed().as_secs_f64(),
                ..blank
            });
        }
        let mut config = self.plan.debate.clone();
        config.seed ^= fingerprint(&item.id);
        let made = Debate::new(session, config)?
            .run(&item.task, &told.parse()?, &|said| normalise(said).join(" "))?;
        let mut said = vec![Vec::new(); made.rounds];
        for reply in &made.replies {
            said[reply.round].push(reply.text.clone());
        }
        Ok(DebateRow {
            score: short_answer(&made.answer, &right),
            answer: made.answer,
            votes: made.votes,
            rounds: made.rounds,
            agreed: made.agreed,
            said,
            tokens: made.tokens,
            heard: made.heard,
            seconds: start.elapsed().as_secs_f64(),
            ..blank
        })
    }
}

/// One way over all questions, means of a question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DebateFigure {
    /// The way.
    pub told: String,
    /// Questions.
    pub questions: usize,
    /// F1 of answers.
    pub f1: f64,
    /// Share of answers that hold a right one.
    pub contained: f64,
    /// Share of debates that ended in one answer of all.
    pub agreed: f64,
    /// Rounds.
    pub rounds: f64,
    /// Tokens that were read: prompts, and what others said.
    pub read: f64,
    /// Positions that calls attended to, all calls.
    pub attended: f64,
    /// Tokens that were written.
    pub written: f64,
    /// Seconds.
    pub seconds: f64,
}

/// The figures of every way, in the order of the plan.
pub fn figures(rows: &[DebateRow]) -> Vec<DebateFigure> {
    let figure = |(told, rows): (&str, Vec<&DebateRow>)| {
        let mean = |of: &dyn Fn(&DebateRow) -> f64| {
            rows.iter().map(|row| of(row)).sum::<f64>() / rows.len().max(1) as f64
        };
        let share = |of: fn(&DebateRow) -> bool| mean(&|row| f64::from(u8::from(of(row))));
        DebateFigure {
            told: told.to_owned(),
            questions: rows.len(),
            f1: mean(&|row| row.score.f1),
            contained: share(|row| row.score.contained),
            agreed: share(|row| row.agreed),
            rounds: mean(&|row| row.rounds as f64),
            read: mean(&|row| (row.tokens.prefilled + row.heard) as f64),
            attended: mean(&|row| row.tokens.attended as f64),
            written: mean(&|row| row.tokens.generated as f64),
            seconds: mean(&|row| row.seconds),
        }
    };
    grouped(rows, |row| row.told.as_str()).into_iter().map(figure).collect()
}

/// One line for each way.
pub fn table(figures: &[DebateFigure]) -> String {
    let columns: Vec<Column<'_, DebateFigure>> = vec![
        ("told by", &|of| of.told.clone()),
        ("F1", &|of| format!("{:.2}", of.f1)),
        ("right answer in it", &|of| percent(of.contained)),
        ("agreed", &|of| percent(of.agreed)),
        ("rounds", &|of| format!("{:.1}", of.rounds)),
        ("tokens read", &|of| format!("{:.0}", of.read)),
        ("attended", &|of| format!("{:.0}", of.attended)),
        ("written", &|of| format!("{:.0}", of.written)),
        ("seconds", &|of| format!("{:.1}", of.seconds)),
    ];
    Table::of(figures, &columns).to_string()
}
