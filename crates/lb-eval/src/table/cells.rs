//! Figures as text.

use crate::stats::Accuracy;

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

/// What is retained, with its interval where that says more than the figure.
pub(crate) fn retained(of: Option<(f64, [f64; 2])>) -> String {
    match of {
        Some((retained, [low, high])) if low < high => format!("{retained:.2} ({low:.2} to {high:.2})"),
        Some((retained, _)) => format!("{retained:.2}"),
        None => "none to retain".to_owned(),
    }
}

/// A difference in points with its interval: `-1.0 (-3.0 to +1.0)`.
pub(crate) fn difference(difference: [f64; 3]) -> String {
    let [d, low, high] = difference.map(|x| 100.0 * x);
    format!("{d:+.1} ({low:+.1} to {high:+.1})")
}
