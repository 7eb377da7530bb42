//! What a run may use up, and the breaker that opens when it has.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// What something may use up; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Allowance {
    /// Wall time.
    pub time: Option<Duration>,
    /// Tokens that a model computed: an orchestrator's input and output; a worker's prefilled and generated ones.
    pub tokens: Option<usize>,
    /// Money, in the currency of the price table.
    pub cost: Option<f64>,
    /// Calls: an orchestrator's turns, a worker's answers, blocks of code.
    pub calls: Option<usize>,
}

impl Allowance {
    fn validate(&self) -> Result<()> {
        match self.cost {
            Some(cost) if !cost.is_finite() || cost < 0.0 => {
                Err(Error::config("limits.cost", cost, "want a finite amount that is not negative"))
            }
            _ => Ok(()),
        }
    }

    /// What is left of it once `spent` is gone.
    #[must_use]
    pub(crate) fn less(&self, spent: &Spent) -> Self {
        Self {
            time: self.time.map(|t| t.saturating_sub(spent.time)),
            tokens: self.tokens.map(|t| t.saturating_sub(spent.tokens)),
            cost: self.cost.map(|c| (c - spent.cost).max(0.0)),
            calls: self.calls.map(|c| c.saturating_sub(spent.calls)),
        }
    }

    /// The first part of the budget that is gone.
    pub(crate) fn broken_by(&self, spent: &Spent, phase: Phase) -> Option<Limit> {
        let over = |what, allowed: String, used: String| Limit { phase, what, allowed, used };
        let seconds = |d: Duration| format!("{:.1} s", d.as_secs_f64());
        if let Some(t) = self.time.filter(|t| spent.time >= *t) {
            return Some(over(Measure::Time, seconds(t), seconds(spent.time)));
        }
        if let Some(t) = self.tokens.filter(|t| spent.tokens >= *t) {
            return Some(over(Measure::Tokens, t.to_string(), spent.tokens.to_string()));
        }
        if let Some(c) = self.cost.filter(|c| spent.cost >= *c) {
            return Some(over(Measure::Cost, format!("{c:.4}"), format!("{:.4}", spent.cost)));
        }
        let calls = self.calls.filter(|c| spent.calls >= *c)?;
        Some(over(Measure::Calls, calls.to_string(), spent.calls.to_string()))
    }
}

/// What was used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    /// Wall time.
    pub time: Duration,
    /// Tokens that a model computed.
    pub tokens: usize,
    /// Money.
    pub cost: f64,
    /// Calls.
    pub calls: usize,
}

impl std::ops::AddAssign for Spent {
    fn add_assign(&mut self, other: Self) {
        self.time += other.time;
        self.tokens = self.tokens.saturating_add(other.tokens);
        self.cost += other.cost;
        self.calls += other.calls;
    }
}

/// Limits of a run. A recursive query gets what is left of its parent's.
///
/// When the budget of the worker or of the sandbox is gone, its breaker opens: calls and blocks are refused with a text
/// that says so, and the orchestrator can still answer from what it has. When the budget of the run or of the
/// orchestrator is gone, the run ends with [`Stopped`](crate::Stopped).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Turns; after them, one last completion asks for the answer. At least 1. Default: 30.
    pub iterations: usize,
    /// Turns in a row that fail: code that raises, no code, worker calls that all fail. At least 1. Default: 5.
    pub consecutive_errors: usize,
    /// How deep `rlm_query` goes: at this depth it is a plain worker call. Default: 1, so the run itself never recurses. At most 8.
    pub depth: usize,
    /// The whole run, calls meaning worker calls. Default: no limit.
    pub run: Allowance,
    /// The orchestrator's turns. Default: no limit.
    pub orchestrator: Allowance,
    /// The worker's calls. Default: no limit.
    pub worker: Allowance,
    /// The code's own time, and blocks. Tokens and money do not apply. Default: no limit.
    pub sandbox: Allowance,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            iterations: 30,
            consecutive_errors: 5,
            depth: 1,
            run: Allowance::default(),
            orchestrator: Allowance::default(),
            worker: Allowance::default(),
            sandbox: Allowance::default(),
        }
    }
}

impl Limits {
    /// Checks every range.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field.
    pub fn validate(&self) -> Result<()> {
        if self.iterations == 0 {
            return Err(Error::config("limits.iterations", 0, "want at least 1"));
        }
        if self.consecutive_errors == 0 {
            return Err(Error::config("limits.consecutive_errors", 0, "want at least 1"));
        }
        // Each level nests the log's lines; JSON readers give up somewhere behind a hundred levels.
        if self.depth > 8 {
            return Err(Error::config("limits.depth", self.depth, "want at most 8"));
        }
        [self.run, self.orchestrator, self.worker, self.sandbox].iter().try_for_each(Allowance::validate)
    }

    /// Whether money is limited anywhere.
    pub(crate) fn limits_cost(&self) -> bool {
        [self.run, self.orchestrator, self.worker].iter().any(|budget| budget.cost.is_some())
    }
}

/// What a budget is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Everything.
    Run,
    /// The orchestrator's turns.
    Orchestrator,
    /// The worker's calls.
    Worker,
    /// The code.
    Sandbox,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Wall time.
    Time,
    /// Tokens.
    Tokens,
    /// Money.
    Cost,
    /// Calls.
    Calls,
    /// Turns in a row that failed.
    ConsecutiveErrors,
}

/// A limit that was reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Whose.
    pub phase: Phase,
    /// Of what.
    pub what: Measure,
    /// How much there was.
    pub allowed: String,
    /// How much is gone.
    pub used: String,
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let phase = match self.phase {
            Phase::Run => "run",
            Phase::Orchestrator => "orchestrator",
            Phase::Worker => "worker",
            Phase::Sandbox => "sandbox",
        };
        let what = match self.what {
            Measure::Time => "time",
            Measure::Tokens => "tokens",
            Measure::Cost => "money",
            Measure::Calls => "calls",
            Measure::ConsecutiveErrors => "errors in a row",
        };
        write!(f, "the {phase}'s limit of {what} is reached: {} of {}", self.used, self.allowed)
    }
}
