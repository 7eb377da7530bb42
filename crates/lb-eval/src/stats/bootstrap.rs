//! Bootstrap intervals of statistics over clusters.
//!
//! Questions about one log are not independent, so what is drawn with replacement is the log with all its questions.
//! Source: Efron and Tibshirani, *An Introduction to the Bootstrap*, 1993, chapters 13 (percentile) and 14 (BCa).

use std::collections::BTreeMap;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

use crate::{Error, Result};

/// How the ends of an interval are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Percentiles of the resampled statistic.
    Percentile,
    /// Percentiles corrected for bias and for a spread that changes with the value (BCa).
    #[default]
    Bca,
}

/// How to resample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// Resamples, 100 to 1,000,000.
    pub resamples: usize,
    /// Same seed, same interval.
    pub seed: u64,
    /// Coverage, 0.5 to below 1.
    pub level: f64,
    /// How the ends are found.
    pub method: Method,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self { resamples: 10_000, seed: 0, level: 0.95, method: Method::Bca }
    }
}

impl Bootstrap {
    /// # Errors
    /// [`Error::Config`] names the field that is out of range.
    pub fn validate(&self) -> Result<()> {
        if !(100..=1_000_000).contains(&self.resamples) {
            return Err(Error::config("resamples", self.resamples, "want 100 to 1000000"));
        }
        if !(0.5..1.0).contains(&self.level) {
            return Err(Error::config("level", self.level, "want 0.5 to below 1"));
        }
        Ok(())
    }
}

/// A figure and its interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// On the data as they are.
    pub estimate: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Clusters that were drawn from.
    pub clusters: usize,
}

/// One item under two conditions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// What is drawn together: the number of the log, document or episode.
    pub cluster: u64,
    /// Score under the first condition.
    pub first: f64,
    /// Score under the second.
    pub second: f64,
}

impl Pair {
    /// Right or wrong under two conditions.
    pub fn of(cluster: u64, first: bool, second: bool) -> Self {
        Self { cluster, first: f64::from(first), second: f64::from(second) }
    }
}

/// The mean difference (first minus second) over all items, with an interval that resamples clusters.
///
/// # Errors
/// [`Error::Config`] for settings out of range, no pairs, or scores that are not finite.
pub fn paired(pairs: &[Pair], settings: &Bootstrap) -> Result<Interval> {
    let mut clusters: BTreeMap<u64, (f64, f64)> = BTreeMap::new();
    for pair in pairs {
        let difference = pair.first - pair.second;
        if !difference.is_finite() {
            return Err(Error::config("pairs", difference, "want finite scores"));
        }
        let (sum, n) = clusters.entry(pair.cluster).or_default();
        (*sum, *n) = (*sum + difference, *n + 1.0);
    }
    let clusters: Vec<(f64, f64)> = clusters.into_values().collect();
    interval(clusters.len(), settings, |drawn| {
        let (sum, n) = drawn.iter().fold((0.0, 0.0), |(s, n), &i| (s + clusters[i].0, n + clusters[i].1));
        sum / n
    })
}

/// The interval of any statistic over clusters: `statistic` gets the indices of the clusters that were drawn.
///
/// Resamples on which the statistic is not finite are left out. With one cluster, or where every resample gives the same,
/// the interval is the estimate alone.
///
/// # Errors
/// [`Error::Config`] for settings out of range, no clusters, or a statistic that is not finite on the data.
pub fn interval(
    n_clusters: usize,
    settings: &Bootstrap,
    statistic: impl Fn(&[usize]) -> f64,
) -> Result<Interval> {
    settings.validate()?;
    if n_clusters == 0 {
        return Err(Error::config("clusters", 0, "want at least one"));
    }
    let mut all: Vec<usize> = (0..n_clusters).collect();
    let estimate = statistic(&all);
    if !estimate.is_finite() {
        return Err(Error::config("statistic", estimate, "want a finite one"));
    }
    let mut rng = ChaCha8Rng::seed_from_u64(settings.seed);
    let mut values = Vec::with_capacity(settings.resamples);
    for _ in 0..settings.resamples {
        all.fill_with(|| rng.random_range(0..n_clusters));
        values.push(statistic(&all));
    }
    values.retain(|v| v.is_finite());
    values.sort_by(f64::total_cmp);
    let tail = (1.0 - settings.level) / 2.0;
    let (low, high) = match settings.method {
        Method::Percentile => (tail, 1.0 - tail),
        Method::Bca => corrected(estimate, &values, tail, &jackknife(n_clusters, &statistic)),
    };
    let end = |share| quantile(&values, share).unwrap_or(estimate);
    Ok(Interval { estimate, low: end(low), high: end(high), clusters: n_clusters })
}

/// The statistic without each cluster in turn.
fn jackknife(n_clusters: usize, statistic: &impl Fn(&[usize]) -> f64) -> Vec<f64> {
    let left_out = |skip: usize| (0..n_clusters).filter(|i| *i != skip).collect::<Vec<_>>();
    (0..n_clusters).map(|skip| statistic(&left_out(skip))).filter(|v| v.is_finite()).collect()
}

/// The percentiles that BCa takes in the place of `tail` and `1 - tail`.
fn corrected(estimate: f64, values: &[f64], tail: f64, jackknife: &[f64]) -> (f64, f64) {
    let Ok(normal) = Normal::new(0.0, 1.0) else { return (tail, 1.0 - tail) };
    // Ties count half: of a share of few items many resamples give the very estimate.
    let below = values.partition_point(|v| *v < estimate) as f64;
    let equal = values.partition_point(|v| *v <= estimate) as f64 - below;
    let share = (below + equal / 2.0) / values.len() as f64;
    if !(share > 0.0 && share < 1.0) {
        return (tail, 1.0 - tail);
    }
    let bias = normal.inverse_cdf(share);
    let mean = jackknife.iter().sum::<f64>() / jackknife.len().max(1) as f64;
    let (cubes, squares) = jackknife.iter().fold((0.0, 0.0), |(c, s), v| {
        let d = mean - v;
        (c + d * d * d, s + d * d)
    });
    let acceleration = if squares > 0.0 { cubes / (6.0 * squares.powf(1.5)) } else { 0.0 };
    let moved = |tail: f64| {
        let z = bias + normal.inverse_cdf(tail);
        normal.cdf(bias + z / (1.0 - acceleration * z))
    };
    (moved(tail), moved(1.0 - tail))
}

/// A quantile of sorted values, between neighbours where it falls between them.
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let at = share.clamp(0.0, 1.0) * last as f64;
    let (low, weight) = (at.floor() as usize, at.fract());
    Some(sorted[low] * (1.0 - weight) + sorted[(low + 1).min(last)] * weight)
}
