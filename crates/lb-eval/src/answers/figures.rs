//! The figures of one condition on some rows, paired with the reference and with text replay.

use std::collections::{BTreeMap, BTreeSet};

use super::{AnswerRow, Figures, Letters};
use crate::stats::bootstrap::{Bootstrap, Interval, Pair, interval, paired};
use crate::stats::mcnemar::mcnemar;
use crate::stats::{median, paired_difference, wilson_share};
use crate::{Error, Result};

/// The condition that token savings are measured against.
pub(super) const REPLAY: &str = "text-replay";

type Key<'a> = (&'a str, usize);
pub(super) type ByKey<'a> = BTreeMap<Key<'a>, &'a AnswerRow>;

/// Conditions in the order in which they first come.
pub fn conditions(rows: &[AnswerRow]) -> Vec<&str> {
    let mut seen = BTreeSet::new();
    rows.iter().map(|r| r.condition.as_str()).filter(|c| seen.insert(*c)).collect()
}

/// The rows of one condition.
pub(super) fn of<'a>(rows: &[&'a AnswerRow], condition: &str) -> ByKey<'a> {
    rows.iter().filter(|r| r.condition == condition).map(|r| (r.key(), *r)).collect()
}

/// What all figures of a report share.
pub(super) struct Setting<'a> {
    pub(super) reference: &'a str,
    pub(super) bootstrap: Bootstrap,
    /// The cluster of each item.
    pub(super) clusters: &'a BTreeMap<&'a str, u64>,
}

impl Setting<'_> {
    pub(super) fn cluster(&self, row: &AnswerRow) -> u64 {
        self.clusters.get(row.item.as_str()).copied().unwrap_or(row.cluster)
    }

    /// The interval of `statistic`, which gets one value of each drawn row.
    fn over<T: Copy>(
        &self,
        values: &[(u64, T)],
        statistic: impl Fn(&mut dyn Iterator<Item = T>) -> f64,
    ) -> Result<Option<Interval>> {
        let mut clusters: BTreeMap<u64, Vec<T>> = BTreeMap::new();
        for (cluster, value) in values {
            clusters.entry(*cluster).or_default().push(*value);
        }
        let clusters: Vec<Vec<T>> = clusters.into_values().collect();
        let on = |drawn: &[usize]| statistic(&mut drawn.iter().flat_map(|&i| clusters[i].iter().copied()));
        match interval(clusters.len(), &self.bootstrap, on) {
            Ok(interval) => Ok(Some(interval)),
            // No rows, or nothing to divide by.
            Err(Error::Config { field: "clusters" | "statistic", .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Accuracy of `rows` minus that of `others`, on the rows that both have.
    pub(super) fn difference(&self, rows: &ByKey<'_>, others: &ByKey<'_>) -> Result<Option<Interval>> {
        let both = pairs(rows, others);
        let right: Vec<(bool, bool)> = both.iter().map(|(a, b)| (a.right(), b.right())).collect();
        let drawn: Vec<Pair> =
            both.iter().zip(&right).map(|((a, _), (x, y))| Pair::of(self.cluster(a), *x, *y)).collect();
        if drawn.is_empty() {
            return Ok(None);
        }
        let mut interval = paired(&drawn, &self.bootstrap)?;
        if right.iter().all(|(a, b)| a == b) || interval.clusters < 2 {
            // Nothing to draw from is no certainty.
            let [_, low, high] = paired_difference(&right);
            (interval.low, interval.high) = (low, high);
        }
        Ok(Some(interval))
    }

    /// Worker tokens that `rows` save of those of `others`.
    pub(super) fn reduction(&self, rows: &ByKey<'_>, others: &ByKey<'_>) -> Result<Option<Interval>> {
        let tokens: Vec<(u64, (f64, f64))> = pairs(rows, others)
            .iter()
            .map(|(a, b)| (self.cluster(a), (a.worker_tokens() as f64, b.worker_tokens() as f64)))
            .collect();
        self.over(&tokens, |drawn| 1.0 - ratio(drawn))
    }
}

/// Rows that both have.
pub(super) fn pairs<'a>(rows: &ByKey<'a>, others: &ByKey<'a>) -> Vec<(&'a AnswerRow, &'a AnswerRow)> {
    rows.iter().filter_map(|(key, row)| others.get(key).map(|other| (*row, *other))).collect()
}

fn ratio(values: &mut dyn Iterator<Item = (f64, f64)>) -> f64 {
    let (above, below) = values.fold((0.0, 0.0), |(a, b), (x, y)| (a + x, b + y));
    above / below
}

fn mean(values: &mut dyn Iterator<Item = f64>) -> f64 {
    let (sum, n) = values.fold((0.0, 0.0), |(s, n), v| (s + v, n + 1.0));
    sum / n
}

fn total(row: &AnswerRow) -> f64 {
    row.worker_tokens().saturating_add(row.orchestrator.total()) as f64
}

/// Right answers, and the share with its interval over items.
pub(super) fn accuracy(rows: &ByKey<'_>) -> (usize, usize, f64, [f64; 2]) {
    let right = rows.values().filter(|r| r.right()).count();
    let items = rows.keys().map(|(item, _)| *item).collect::<BTreeSet<_>>().len();
    let share = if rows.is_empty() { 0.0 } else { right as f64 / rows.len() as f64 };
    (right, items, share, wilson_share(share, items))
}

/// The figures of `condition` on `rows`.
pub(super) fn figures(rows: &[&AnswerRow], condition: &str, setting: &Setting<'_>) -> Result<Figures> {
    let own = of(rows, condition);
    let (reference, replay) = (of(rows, setting.reference), of(rows, REPLAY));
    let (right, items, share, accuracy_ci) = accuracy(&own);
    let with_reference = pairs(&own, &reference);
    let compared = condition != setting.reference && !with_reference.is_empty();
    let values = |of: fn(&AnswerRow) -> f64| -> Vec<(u64, f64)> {
        own.values().map(|r| (setting.cluster(r), of(r))).collect()
    };
    let against = |of: fn(&AnswerRow, &AnswerRow) -> (f64, f64)| -> Vec<(u64, (f64, f64))> {
        pairs(&own, &replay).iter().map(|(a, b)| (setting.cluster(a), of(a, b))).collect()
    };
    let saved: Vec<(u64, f64)> = pairs(&own, &replay)
        .iter()
        .filter(|(a, b)| a.length.as_deref() == Some("medium") && total(b) > 0.0)
        .map(|(a, b)| (setting.cluster(a), 1.0 - total(a) / total(b)))
        .collect();
    let kept: Vec<(u64, f64)> =
        own.values().filter_map(|r| r.keep_ratio.map(|k| (setting.cluster(r), k))).collect();
    let correct: Vec<(u64, (f64, f64))> = with_reference
        .iter()
        .map(|(a, b)| (setting.cluster(a), (f64::from(a.right()), f64::from(b.right()))))
        .collect();
    let saves = condition != REPLAY;
    Ok(Figures {
        condition: condition.to_owned(),
        n: own.len(),
        items,
        right,
        failures: own.values().filter(|r| r.failure.is_some()).count(),
        accuracy: share,
        accuracy_ci,
        difference: if compared { setting.difference(&own, &reference)? } else { None },
        mcnemar: compared.then(|| mcnemar(with_reference.iter().map(|(a, b)| (a.right(), b.right())))),
        pairs: with_reference.len(),
        retention: if compared { setting.over(&correct, ratio)? } else { None },
        worker_median: median(own.values().map(|r| r.worker_tokens() as f64)),
        worker_mean: setting.over(&values(|r| r.worker_tokens() as f64), mean)?.unwrap_or(NOTHING),
        reduction: if saves { setting.reduction(&own, &replay)? } else { None },
        orchestrator_mean: average(own.values().map(|r| r.orchestrator.total() as f64)),
        total_mean: average(own.values().map(|r| total(r))),
        medium: saved.len(),
        medium_savings: if saves { setting.over(&saved, |drawn| median(drawn))? } else { None },
        overhead: if saves { setting.over(&against(|a, b| (a.brief_s, b.prefill_s)), ratio)? } else { None },
        brief_s: median(own.values().map(|r| r.brief_s)),
        keep_ratio: setting.over(&kept, |drawn| median(drawn))?,
        letters: if compared { letters(&with_reference, setting)? } else { None },
    })
}

fn letters(pairs: &[(&AnswerRow, &AnswerRow)], setting: &Setting<'_>) -> Result<Option<Letters>> {
    let (mut agree, mut kls, mut mass, mut items) = (Vec::new(), Vec::new(), Vec::new(), BTreeSet::new());
    for (row, reference) in pairs {
        if let Some((same, kl)) = row.letters_against(reference) {
            agree.push(same);
            kls.push((setting.cluster(row), kl));
            mass.extend(row.letters.as_ref().map(|own| own.mass));
            items.insert(row.item.as_str());
        }
    }
    let agreement = average(agree.iter().copied());
    let kl = setting.over(&kls, mean)?;
    Ok(kl.map(|kl| Letters {
        pairs: agree.len(),
        agreement,
        agreement_ci: wilson_share(agreement, items.len()),
        kl,
        mass: average(mass.into_iter()),
    }))
}

const NOTHING: Interval = Interval { estimate: 0.0, low: 0.0, high: 0.0, clusters: 0 };

fn average(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len().max(1) as f64;
    values.sum::<f64>() / n
}
