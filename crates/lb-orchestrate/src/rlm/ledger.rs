//! What a run costs, by who was paid.

use std::time::Duration;

use lb_session::CallTokens;
use serde::{Deserialize, Serialize};

use crate::log::{CallKind, ChildRecord, Iteration, RunRecord, WorkerCall};
use crate::rlm::limits::Spent;
use crate::{ModelPrice, ModelUse, PriceTable, Usage, WorkerPrice};

/// What a run cost, recursive queries counted in. Serialises to JSON; all times are seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunLedger {
    /// The orchestrator's turns.
    pub orchestrator: OrchestratorTotals,
    /// The worker's calls, and the trajectory in its cache.
    pub worker: WorkerTotals,
    /// The code.
    pub sandbox: SandboxTotals,
    /// Wall time in seconds.
    pub elapsed_s: f64,
    /// Currency of the costs, where there is a price table.
    pub currency: Option<String>,
}

/// The orchestrator's part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OrchestratorTotals {
    /// Completions.
    pub turns: usize,
    /// Tokens.
    pub usage: Usage,
    /// Seconds.
    pub seconds: f64,
    /// Money, `None` where no price is known.
    pub cost: Option<f64>,
}

/// The worker's part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkerTotals {
    /// Calls that were answered.
    pub calls: usize,
    /// Calls that failed.
    pub failed: usize,
    /// Tokens of the calls.
    pub tokens: CallTokens,
    /// Tokens read once into the trajectory's cache, outside any call.
    pub trajectory_prefilled: usize,
    /// Seconds of reading the trajectory.
    pub trajectory_s: f64,
    /// Seconds of reading prompts.
    pub prefill_s: f64,
    /// Seconds of making briefings, selections, summaries.
    pub brief_s: f64,
    /// Seconds of generating.
    pub decode_s: f64,
    /// Bytes of the largest cache that an answer was made over.
    pub peak_cache_bytes: usize,
    /// Money, `None` where no price is known.
    pub cost: Option<f64>,
}

impl WorkerTotals {
    /// All of the worker's seconds.
    pub fn seconds(&self) -> f64 {
        self.trajectory_s + self.prefill_s + self.brief_s + self.decode_s
    }
}

/// The code's part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SandboxTotals {
    /// Blocks.
    pub blocks: usize,
    /// Blocks that ended before their end.
    pub faults: usize,
    /// Seconds of the code alone.
    pub seconds: f64,
}

impl RunLedger {
    /// What a recorded run cost, its stopped turns counted in; without prices.
    pub fn of(record: &RunRecord) -> Self {
        let mut books = Books::default();
        record.iterations.iter().for_each(|iteration| books.recorded(iteration));
        books.ledger
    }

    /// Money of all parts, `None` where a part that was used has no price.
    pub fn cost(&self) -> Option<f64> {
        let orchestrator = if self.orchestrator.turns == 0 { Some(0.0) } else { self.orchestrator.cost };
        Some(orchestrator? + self.worker.cost.unwrap_or(0.0))
    }

    /// Tokens that models computed: the orchestrator's input and output, the worker's prefilled and generated.
    pub fn tokens(&self) -> usize {
        self.orchestrator.usage.total() + self.worker_computed()
    }

    fn worker_computed(&self) -> usize {
        let tokens = &self.worker.tokens;
        self.worker.trajectory_prefilled + tokens.prefilled + tokens.drafted + tokens.generated
    }

    /// Adds what a recursive query cost.
    pub(crate) fn add_child(&mut self, child: &RunLedger) {
        let (own, other) = (&mut self.orchestrator, &child.orchestrator);
        own.turns += other.turns;
        own.usage += other.usage;
        own.seconds += other.seconds;
        own.cost = add(own.cost, other.cost);
        let (own, other) = (&mut self.worker, &child.worker);
        own.calls += other.calls;
        own.failed += other.failed;
        own.tokens += other.tokens;
        own.trajectory_prefilled += other.trajectory_prefilled;
        own.trajectory_s += other.trajectory_s;
        own.prefill_s += other.prefill_s;
        own.brief_s += other.brief_s;
        own.decode_s += other.decode_s;
        own.peak_cache_bytes = own.peak_cache_bytes.max(other.peak_cache_bytes);
        own.cost = add(own.cost, other.cost);
        self.sandbox.blocks += child.sandbox.blocks;
        self.sandbox.faults += child.sandbox.faults;
        self.sandbox.seconds += child.sandbox.seconds;
    }

    pub(crate) fn spent(&self) -> Spent {
        Spent {
            time: duration(self.elapsed_s),
            tokens: self.tokens(),
            cost: self.orchestrator.cost.unwrap_or(0.0) + self.worker.cost.unwrap_or(0.0),
            calls: self.worker.calls + self.worker.failed,
        }
    }

    pub(crate) fn spent_orchestrating(&self) -> Spent {
        let OrchestratorTotals { turns, usage, seconds, cost } = self.orchestrator;
        Spent { time: duration(seconds), tokens: usage.total(), cost: cost.unwrap_or(0.0), calls: turns }
    }

    pub(crate) fn spent_working(&self) -> Spent {
        Spent {
            time: duration(self.worker.seconds()),
            tokens: self.worker_computed(),
            cost: self.worker.cost.unwrap_or(0.0),
            calls: self.worker.calls + self.worker.failed,
        }
    }

    pub(crate) fn spent_in_sandbox(&self) -> Spent {
        Spent { time: duration(self.sandbox.seconds), calls: self.sandbox.blocks, ..Spent::default() }
    }
}

fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// Time that something took. A log may say anything, and less than nothing would lift a limit.
fn taken(seconds: f64) -> f64 {
    if seconds.is_finite() { seconds.max(0.0) } else { 0.0 }
}

fn add(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (None, None) => None,
        (a, b) => Some(a.unwrap_or(0.0) + b.unwrap_or(0.0)),
    }
}

/// A ledger with the prices of who is paid.
#[derive(Clone, Debug, Default)]
pub(crate) struct Books {
    pub(crate) ledger: RunLedger,
    model: Option<ModelPrice>,
    worker: Option<WorkerPrice>,
    prices: Option<PriceTable>,
}

impl Books {
    pub(crate) fn new(prices: Option<&PriceTable>, worker: &str) -> Self {
        let ledger =
            RunLedger { currency: prices.map(|table| table.currency.clone()), ..RunLedger::default() };
        let worker = prices.and_then(|table| table.worker(worker));
        Self { ledger, model: None, worker, prices: prices.cloned() }
    }

    pub(crate) fn set_model(&mut self, price: Option<ModelPrice>) {
        self.model = price;
    }

    /// `by_model` says who was asked, where there are several models.
    pub(crate) fn completion(&mut self, usage: &Usage, by_model: &[ModelUse], seconds: f64) {
        let price = |used: &ModelUse| Some(self.prices.as_ref()?.model(&used.model)?.of(&used.usage));
        let cost = match by_model {
            [] => self.model.map(|price| price.of(usage)),
            several => several.iter().map(price).sum(),
        };
        let own = &mut self.ledger.orchestrator;
        own.turns += 1;
        own.usage += *usage;
        own.seconds += taken(seconds);
        own.cost = add(own.cost, cost);
    }

    pub(crate) fn entered(&mut self, tokens: usize, seconds: f64) {
        let own = &mut self.ledger.worker;
        own.trajectory_prefilled += tokens;
        let seconds = taken(seconds);
        own.trajectory_s += seconds;
        let read = CallTokens { prefilled: tokens, ..CallTokens::default() };
        own.cost = add(own.cost, self.worker.map(|price| price.of(&read, seconds)));
    }

    pub(crate) fn call(&mut self, call: &WorkerCall) {
        let own = &mut self.ledger.worker;
        if call.error.is_some() {
            own.failed += 1;
        } else {
            own.calls += 1;
        }
        own.tokens += call.tokens;
        let [prefill, brief, decode] = [call.prefill_s, call.brief_s, call.decode_s].map(taken);
        own.prefill_s += prefill;
        own.brief_s += brief;
        own.decode_s += decode;
        own.peak_cache_bytes = own.peak_cache_bytes.max(call.cache_bytes);
        let seconds = prefill + brief + decode;
        own.cost = add(own.cost, self.worker.map(|price| price.of(&call.tokens, seconds)));
    }

    pub(crate) fn block(&mut self, seconds: f64, fault: bool) {
        let own = &mut self.ledger.sandbox;
        own.blocks += 1;
        own.faults += usize::from(fault);
        own.seconds += taken(seconds);
    }

    /// Counts a recorded turn as if it had just happened.
    pub(crate) fn recorded(&mut self, iteration: &Iteration) {
        self.completion(&iteration.usage, &iteration.by_model, iteration.completion_time);
        self.ledger.elapsed_s += taken(iteration.iteration_time);
        for entered in &iteration.entered {
            self.entered(entered.pieces.len(), entered.seconds);
        }
        for block in &iteration.code_blocks {
            let called: f64 = block.result.rlm_calls.iter().map(|call| call.execution_time).sum();
            self.block((block.result.execution_time - called).max(0.0), block.result.fault.is_some());
            for call in &block.result.rlm_calls {
                match (&call.kind, &call.metadata) {
                    (CallKind::Rlm, Some(child)) => self.recorded_child(child),
                    _ => self.call(call),
                }
            }
        }
    }

    fn recorded_child(&mut self, child: &ChildRecord) {
        let elapsed = self.ledger.elapsed_s;
        child.iterations.iter().for_each(|iteration| self.recorded(iteration));
        // It ran inside the time of its parent's turn.
        self.ledger.elapsed_s = elapsed;
    }
}
