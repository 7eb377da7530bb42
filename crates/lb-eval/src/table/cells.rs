//! Figures as text.

use crate::stats::Accuracy;
use crate::stats::bootstrap::Interval;

/// A share in percent.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// The ends of an interval of a share, in percent.
pub(crate) fn ends([low, high]: [f64; 2]) -> String {
    format!("{:.1}–{:.1}", 100.0 * low, 100.0 * high)
}

/// A share with its interval, in percent: `84.0 % (80.1–87.2)`.
pub(crate) fn accuracy(of: Accuracy) -> String {
    format!("{} ({})", percent(of.accuracy), ends(of.ci95))
}

/// A difference in points with its interval: `-1.0 (-3.0 to +1.0)`.
pub(crate) fn difference(difference: [f64; 3]) -> String {
    let [d, low, high] = difference.map(|x| 100.0 * x);
    format!("{d:+.1} ({low:+.1} to {high:+.1})")
}

/// A share with its interval, in percent, as reports have it: `84.0 [80.1, 87.2]`.
pub(crate) fn share(value: f64, [low, high]: [f64; 2]) -> String {
    format!("{:.1} [{:.1}, {:.1}]", 100.0 * value, 100.0 * low, 100.0 * high)
}

/// The same of an interval, where there is one.
pub(crate) fn interval(interval: Option<Interval>) -> String {
    interval.map_or_else(dash, |i| share(i.estimate, [i.low, i.high]))
}

/// A difference in points, with its sign, as reports have it.
pub(crate) fn points(interval: Option<Interval>) -> String {
    // Minus zero is zero.
    let p = |v: f64| (1000.0 * v).round() / 10.0 + 0.0;
    interval.map_or_else(dash, |i| format!("{:+.1} [{:+.1}, {:+.1}]", p(i.estimate), p(i.low), p(i.high)))
}

/// Where there is no figure.
pub(crate) fn dash() -> String {
    "–".to_owned()
}

pub(crate) fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && digit != '-' && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
