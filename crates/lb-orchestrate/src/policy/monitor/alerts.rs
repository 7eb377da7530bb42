//! Said once when a share of a budget is gone.

use serde::{Deserialize, Serialize};

use crate::rlm::{Allowance, Measure, Phase, Spent};
use crate::{Error, Result};

/// At which shares of a budget a run says so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Alerts {
    /// Shares, above 0 and below 1. None turns it off. Default: 0.5, 0.8, 0.95.
    pub at: Vec<f64>,
}

impl Default for Alerts {
    fn default() -> Self {
        Self { at: vec![0.5, 0.8, 0.95] }
    }
}

impl Alerts {
    /// No alerts.
    pub fn off() -> Self {
        Self { at: Vec::new() }
    }

    /// Checks the shares.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field.
    pub fn validate(&self) -> Result<()> {
        match self.at.iter().find(|share| !(**share > 0.0 && **share < 1.0)) {
            Some(share) => Err(Error::config("alerts.at", share, "want shares above 0 and below 1")),
            None => Ok(()),
        }
    }
}

/// A share of a budget that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Whose budget.
    pub phase: Phase,
    /// Of what.
    pub what: Measure,
    /// The share that was set.
    pub at: f64,
    /// The share that is gone.
    pub gone: f64,
}

impl std::fmt::Display for Alert {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = match self.what {
            Measure::Time => "time",
            Measure::Tokens => "tokens",
            Measure::Cost => "money",
            _ => "calls",
        };
        let phase = match self.phase {
            Phase::Run => "run",
            Phase::Orchestrator => "orchestrator",
            Phase::Worker => "worker",
            Phase::Sandbox => "sandbox",
        };
        write!(f, "{:.0} % of the {phase}'s {what} is gone", 100.0 * self.gone)
    }
}

/// What was said so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Alarm {
    said: Vec<(Phase, Measure, f64)>,
}

impl Alarm {
    /// What is to be said now of one budget: the highest share that was passed, once.
    pub(crate) fn look(
        &mut self,
        alerts: &Alerts,
        phase: Phase,
        allowed: &Allowance,
        spent: &Spent,
    ) -> Vec<Alert> {
        let mut found = Vec::new();
        for (what, gone) in shares(allowed, spent) {
            let passed = alerts
                .at
                .iter()
                .copied()
                .filter(|at| gone >= *at)
                .fold(None, |most: Option<f64>, at| Some(most.map_or(at, |most| most.max(at))));
            let Some(at) = passed else { continue };
            let before = self.said.iter().any(|(p, w, said)| (*p, *w) == (phase, what) && *said >= at);
            if !before {
                self.said.push((phase, what, at));
                found.push(Alert { phase, what, at, gone });
            }
        }
        found
    }
}

/// The share of each limit that is gone.
pub(crate) fn shares(allowed: &Allowance, spent: &Spent) -> Vec<(Measure, f64)> {
    let of = |used: f64, most: f64| if most > 0.0 { used / most } else { 1.0 };
    let time = allowed.time.map(|most| (Measure::Time, of(spent.time.as_secs_f64(), most.as_secs_f64())));
    let tokens = allowed.tokens.map(|most| (Measure::Tokens, of(spent.tokens as f64, most as f64)));
    let cost = allowed.cost.map(|most| (Measure::Cost, of(spent.cost, most)));
    let calls = allowed.calls.map(|most| (Measure::Calls, of(spent.calls as f64, most as f64)));
    [time, tokens, cost, calls].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::{Alarm, Alerts};
    use crate::rlm::{Allowance, Measure, Phase, Spent};

    #[test]
    fn each_share_is_said_once_and_the_highest_alone() {
        let (mut alarm, alerts) = (Alarm::default(), Alerts::default());
        let allowed = Allowance { tokens: Some(100), calls: Some(10), ..Allowance::default() };
        let mut look = |tokens, calls| {
            let spent = Spent { tokens, calls, ..Spent::default() };
            let said = alarm.look(&alerts, Phase::Run, &allowed, &spent);
            said.into_iter().map(|alert| (alert.what, alert.at)).collect::<Vec<_>>()
        };
        assert!(look(49, 4).is_empty());
        assert_eq!(look(50, 4), [(Measure::Tokens, 0.5)]);
        assert!(look(79, 4).is_empty());
        assert_eq!(look(96, 5), [(Measure::Tokens, 0.95), (Measure::Calls, 0.5)]);
        assert!(look(99, 5).is_empty());
    }
}
