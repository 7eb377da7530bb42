//! Intervals, tests and what it takes to see a difference.
//!
//! [`wilson`] for a share, [`paired_difference`] and [`bootstrap`] for two conditions on the same items, [`mcnemar`] for a
//! test of them, [`variance`] for how much of the noise the orchestrator makes, [`power`] for how many items are enough.

pub mod bootstrap;
pub mod mcnemar;
pub mod power;
pub mod variance;

use serde::{Deserialize, Serialize};

/// 97.5 % quantile of the standard normal distribution.
const Z95: f64 = 1.959_963_984_540_054;

/// Wilson's 95 % interval for a proportion of `right` in `n`; `[0, 1]` for `n = 0`.
///
/// Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22, 1927.
pub fn wilson(right: usize, n: usize) -> [f64; 2] {
    wilson_share(right as f64 / n.max(1) as f64, n)
}

/// The same for a share that was seen in `n`, which need not be a whole number of them.
pub(crate) fn wilson_share(p: f64, n: usize) -> [f64; 2] {
    if n == 0 {
        return [0.0, 1.0];
    }
    let n = n as f64;
    let z2 = Z95 * Z95;
    let centre = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z95 / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    [(centre - half).max(0.0), (centre + half).min(1.0)]
}

/// A share of right answers with its interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Share of right answers; 0 for none.
    pub accuracy: f64,
    /// Wilson's 95 % interval.
    pub ci95: [f64; 2],
    /// Answers.
    pub n: usize,
}

impl Accuracy {
    /// Of answers that are right or wrong.
    pub fn of(answers: impl IntoIterator<Item = bool>) -> Self {
        let (mut right, mut n) = (0, 0);
        for answer in answers {
            right += usize::from(answer);
            n += 1;
        }
        Self { accuracy: right as f64 / (n.max(1) as f64), ci95: wilson(right, n), n }
    }
}

/// The mean; 0 for no values.
pub(crate) fn mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let (sum, n) = values.into_iter().fold((0.0, 0_usize), |(sum, n), value| (sum + value, n + 1));
    sum / n.max(1) as f64
}

/// What has the same key, in the order in which keys first come.
pub(crate) fn grouped<'a, T, K: PartialEq>(
    all: impl IntoIterator<Item = &'a T>,
    key: impl Fn(&'a T) -> K,
) -> Vec<(K, Vec<&'a T>)> {
    let mut groups: Vec<(K, Vec<&T>)> = Vec::new();
    for one in all {
        let key = key(one);
        match groups.iter_mut().find(|(other, _)| *other == key) {
            Some((_, group)) => group.push(one),
            None => groups.push((key, vec![one])),
        }
    }
    groups
}

/// The median; the mean of the two middle values for an even count, 0 for none.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

/// 95 % interval of the difference in accuracy between two conditions on the same items (first minus second), by a
/// normal approximation of the paired differences. `pairs` holds (first right, second right).
///
/// Source: Newcombe, "Improved confidence intervals for the difference between binomial proportions based on paired
/// data", Statistics in Medicine 17, 1998, method 1 (Wald) with Agresti and Min's +1/2 correction (2005).
pub fn paired_difference(pairs: &[(bool, bool)]) -> [f64; 3] {
    let n = pairs.len() as f64 + 2.0;
    let only_first = pairs.iter().filter(|(a, b)| *a && !*b).count() as f64 + 0.5;
    let only_second = pairs.iter().filter(|(a, b)| !*a && *b).count() as f64 + 0.5;
    let difference = (only_first - only_second) / n;
    let variance = (only_first + only_second - (only_first - only_second).powi(2) / n) / (n * n);
    let half = Z95 * variance.sqrt();
    [difference, difference - half, difference + half]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_matches_published_values() {
        // R: binom::binom.confint(81, 263, methods = "wilson"), Newcombe's example: 0.2553 to 0.3662.
        let [low, high] = wilson(81, 263);
        assert!((low - 0.2553).abs() < 5e-5 && (high - 0.3662).abs() < 5e-5, "{low} {high}");
        // Newcombe's second example: 0 of 20 gives 0 to 0.1611.
        let [low, high] = wilson(0, 20);
        assert!(low.abs() < 1e-12 && (high - 0.1611).abs() < 5e-5, "{low} {high}");
        let [low, high] = wilson(0, 0);
        assert!(low.abs() < 1e-12 && (high - 1.0).abs() < 1e-12);
    }

    #[test]
    fn medians_of_odd_even_and_none() {
        assert!((median([3.0, 1.0, 2.0]) - 2.0).abs() < 1e-12);
        assert!((median([4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-12);
        assert!(median([]).abs() < 1e-12);
    }

    #[test]
    fn a_paired_difference_sees_only_discordant_pairs() {
        let mut pairs = vec![(true, true); 90];
        pairs.extend([(true, false); 10]);
        let [d, low, high] = paired_difference(&pairs);
        assert!(d > 0.08 && low > 0.0 && high < 0.2, "{d} {low} {high}");
        let [d, low, high] = paired_difference(&[(true, true), (false, false)]);
        assert!(d.abs() < 1e-12 && low < 0.0 && high > 0.0);
    }
}
