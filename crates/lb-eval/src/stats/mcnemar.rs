//! McNemar's test: are two conditions right equally often on the same items?

use serde::{Deserialize, Serialize};
use statrs::distribution::{Binomial, Discrete, DiscreteCDF};

/// Items on which two conditions disagree, and how surprising their split is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct McNemar {
    /// Items that only the first has right.
    pub only_first: u64,
    /// Items that only the second has right.
    pub only_second: u64,
    /// Two-sided exact p-value: conditional, conservative.
    pub exact: f64,
    /// Two-sided mid-p value, which keeps the nominal level better; the one to report.
    pub mid_p: f64,
}

/// The test on (first right, second right) of the same items. Without disagreement both values are 1.
///
/// Source: Fagerland, Lydersen and Laake, "The McNemar test for binary matched-pairs data: mid-p and asymptotic are better
/// than exact conditional", BMC Medical Research Methodology 13:91, 2013.
pub fn mcnemar(pairs: impl IntoIterator<Item = (bool, bool)>) -> McNemar {
    let (mut first, mut second) = (0, 0);
    for pair in pairs {
        match pair {
            (true, false) => first += 1,
            (false, true) => second += 1,
            _ => {}
        }
    }
    from_counts(first, second)
}

/// The test on the two counts of disagreement.
pub fn from_counts(only_first: u64, only_second: u64) -> McNemar {
    let n = only_first + only_second;
    let fewer = only_first.min(only_second);
    let (exact, mid_p) = match Binomial::new(0.5, n) {
        Ok(binomial) if n > 0 => {
            let (tail, point) = (binomial.cdf(fewer), binomial.pmf(fewer));
            // Of an even split the point counts in both tails.
            let mid_p = if only_first == only_second { 1.0 - point / 2.0 } else { 2.0 * tail - point };
            ((2.0 * tail).min(1.0), mid_p.clamp(0.0, 1.0))
        }
        _ => (1.0, 1.0),
    };
    McNemar { only_first, only_second, exact, mid_p }
}
