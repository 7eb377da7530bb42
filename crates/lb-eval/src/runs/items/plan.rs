//! What is to be run.

use std::collections::BTreeSet;

use lb_am::baselines::Baseline;
use lb_orchestrate::Limits;
use lb_session::{Handoff, HandoffKind};
use serde::{Deserialize, Serialize};

use super::{Part, Scoring};
use crate::{Error, Result, prompts};

/// The condition without a loop: the worker alone reads the prompt of the published protocol, cut in its middle.
pub const DIRECT: &str = "direct";

/// The conditions under which every item is answered, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BenchPlan {
    /// Handoffs as text ([`Handoff`]), and [`DIRECT`]. A plain `latent-briefing` stands for one condition for each of
    /// `tau`.
    pub conditions: Vec<String>,
    /// Thresholds of `latent-briefing`. Default: none, so that it is what it is.
    pub tau: Vec<f64>,
    /// Runs of the orchestrator for each item. Default: 1.
    pub repeats: usize,
    /// Decides the split, and what is sampled.
    pub seed: u64,
    /// Share of documents on which settings may be chosen, 0 to below 1. Default: 0.
    pub validation_share: f64,
    /// Items at the same time. Default: 1.
    pub jobs: usize,
    /// How items are asked and scored.
    pub scoring: Scoring,
    /// Most tokens of a worker's answer. Default: 128, as published.
    pub answer_tokens: usize,
    /// Keep a log of every run that makes briefings, for their heat maps; else of the live run alone. Default: true.
    pub briefing_logs: bool,
    /// Most tokens of the prompt of [`DIRECT`]; without it, what the worker can read.
    pub direct_tokens: Option<usize>,
    /// Of each run.
    pub limits: Limits,
}

impl Default for BenchPlan {
    fn default() -> Self {
        Self {
            conditions: ["full-kv", "latent-briefing", "text-replay", "none"].map(str::to_owned).to_vec(),
            tau: Vec::new(),
            repeats: 1,
            seed: 0,
            validation_share: 0.0,
            jobs: 1,
            scoring: Scoring::default(),
            answer_tokens: prompts::ANSWER_TOKENS,
            briefing_logs: true,
            direct_tokens: None,
            limits: Limits::default(),
        }
    }
}

/// Conditions of one text: `;` between them, or `,` before a name, `full-kv,bm25:0.1,passage=40,snapkv:keep=0.1`.
pub fn split_conditions(text: &str) -> Vec<String> {
    let named = |piece: &str| {
        let name = piece.split_once(':').map_or(piece, |(name, _)| name).trim();
        name == DIRECT || name.parse::<HandoffKind>().is_ok() || name.parse::<Baseline>().is_ok()
    };
    let mut conditions: Vec<String> = Vec::new();
    for part in text.split(';') {
        for (at, piece) in part.split(',').enumerate() {
            match conditions.last_mut().filter(|_| at > 0 && !named(piece)) {
                Some(last) => *last = format!("{last},{piece}"),
                None => conditions.push(piece.trim().to_owned()),
            }
        }
    }
    conditions
}

/// Each name with `keep=*` at every one of `sizes`, in their order.
///
/// # Errors
/// [`Error::Config`] where there is such a name and no size.
pub fn at_each_size(names: Vec<String>, sizes: &[f64]) -> Result<Vec<String>> {
    const ANY: &str = "keep=*";
    let mut all = Vec::new();
    for name in names {
        match sizes {
            _ if !name.contains(ANY) => all.push(name),
            [] => return Err(Error::config("keep", "none", "want sizes for keep=*, as in 0.1,0.05")),
            sizes => all.extend(sizes.iter().map(|size| name.replace(ANY, &format!("keep={size}")))),
        }
    }
    Ok(all)
}

/// A condition with the name that rows have.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// As text.
    pub name: String,
    /// `None` is [`DIRECT`].
    pub handoff: Option<Handoff>,
}

impl BenchPlan {
    /// Checks every range.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field; [`Error::Session`] for a handoff that cannot be read.
    pub fn validate(&self) -> Result<()> {
        at_least_one(&[("repeats", self.repeats), ("answer_tokens", self.answer_tokens)])?;
        check(self.jobs, self.validation_share)?;
        if self.direct_tokens == Some(0) {
            return Err(Error::config("direct_tokens", 0, "want at least 1"));
        }
        self.limits.validate()?;
        self.expanded().map(|_| ())
    }

    /// The conditions one by one, in order.
    ///
    /// # Errors
    /// [`Error::Config`] for none and for one that is there twice, [`Error::Session`] for a text that is no handoff.
    pub fn expanded(&self) -> Result<Vec<Condition>> {
        let mut names = Vec::new();
        for text in self.conditions.iter().map(|text| text.trim()) {
            if text == "latent-briefing" && !self.tau.is_empty() {
                names.extend(self.tau.iter().map(|tau| format!("latent-briefing:tau={tau}")));
            } else {
                names.push(text.to_owned());
            }
        }
        each_once(names, |name| {
            let handoff = if name == DIRECT { None } else { Some(name.parse()?) };
            Ok(Condition { name, handoff })
        })
    }

    /// The condition under which the orchestrator runs; the others replay it. The full cache where it is among them, else
    /// the first with a loop; `None` where there is none.
    pub(super) fn live(conditions: &[Condition]) -> Option<&Condition> {
        let full = conditions.iter().find(|condition| condition.handoff == Some(Handoff::FullKv));
        full.or_else(|| conditions.iter().find(|condition| condition.handoff.is_some()))
    }

    /// The part of items about the document `cluster`: the same in every run with this seed.
    pub fn part(&self, cluster: u64) -> Part {
        part(self.seed, self.validation_share, cluster)
    }
}

/// Refuses a count of 0, by its name.
pub(super) fn at_least_one(counts: &[(&'static str, usize)]) -> Result<()> {
    match counts.iter().find(|(_, count)| *count == 0) {
        Some((field, _)) => Err(Error::config(field, 0, "want at least 1")),
        None => Ok(()),
    }
}

/// The ranges that every plan has.
pub(super) fn check(jobs: usize, validation_share: f64) -> Result<()> {
    at_least_one(&[("jobs", jobs)])?;
    if jobs > 1024 {
        return Err(Error::config("jobs", jobs, "want at most 1024"));
    }
    if !(0.0..1.0).contains(&validation_share) {
        return Err(Error::config("validation_share", validation_share, "want 0 to below 1"));
    }
    Ok(())
}

/// Each of `names` with what `read` makes of it.
///
/// # Errors
/// [`Error::Config`] for none and for one that is there twice; what `read` returns.
pub(crate) fn each_once<T>(
    names: impl IntoIterator<Item = String>,
    read: impl Fn(String) -> Result<T>,
) -> Result<Vec<T>> {
    let mut seen = BTreeSet::new();
    let one = |name: String| {
        if seen.insert(name.clone()) {
            return read(name);
        }
        Err(Error::config("conditions", name, "is there twice"))
    };
    let all: Vec<T> = names.into_iter().map(one).collect::<Result<_>>()?;
    if all.is_empty() { Err(Error::config("conditions", "none", "want at least one")) } else { Ok(all) }
}

/// The part of a document, by lot.
pub(super) fn part(seed: u64, validation_share: f64, cluster: u64) -> Part {
    // The upper 53 bits are a number in [0, 1).
    let lot = (mixed(cluster ^ mixed(seed)) >> 11) as f64 / (1_u64 << 53) as f64;
    if lot < validation_share { Part::Validation } else { Part::Test }
}

/// The number of a text, the same on every machine (FNV-1a, 64 bits).
pub(crate) fn fingerprint(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The finaliser of splitmix64: neighbouring numbers come far apart.
pub(crate) fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
