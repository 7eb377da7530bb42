//! Figures as text, as reports have them.

use crate::stats::bootstrap::Interval;

/// A share with its interval, in percent: `84.0 [80.1, 87.2]`.
pub(super) fn share(value: f64, [low, high]: [f64; 2]) -> String {
    format!("{:.1} [{:.1}, {:.1}]", 100.0 * value, 100.0 * low, 100.0 * high)
}

/// The same of an interval, where there is one.
pub(super) fn interval(interval: Option<Interval>) -> String {
    interval.map_or_else(dash, |i| share(i.estimate, [i.low, i.high]))
}

/// A difference in points, with its sign.
pub(super) fn points(interval: Option<Interval>) -> String {
    // Minus zero is zero.
    let p = |v: f64| (1000.0 * v).round() / 10.0 + 0.0;
    interval.map_or_else(dash, |i| format!("{:+.1} [{:+.1}, {:+.1}]", p(i.estimate), p(i.low), p(i.high)))
}

/// Where there is no figure.
pub(super) fn dash() -> String {
    "–".to_owned()
}

pub(super) fn thousands(value: f64) -> String {
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
