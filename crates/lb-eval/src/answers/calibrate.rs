//! Settings chosen per class on one part of the items, and reported on the other.
//!
//! Conditions that differ in one number are a family: `latent-briefing:tau=1`, `latent-briefing:tau=4`. In each class of
//! length and difficulty the setting with the fewest worker tokens is taken whose accuracy on the validation part is at
//! most a tolerance below that of the reference. What is reported comes from the test part, against the single setting
//! that the same rule takes on all classes together.

use std::collections::{BTreeMap, BTreeSet};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::AnswerRow;
use super::aggregate::{clusters, reference};
use super::classes::place;
pub use super::families::{family, weight};
use super::figures::{ByKey, Setting, accuracy, conditions, of};
use crate::pipeline::Part;
use crate::stats::bootstrap::{Bootstrap, Interval};
use crate::{Error, Result};

/// Items of a class on the validation part, below which its choice is that of all classes.
pub const ENOUGH: usize = 30;
/// Draws of the validation items for the interval of a choice.
const DRAWS: usize = 400;

/// How to choose.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// The family, `latent-briefing:tau=*`; the one with the most members by default.
    pub family: Option<String>,
    /// How far below the reference accuracy may be, 0.01 for one point.
    pub tolerance: f64,
}

impl Default for Rule {
    fn default() -> Self {
        Self { family: None, tolerance: 0.01 }
    }
}

/// Share of right answers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Share {
    /// Rows.
    pub n: usize,
    /// Share of them.
    pub accuracy: f64,
    /// Wilson's 95 % interval.
    pub ci: [f64; 2],
}

impl Share {
    fn of(rows: &ByKey<'_>) -> Self {
        let (_, _, accuracy, ci) = accuracy(rows);
        Self { n: rows.len(), accuracy, ci }
    }
}

/// A class and the setting chosen for it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Class {
    /// `short`, `medium`, `long`, or `any`.
    pub length: String,
    /// `easy`, `hard`, or `any`.
    pub difficulty: String,
    /// Items of the validation part.
    pub items: usize,
    /// Fewer than [`ENOUGH`]: the choice is that of all classes.
    pub too_few: bool,
    /// The chosen value.
    pub value: f64,
    /// 2.5 and 97.5 percentiles of the choice over resampled validation items.
    pub value_range: [f64; 2],
    /// No setting was within the tolerance; the most accurate was taken.
    pub none_held: bool,
    /// The choice on the validation part.
    pub validation: Share,
    /// The reference on the validation part.
    pub validation_reference: Share,
    /// The choice on the test part.
    pub test: Share,
    /// The single setting on the test part.
    pub test_single: Share,
    /// The reference on the test part.
    pub test_reference: Share,
    /// Accuracy of the choice minus that of the reference, test part.
    pub difference: Option<Interval>,
}

/// What calibration brings.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Calibration {
    /// The family.
    pub family: String,
    /// Its values, from light to aggressive.
    pub values: Vec<f64>,
    /// The condition that accuracies are compared with.
    pub reference: String,
    /// How far below it accuracy may be.
    pub tolerance: f64,
    /// All classes together: the single setting.
    pub single: Class,
    /// Each class.
    pub classes: Vec<Class>,
    /// Settings per class on the test part.
    pub per_class: Share,
    /// Accuracy per class minus that of the single setting, test part.
    pub difference: Option<Interval>,
    /// Worker tokens that settings per class save of those of the single setting, test part.
    pub saved: Option<Interval>,
    /// How the chosen values differ.
    pub findings: Vec<String>,
}

/// A setting of the family, with its rows.
struct Member<'a> {
    value: f64,
    rows: ByKey<'a>,
    tokens: f64,
}

/// Chooses on the validation part, reports on the test part. `None` where a part has no rows or no family has two
/// members.
///
/// # Errors
/// [`Error::Config`] for a family or reference without rows, a tolerance that is no share, or bootstrap settings out of
/// range.
pub fn calibrate(
    rows: &[AnswerRow],
    asked: Option<&str>,
    rule: &Rule,
    bootstrap: &Bootstrap,
) -> Result<Option<Calibration>> {
    bootstrap.validate()?;
    if !(0.0..=1.0).contains(&rule.tolerance) {
        return Err(Error::config("tolerance", rule.tolerance, "want 0 to 1"));
    }
    let reference = reference(rows, asked)?;
    let Some(name) = chosen_family(rows, rule.family.as_deref())? else { return Ok(None) };
    let both = [Part::Validation, Part::Test];
    if both.iter().any(|part| !rows.iter().any(|r| r.part == *part)) {
        return Ok(None);
    }
    let (_, clusters) = clusters(rows);
    let setting = Setting { reference, bootstrap: bootstrap.clone(), clusters: &clusters };
    let part = |part| rows.iter().filter(|r| r.part == part).collect::<Vec<_>>();
    let (validation, test) = (part(Part::Validation), part(Part::Test));
    let mut members = members(&validation, rows, &name);
    members.sort_by(|a, b| b.tokens.total_cmp(&a.tokens));
    if members.len() < 2 {
        return Ok(None);
    }
    let work = Work { members, validation, test, setting, tolerance: rule.tolerance, name };
    work.done().map(Some)
}

fn chosen_family(rows: &[AnswerRow], asked: Option<&str>) -> Result<Option<String>> {
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    for (name, _) in conditions(rows).into_iter().filter_map(family) {
        *count.entry(name).or_default() += 1;
    }
    match asked {
        Some(name) if count.contains_key(name) => Ok(Some(name.to_owned())),
        Some(name) => Err(Error::config("family", name, "there are no rows of this family")),
        None => {
            let most = count.into_iter().rev().max_by_key(|(name, n)| weight(name, *n));
            Ok(most.filter(|(_, n)| *n > 1).map(|(name, _)| name))
        }
    }
}

fn members<'a>(validation: &[&'a AnswerRow], rows: &'a [AnswerRow], name: &str) -> Vec<Member<'a>> {
    let of_family = conditions(rows).into_iter().filter_map(|c| family(c).map(|f| (c, f)));
    of_family
        .filter(|(_, (family, _))| family == name)
        .map(|(condition, (_, value))| {
            let rows = of(validation, condition);
            let tokens: f64 = rows.values().map(|r| r.worker_tokens() as f64).sum();
            Member { value, tokens: tokens / rows.len().max(1) as f64, rows }
        })
        .filter(|m| !m.rows.is_empty())
        .collect()
}

struct Work<'a> {
    /// From light to aggressive.
    members: Vec<Member<'a>>,
    validation: Vec<&'a AnswerRow>,
    test: Vec<&'a AnswerRow>,
    setting: Setting<'a>,
    tolerance: f64,
    name: String,
}

type Wanted<'b> = &'b dyn Fn(&AnswerRow) -> bool;

fn class_of(row: &AnswerRow) -> (&str, &str) {
    (row.length.as_deref().unwrap_or("any"), row.difficulty.as_deref().unwrap_or("any"))
}

fn within<'a>(rows: &ByKey<'a>, wanted: Wanted<'_>) -> ByKey<'a> {
    rows.iter().filter(|(_, r)| wanted(r)).map(|(k, r)| (*k, *r)).collect()
}

impl<'a> Work<'a> {
    fn done(self) -> Result<Calibration> {
        let (all, _) = self.choose(&self.items(&|_| true));
        let single = self.class(("any", "any"), all, &|_| true)?;
        let mut names: Vec<(&str, &str)> =
            self.validation.iter().map(|r| class_of(r)).collect::<BTreeSet<_>>().into_iter().collect();
        names.sort_by_key(|(length, difficulty)| (place(length), place(difficulty)));
        let mut classes = Vec::new();
        let mut policy: ByKey<'a> = BTreeMap::new();
        let global = self.on_test(all);
        for name in names {
            let class = self.class(name, all, &|r| class_of(r) == name)?;
            let chosen =
                self.members.iter().position(|m| m.value.total_cmp(&class.value).is_eq()).unwrap_or(all);
            policy.extend(within(&self.on_test(chosen), &|r| class_of(r) == name));
            classes.push(class);
        }
        Ok(Calibration {
            values: self.members.iter().map(|m| m.value).collect(),
            reference: self.setting.reference.to_owned(),
            tolerance: self.tolerance,
            per_class: Share::of(&policy),
            difference: self.setting.difference(&policy, &global)?,
            saved: self.setting.reduction(&policy, &global)?,
            findings: findings(&classes, &self.members),
            family: self.name,
            single,
            classes,
        })
    }

    fn on_test(&self, member: usize) -> ByKey<'a> {
        let value = self.members[member].value;
        let own =
            |c: &str| family(c).is_some_and(|(name, v)| name == self.name && v.total_cmp(&value).is_eq());
        let rows = self.test.iter().filter(|r| own(&r.condition));
        rows.map(|r| (r.key(), *r)).collect()
    }

    /// Per item of the validation part: rows, and right answers of the reference and of each member.
    fn items(&self, wanted: Wanted<'_>) -> Vec<Tally> {
        let reference = of(&self.validation, self.setting.reference);
        let mut items: BTreeMap<u64, Tally> = BTreeMap::new();
        for (key, row) in reference.iter().filter(|(_, r)| wanted(r)) {
            let Some(own) = self.members.iter().map(|m| m.rows.get(key)).collect::<Option<Vec<_>>>() else {
                continue;
            };
            let tally = items.entry(self.setting.cluster(row)).or_default();
            tally.n += 1.0;
            tally.reference += f64::from(row.right());
            tally.members.resize(own.len(), 0.0);
            tally.members.iter_mut().zip(own).for_each(|(sum, r)| *sum += f64::from(r.right()));
        }
        items.into_values().collect()
    }

    /// The most aggressive member within the tolerance, else the most accurate one; and whether one was.
    fn choose(&self, items: &[Tally]) -> (usize, bool) {
        let sum = |of: &dyn Fn(&Tally) -> f64| items.iter().map(of).sum::<f64>();
        let (n, reference) = (sum(&|t| t.n), sum(&|t| t.reference));
        let right: Vec<f64> = (0..self.members.len()).map(|m| sum(&|t| t.members[m])).collect();
        let better = |a: &usize, b: &usize| {
            (self.members[*b].tokens.total_cmp(&self.members[*a].tokens))
                .then(right[*a].total_cmp(&right[*b]))
        };
        let floor = reference - self.tolerance * n - 1e-9;
        let held = (0..right.len()).filter(|m| right[*m] >= floor).max_by(better);
        if let Some(member) = held.filter(|_| n > 0.0) {
            return (member, true);
        }
        let best = (0..right.len()).max_by(|a, b| right[*a].total_cmp(&right[*b]).then(better(b, a)));
        (best.unwrap_or(0), false)
    }

    fn class(&self, (length, difficulty): (&str, &str), all: usize, wanted: Wanted<'_>) -> Result<Class> {
        let items = self.items(wanted);
        let seen: BTreeSet<&str> =
            self.validation.iter().filter(|r| wanted(r)).map(|r| r.item.as_str()).collect();
        let (chosen, held) = self.choose(&items);
        let too_few = seen.len() < ENOUGH;
        let chosen = if too_few { all } else { chosen };
        let reference = |rows: &[&'a AnswerRow]| within(&of(rows, self.setting.reference), wanted);
        let test = within(&self.on_test(chosen), wanted);
        let test_reference = reference(&self.test);
        Ok(Class {
            length: length.to_owned(),
            difficulty: difficulty.to_owned(),
            items: seen.len(),
            too_few,
            value: self.members[chosen].value,
            value_range: self.range(&items),
            none_held: !held,
            validation: Share::of(&within(&self.members[chosen].rows, wanted)),
            validation_reference: Share::of(&reference(&self.validation)),
            difference: self.setting.difference(&test, &test_reference)?,
            test: Share::of(&test),
            test_single: Share::of(&within(&self.on_test(all), wanted)),
            test_reference: Share::of(&test_reference),
        })
    }

    /// What would be chosen had other items been drawn.
    fn range(&self, items: &[Tally]) -> [f64; 2] {
        if items.is_empty() {
            let values = self.members.iter().map(|m| m.value);
            return [values.clone().fold(f64::INFINITY, f64::min), values.fold(0.0, f64::max)];
        }
        let mut rng = ChaCha8Rng::seed_from_u64(self.setting.bootstrap.seed);
        let mut drawn: Vec<f64> = (0..DRAWS)
            .map(|_| {
                let draw: Vec<Tally> =
                    items.iter().map(|_| items[rng.random_range(0..items.len())].clone()).collect();
                self.members[self.choose(&draw).0].value
            })
            .collect();
        drawn.sort_by(f64::total_cmp);
        [drawn[DRAWS / 40], drawn[DRAWS - 1 - DRAWS / 40]]
    }
}

/// Right answers on the items of one cluster.
#[derive(Clone, Default)]
struct Tally {
    n: f64,
    reference: f64,
    members: Vec<f64>,
}

/// Neighbouring classes compared: which is compacted more aggressively, and whether the choices' intervals are apart.
fn findings(classes: &[Class], members: &[Member<'_>]) -> Vec<String> {
    let step = |value: f64| members.iter().position(|m| m.value.total_cmp(&value).is_eq()).unwrap_or(0);
    let mut said = Vec::new();
    let lengths: BTreeSet<_> = classes.iter().map(|c| place(&c.length)).collect();
    let step_of = |class: &Class| lengths.iter().position(|l| *l == place(&class.length)).unwrap_or(0);
    let mut compare = |a: &Class, b: &Class, first: String, second: String| {
        if a.too_few || b.too_few {
            said.push(format!("{first} and {second}: too few validation items to choose for each."));
            return;
        }
        let (x, y) = (step(a.value), step(b.value));
        let ends = |c: &Class| {
            let (p, q) = (step(c.value_range[0]), step(c.value_range[1]));
            (p.min(q), p.max(q))
        };
        let ((low_a, high_a), (low_b, high_b)) = (ends(a), ends(b));
        let word = match x.cmp(&y) {
            std::cmp::Ordering::Less => "more aggressive",
            std::cmp::Ordering::Greater => "lighter",
            std::cmp::Ordering::Equal => "the same",
        };
        let sure = if high_a < low_b || high_b < low_a {
            "the ranges do not overlap"
        } else {
            "the ranges overlap, so that the choices are not told apart"
        };
        said.push(format!("{second} against {first}: {word} ({} against {}); {sure}.", b.value, a.value));
    };
    for (i, a) in classes.iter().enumerate() {
        for b in &classes[i + 1..] {
            if a.length == b.length {
                let of = |c: &Class| format!("{} {}", c.difficulty, c.length);
                compare(a, b, of(a), of(b));
            } else if a.difficulty == b.difficulty && step_of(a) + 1 == step_of(b) {
                let of = |c: &Class| format!("{} {}", c.length, c.difficulty);
                compare(a, b, of(a), of(b));
            }
        }
    }
    said
}
