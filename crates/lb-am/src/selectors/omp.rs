//! Orthogonal matching pursuit: each key explains mass that the keys before it leave over.

use serde::{Deserialize, Serialize};

use super::pursuit::pursue;
use super::{Budgets, Needs, Picked, Selector};
use crate::config::ensure;
use crate::error::Result;
use crate::mask::Ranking;
use crate::registry::{Arguments, Factory, Spec};
use crate::scene::Scene;

const NAME: &str = "omp";
const ROW_POWER: f64 = 0.5;

/// Orthogonal matching pursuit: keys are added one after another, each the one that explains most of the attention mass
/// still missing, and the weights of all are refitted in between (AM, arXiv 2602.16284, section 3).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Omp {
    /// How many keys are added at a time, and how often weights are refitted, as the selection grows. Default: one
    /// and one up to 300 keys, two and two up to 1,500, then four and two, the progressive schedule of the reference.
    pub schedule: Vec<OmpPhase>,
    /// Keys whose fitted β is at most this are dropped for good and replaced by others, once enough were found. Below
    /// 0; default: none are dropped.
    pub drop_below: Option<f64>,
    /// A query's row is divided by its mass to this power, 0 to 1: at 0, as in the paper, queries that spread their attention
    /// count far more than those that know what they look for, at 1 all count the same. Default 0.5.
    pub row_power: f64,
}

/// A stretch of the schedule of [`Omp`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OmpPhase {
    /// Holds until this many keys were found; `None` for the last phase.
    pub until: Option<usize>,
    /// Keys added at a time, at least 1.
    pub keys_per_step: usize,
    /// Steps from one refit to the next, at least 1.
    pub refit_every: usize,
}

impl Default for Omp {
    fn default() -> Self {
        let phase = |until, keys_per_step, refit_every| OmpPhase { until, keys_per_step, refit_every };
        Self {
            schedule: vec![phase(Some(300), 1, 1), phase(Some(1500), 2, 2), phase(None, 4, 2)],
            drop_below: None,
            row_power: ROW_POWER,
        }
    }
}

impl Omp {
    /// `keys_per_step` keys at a time, weights refitted every `refit_every` steps, however many there are.
    pub fn steady(keys_per_step: usize, refit_every: usize) -> Self {
        Self { schedule: vec![OmpPhase { until: None, keys_per_step, refit_every }], ..Self::default() }
    }

    /// The phase that holds once `found` keys were found.
    pub(crate) fn phase(&self, found: usize) -> OmpPhase {
        let phase = self.schedule.iter().find(|phase| phase.until.is_none_or(|until| found < until));
        *phase.or(self.schedule.last()).expect("a validated schedule is not empty")
    }

    fn check(&self) -> Result<()> {
        ensure(!self.schedule.is_empty(), "omp.schedule", "[]", "must have a phase")?;
        let mut before = 0;
        for (index, phase) in self.schedule.iter().enumerate() {
            let keys = phase.keys_per_step;
            ensure((1..=1024).contains(&keys), "omp.keys_per_step", keys, "must be within 1..=1024")?;
            let refit = phase.refit_every;
            ensure((1..=1024).contains(&refit), "omp.refit_every", refit, "must be within 1..=1024")?;
            let last = index + 1 == self.schedule.len();
            let until = phase.until.unwrap_or(usize::MAX);
            let rises = until > before && (phase.until.is_some() || last);
            ensure(rises, "omp.until", until, "must rise from phase to phase and be open in the last alone")?;
            before = until;
        }
        let below = self.drop_below.unwrap_or(-1.0);
        ensure(below < 0.0 && below.is_finite(), "omp.drop_below", below, "must be below 0")?;
        let power = self.row_power;
        ensure((0.0..=1.0).contains(&power), "omp.row_power", power, "must be within 0..=1")
    }
}

pub(super) fn factory() -> Factory {
    Factory::new(NAME, "keys that together explain the attention mass, head by head", read)
        .key("keys_per_step", "keys added at a time, however many there are")
        .key("refit_every", "steps from one refit to the next (1)")
        .key("schedule", "KEYS/REFIT@UNTIL+..+KEYS/REFIT (1/1@300+2/2@1500+4/2)")
        .key("drop_below", "keys whose bias is at most this are replaced; below 0 (none)")
        .key("row_power", "of the mass that a query's row is divided by, 0 to 1 (0.5)")
}

fn read(arguments: &Arguments<'_>) -> Result<Omp> {
    const WHOLE: &str = "a whole number";
    let (keys, refit) = (arguments.get("keys_per_step", WHOLE)?, arguments.get("refit_every", WHOLE)?);
    let schedule: Option<String> = arguments.get("schedule", "phases")?;
    let steady =
        (keys.is_some() || refit.is_some()).then(|| Omp::steady(keys.unwrap_or(1), refit.unwrap_or(1)));
    let omp = match (schedule, steady) {
        (None, steady) => steady.unwrap_or_default(),
        (Some(text), None) => {
            let phases = text.split('+').map(phase).collect::<Option<_>>();
            let wanted = "phases such as 1/1@300+4/2: keys, refits, until";
            Omp { schedule: phases.ok_or_else(|| arguments.wrong("schedule", wanted))?, ..Omp::default() }
        }
        (Some(_), Some(_)) => {
            return Err(arguments.wrong("schedule", "to stand without keys_per_step and refit_every"));
        }
    };
    let drop_below = arguments.get("drop_below", "a number below 0")?;
    let row_power = arguments.get_or("row_power", "a number from 0 to 1", ROW_POWER)?;
    Ok(Omp { drop_below, row_power, ..omp })
}

/// `KEYS/REFIT@UNTIL`, or `KEYS/REFIT`.
fn phase(text: &str) -> Option<OmpPhase> {
    let (steps, until) = match text.split_once('@') {
        Some((steps, until)) => (steps, Some(until.parse().ok()?)),
        None => (text, None),
    };
    let (keys, refit) = steps.split_once('/')?;
    Some(OmpPhase { until, keys_per_step: keys.parse().ok()?, refit_every: refit.parse().ok()? })
}

impl Selector for Omp {
    fn spec(&self) -> Spec {
        let spec = Spec::new(NAME);
        let spec = match &self.schedule[..] {
            schedule if *schedule == *Self::default().schedule => spec,
            [OmpPhase { until: None, keys_per_step, refit_every }] => {
                spec.with("keys_per_step", keys_per_step).with_unless("refit_every", *refit_every, &1)
            }
            schedule => {
                let phase = |phase: &OmpPhase| {
                    let until = phase.until.map_or(String::new(), |until| format!("@{until}"));
                    format!("{}/{}{until}", phase.keys_per_step, phase.refit_every)
                };
                spec.with("schedule", schedule.iter().map(phase).collect::<Vec<_>>().join("+"))
            }
        };
        let spec = match self.drop_below {
            Some(below) => spec.with("drop_below", below),
            None => spec,
        };
        spec.with_unless("row_power", self.row_power, &ROW_POWER)
    }

    fn needs(&self) -> Needs {
        Needs::QUERIES
    }

    fn budgets(&self) -> Budgets {
        Budgets::Any
    }

    fn validate(&self) -> Result<()> {
        self.check()
    }

    /// As many slots in each head as its scores alone would keep.
    fn select(&self, scene: &Scene<'_>) -> Result<Picked> {
        let scores = scene.all_head_scores();
        scene.share_out(&scores)?;
        let picked = scene.each_head(|layer, head| {
            let mut pick = scene.pick(layer, head, Ranking::by(&scores[layer][head]))?;
            pick.slots = pursue(scene, self, (layer, head), &pick.slots)?;
            Ok(pick)
        })?;
        Ok(Picked { importance: scores, ..picked })
    }
}
