//! Phases of a question, each with an allowance; what one leaves goes to the next.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A phase: exploring, checking, writing. It ends when anything of its allowance is gone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhaseBudget {
    /// Its name; the orchestrator is told when it begins.
    pub name: String,
    /// Turns that it may take; none is no limit, as for the others.
    #[serde(default)]
    pub turns: Option<usize>,
    /// Tokens of orchestrator and worker.
    #[serde(default)]
    pub tokens: Option<usize>,
    /// Worker calls.
    #[serde(default)]
    pub calls: Option<usize>,
    /// Money.
    #[serde(default)]
    pub cost: Option<f64>,
    /// Share of what the phase before left that is added, 0 to 1. Default: 1.
    #[serde(default = "all")]
    pub carry_over: f64,
}

fn all() -> f64 {
    1.0
}

impl PhaseBudget {
    /// What it may use up, before anything is carried over.
    pub fn allowance(&self) -> PhaseAllowance {
        PhaseAllowance { turns: self.turns, tokens: self.tokens, calls: self.calls, cost: self.cost }
    }
}

/// An allowance; what is none has no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PhaseAllowance {
    /// Turns.
    pub turns: Option<usize>,
    /// Tokens of orchestrator and worker.
    pub tokens: Option<usize>,
    /// Worker calls.
    pub calls: Option<usize>,
    /// Money.
    pub cost: Option<f64>,
}

/// What a question has used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PhaseUse {
    /// Turns.
    pub turns: usize,
    /// Tokens.
    pub tokens: usize,
    /// Worker calls.
    pub calls: usize,
    /// Money.
    pub cost: f64,
}

/// What a look at the meter says.
#[derive(Clone, Debug, PartialEq)]
pub enum PhaseStep {
    /// The phase goes on.
    Same,
    /// Another has begun.
    Began {
        /// Its name.
        name: String,
        /// What it may use up, what was carried over counted in.
        allowance: PhaseAllowance,
    },
    /// The last one is over.
    Over,
}

/// Where a question is among its phases.
#[derive(Clone, Debug)]
pub struct PhaseMeter {
    phases: Vec<PhaseBudget>,
    at: usize,
    /// What was used up when the phase began.
    since: PhaseUse,
    /// What the phase may use up.
    allowance: PhaseAllowance,
}

/// Checks names and ranges.
///
/// # Errors
/// [`Error::Config`] naming the field.
pub(crate) fn validate_phases(phases: &[PhaseBudget]) -> Result<()> {
    for phase in phases {
        if phase.name.trim().is_empty() {
            return Err(Error::config("phase.name", &phase.name, "want a name"));
        }
        if !(0.0..=1.0).contains(&phase.carry_over) {
            return Err(Error::config("phase.carry_over", phase.carry_over, "want 0 to 1"));
        }
        let allowance = phase.allowance();
        if allowance == PhaseAllowance::default() {
            return Err(Error::config(
                "phase.turns",
                &phase.name,
                "want a limit of turns, tokens, calls or money",
            ));
        }
        if let Some(cost) = allowance.cost.filter(|cost| !(*cost >= 0.0 && cost.is_finite())) {
            return Err(Error::config("phase.cost", cost, "want a finite amount that is not negative"));
        }
    }
    Ok(())
}

impl PhaseMeter {
    /// At the beginning of the first phase, with so much used up before it.
    pub fn new(phases: Vec<PhaseBudget>, used: PhaseUse) -> Self {
        let allowance = phases.first().map(PhaseBudget::allowance).unwrap_or_default();
        Self { phases, at: 0, since: used, allowance }
    }

    /// The phase's name; none behind the last.
    pub fn phase(&self) -> Option<&str> {
        self.phases.get(self.at).map(|phase| phase.name.as_str())
    }

    /// What the phase may use up, what was carried over counted in.
    pub fn allowance(&self) -> PhaseAllowance {
        self.allowance
    }

    /// Goes on to the next phase where this one is over; phases without anything to use up are passed over.
    pub fn look(&mut self, used: PhaseUse) -> PhaseStep {
        let first = self.at;
        while self.at < self.phases.len() && self.allowance.is_gone(&used.since(&self.since)) {
            let left = self.allowance.less(&used.since(&self.since));
            self.at += 1;
            self.since = used;
            if let Some(next) = self.phases.get(self.at) {
                self.allowance = next.allowance().plus(&left, next.carry_over);
            }
        }
        match self.phases.get(self.at) {
            None => PhaseStep::Over,
            Some(_) if self.at == first => PhaseStep::Same,
            Some(phase) => PhaseStep::Began { name: phase.name.clone(), allowance: self.allowance },
        }
    }
}

impl PhaseUse {
    fn since(&self, before: &Self) -> Self {
        Self {
            turns: self.turns.saturating_sub(before.turns),
            tokens: self.tokens.saturating_sub(before.tokens),
            calls: self.calls.saturating_sub(before.calls),
            cost: (self.cost - before.cost).max(0.0),
        }
    }
}

impl PhaseAllowance {
    fn is_gone(&self, used: &PhaseUse) -> bool {
        self.turns.is_some_and(|most| used.turns >= most)
            || self.tokens.is_some_and(|most| used.tokens >= most)
            || self.calls.is_some_and(|most| used.calls >= most)
            || self.cost.is_some_and(|most| used.cost >= most)
    }

    /// What is left; what was overdrawn is nothing.
    fn less(&self, used: &PhaseUse) -> Self {
        let whole = |most: Option<usize>, used: usize| most.map(|most| most.saturating_sub(used));
        Self {
            turns: whole(self.turns, used.turns),
            tokens: whole(self.tokens, used.tokens),
            calls: whole(self.calls, used.calls),
            cost: self.cost.map(|most| (most - used.cost).max(0.0)),
        }
    }

    /// With a share of what another left; what has no limit keeps none.
    fn plus(&self, left: &Self, share: f64) -> Self {
        let whole = |own: Option<usize>, left: Option<usize>| {
            own.map(|own| own.saturating_add((left.unwrap_or(0) as f64 * share).floor() as usize))
        };
        Self {
            turns: whole(self.turns, left.turns),
            tokens: whole(self.tokens, left.tokens),
            calls: whole(self.calls, left.calls),
            cost: self.cost.map(|own| own + left.cost.unwrap_or(0.0) * share),
        }
    }
}

impl std::fmt::Display for PhaseAllowance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts = Vec::new();
        parts.extend(self.turns.map(|n| format!("{n} turns")));
        parts.extend(self.tokens.map(|n| format!("{n} tokens")));
        parts.extend(self.calls.map(|n| format!("{n} worker calls")));
        parts.extend(self.cost.map(|money| format!("{money:.4} of money")));
        f.write_str(&parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::{PhaseAllowance, PhaseBudget, PhaseMeter, PhaseStep, PhaseUse};

    fn phase(name: &str, turns: usize, tokens: usize, carry_over: f64) -> PhaseBudget {
        let (turns, tokens) = (Some(turns), Some(tokens));
        PhaseBudget { name: name.to_owned(), turns, tokens, calls: None, cost: None, carry_over }
    }

    fn used(turns: usize, tokens: usize) -> PhaseUse {
        PhaseUse { turns, tokens, ..PhaseUse::default() }
    }

    #[test]
    fn what_is_left_is_carried_over_by_its_share() {
        let phases =
            vec![phase("explore", 4, 1000, 1.0), phase("check", 2, 500, 0.5), phase("write", 1, 100, 0.0)];
        // Something was used before the question.
        let mut meter = PhaseMeter::new(phases, used(3, 10_000));
        assert_eq!(meter.look(used(6, 10_300)), PhaseStep::Same);
        // The turns are gone, 600 tokens are left: half of them go to the next phase.
        let began = meter.look(used(7, 10_400));
        let allowance = PhaseAllowance { turns: Some(2), tokens: Some(800), ..PhaseAllowance::default() };
        assert_eq!(began, PhaseStep::Began { name: "check".to_owned(), allowance });
        // The tokens are overdrawn by 100: nothing of them is left, and no debt; a turn is, but nothing is carried into `write`.
        let began = meter.look(used(8, 11_300));
        let allowance = PhaseAllowance { turns: Some(1), tokens: Some(100), ..PhaseAllowance::default() };
        assert_eq!(began, PhaseStep::Began { name: "write".to_owned(), allowance });
        assert_eq!(meter.look(used(9, 11_300)), PhaseStep::Over);
        assert_eq!((meter.look(used(9, 11_300)), meter.phase()), (PhaseStep::Over, None));
    }

    #[test]
    fn a_phase_without_an_allowance_is_passed_over() {
        let mut meter = PhaseMeter::new(vec![phase("a", 0, 10, 1.0), phase("b", 2, 10, 1.0)], used(0, 0));
        let allowance = PhaseAllowance { turns: Some(2), tokens: Some(20), ..PhaseAllowance::default() };
        assert_eq!(meter.look(used(0, 0)), PhaseStep::Began { name: "b".to_owned(), allowance });
        assert_eq!(meter.phase(), Some("b"));
    }
}
