//! Where the tokens of a recorded run went: by phase, by agent, by decision.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::log::{CallKind, Iteration, RunRecord, WorkerCall};
use crate::{ModelPrice, PriceTable, Usage, WorkerPrice};

/// A row: who or what, and what it cost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TableRow {
    /// What it is.
    pub name: String,
    /// Completions or calls.
    pub calls: usize,
    /// Tokens that a model read.
    pub input: usize,
    /// Of them, those that came from a cache.
    pub cached: usize,
    /// Tokens that it wrote.
    pub output: usize,
    /// Seconds.
    pub seconds: f64,
    /// Money, where the prices are known.
    pub cost: Option<f64>,
}

/// The tables of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunTables {
    /// Currency, where there are prices.
    pub currency: Option<String>,
    /// The orchestrator's prompts and replies, the trajectory, briefings, answers; where phases were set, each of them.
    pub phases: Vec<TableRow>,
    /// Each model that orchestrated, the worker, loops of their own.
    pub agents: Vec<TableRow>,
    /// Each turn, by how it begins.
    pub decisions: Vec<TableRow>,
    /// Findings that were noted.
    pub findings: usize,
    /// Money for each of them.
    pub cost_per_finding: Option<f64>,
    /// Tokens that calls answered from memory did not compute.
    pub remembered: usize,
    /// Tokens of prompts and trajectory that the context manager left out, over all turns.
    pub left_out: usize,
}

/// Characters of what a turn said that name it.
const DECISION_CHARS: usize = 60;

/// Rows of a table that a terminal is shown.
const SHOWN: usize = 24;

struct Prices<'a> {
    table: Option<&'a PriceTable>,
    worker: Option<WorkerPrice>,
}

impl Prices<'_> {
    fn of(&self, model: &str, usage: &Usage) -> Option<f64> {
        Some(self.table?.model(model)?.of(usage))
    }
}

impl RunTables {
    /// The tables of a recorded run. Without prices there is no money in them.
    pub fn of(record: &RunRecord, table: Option<&PriceTable>) -> Self {
        let worker = table.and_then(|table| table.worker(&record.metadata.latent_briefing.worker));
        let prices = Prices { table, worker };
        let mut made = Self { currency: table.map(|table| table.currency.clone()), ..Self::default() };
        let worker = record.metadata.latent_briefing.worker.as_str();
        for iteration in &record.iterations {
            made.turn(iteration, &record.metadata.root_model, worker, &prices);
        }
        let total: Option<f64> = made.agents.iter().map(|row| row.cost).sum();
        made.cost_per_finding = total.filter(|_| made.findings > 0).map(|cost| cost / made.findings as f64);
        made
    }

    fn turn(&mut self, iteration: &Iteration, model: &str, worker: &str, prices: &Prices<'_>) {
        let mut decision = TableRow { name: named(iteration), ..TableRow::default() };
        for (model, usage) in used(iteration, model) {
            let row = TableRow {
                calls: 1,
                input: usage.input,
                cached: usage.cached,
                output: usage.output,
                cost: prices.of(model, &usage),
                ..TableRow::default()
            };
            add(&mut self.agents, model, &row);
            decision.add(&row);
            let (read, write) = split(&row, prices.table.and_then(|table| table.model(model)), &usage);
            add(&mut self.phases, "orchestrator: prompts", &read);
            add(&mut self.phases, "orchestrator: replies", &write);
        }
        decision.seconds += iteration.completion_time;
        seconds(&mut self.agents, model, iteration.completion_time);
        for entered in &iteration.entered {
            self.findings += usize::from(entered.source == lb_session::Source::Finding);
            self.left_out += entered
                .managed
                .as_ref()
                .map_or(0, |left| left.tokens_before - left.tokens.min(left.tokens_before));
            let tokens = lb_session::CallTokens { prefilled: entered.pieces.len(), ..Default::default() };
            let cost = prices.worker.map(|price| price.of(&tokens, entered.seconds));
            let row = TableRow {
                input: entered.pieces.len(),
                seconds: entered.seconds,
                cost,
                ..TableRow::default()
            };
            add(&mut self.phases, "worker: trajectory", &row);
            add(&mut self.agents, worker, &row);
            decision.add(&row);
        }
        if let Some(managed) = &iteration.managed {
            self.left_out += managed.tokens_before.saturating_sub(managed.tokens);
        }
        for call in iteration.code_blocks.iter().flat_map(|block| &block.result.rlm_calls) {
            self.call(call, worker, prices, &mut decision);
        }
        if let Some(phase) = &iteration.phase {
            add(&mut self.phases, &format!("phase {phase}"), &decision);
        }
        self.decisions.push(decision);
    }

    fn call(&mut self, call: &WorkerCall, worker: &str, prices: &Prices<'_>, decision: &mut TableRow) {
        if let (CallKind::Rlm, Some(child)) = (call.kind, &call.metadata) {
            let mut own = Self::default();
            for iteration in &child.iterations {
                own.turn(iteration, &child.run_metadata.root_model, worker, prices);
            }
            let mut row = TableRow::default();
            own.agents.iter().for_each(|agent| row.add(agent));
            (row.calls, row.seconds) = (1, call.execution_time);
            add(&mut self.agents, "loops of their own", &row);
            add(&mut self.phases, "loops of their own", &row);
            decision.add(&row);
            self.findings += own.findings;
            self.remembered += own.remembered;
            return;
        }
        if let Some(hit) = &call.memo {
            self.remembered += hit.tokens.prefilled + hit.tokens.drafted + hit.tokens.generated;
        }
        let tokens = &call.tokens;
        let times = call.prefill_s + call.brief_s + call.decode_s;
        let row = TableRow {
            calls: 1,
            input: tokens.prefilled + tokens.reused,
            cached: tokens.reused,
            output: tokens.drafted + tokens.generated,
            seconds: times,
            cost: prices.worker.map(|price| price.of(tokens, times)),
            ..TableRow::default()
        };
        let what = if call.memo.is_some() { "worker: answers from memory" } else { "worker: answers" };
        add(&mut self.phases, what, &row);
        add(&mut self.agents, worker, &row);
        decision.add(&row);
    }
}

impl TableRow {
    fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.input += other.input;
        self.cached += other.cached;
        self.output += other.output;
        self.seconds += other.seconds;
        self.cost = match (self.cost, other.cost) {
            (None, None) => None,
            (a, b) => Some(a.unwrap_or(0.0) + b.unwrap_or(0.0)),
        };
    }
}

fn add(rows: &mut Vec<TableRow>, name: &str, other: &TableRow) {
    match rows.iter_mut().find(|row| row.name == name) {
        Some(row) => row.add(other),
        None => rows.push(TableRow { name: name.to_owned(), ..other.clone() }),
    }
}

fn seconds(rows: &mut [TableRow], name: &str, seconds: f64) {
    if let Some(row) = rows.iter_mut().find(|row| row.name == name) {
        row.seconds += seconds;
    }
}

/// Who said how much in a turn.
fn used<'a>(iteration: &'a Iteration, model: &'a str) -> Vec<(&'a str, Usage)> {
    if iteration.by_model.is_empty() {
        return vec![(model, iteration.usage)];
    }
    iteration.by_model.iter().map(|used| (used.model.as_str(), used.usage)).collect()
}

/// What reading and what writing of a completion cost.
fn split(row: &TableRow, price: Option<ModelPrice>, usage: &Usage) -> (TableRow, TableRow) {
    let read_usage = Usage { output: 0, ..*usage };
    let read_cost = price.map(|price| price.of(&read_usage));
    let write_cost = row.cost.zip(read_cost).map(|(all, read)| all - read);
    let read = TableRow { output: 0, cost: read_cost, ..row.clone() };
    let write = TableRow { input: 0, cached: 0, cost: write_cost, ..row.clone() };
    (read, write)
}

fn named(iteration: &Iteration) -> String {
    let first =
        iteration.response.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("(no reply)");
    let mut name: String = first.chars().take(DECISION_CHARS).collect();
    if name.len() < first.len() {
        name.push('…');
    }
    format!("{}. {name}", iteration.iteration)
}

impl fmt::Display for RunTables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (head, rows) in [("phase", &self.phases), ("agent", &self.agents), ("decision", &self.decisions)]
        {
            let width =
                rows.iter().map(|row| row.name.chars().count()).chain([head.len()]).max().unwrap_or(0);
            writeln!(
                f,
                "{head:width$} {:>6} {:>9} {:>9} {:>8} {:>8} {:>10}",
                "calls", "in", "cached", "out", "s", "cost"
            )?;
            for row in rows.iter().take(SHOWN) {
                let cost = row.cost.map_or_else(|| "-".to_owned(), |cost| format!("{cost:.4}"));
                let pad = " ".repeat(width - row.name.chars().count());
                writeln!(
                    f,
                    "{}{pad} {:>6} {:>9} {:>9} {:>8} {:>8.1} {cost:>10}",
                    row.name, row.calls, row.input, row.cached, row.output, row.seconds
                )?;
            }
            if rows.len() > SHOWN {
                writeln!(f, "… {} more", rows.len() - SHOWN)?;
            }
            writeln!(f)?;
        }
        let currency = self.currency.as_deref().unwrap_or_default();
        let each =
            self.cost_per_finding.map(|cost| format!(", {cost:.4} {currency} each")).unwrap_or_default();
        write!(
            f,
            "{} findings{each}; {} worker tokens answered from memory; {} tokens left out by the context manager",
            self.findings, self.remembered, self.left_out
        )
    }
}
