//! How what stays is corrected.

use serde::{Deserialize, Serialize};

use super::ensure;
use crate::error::Result;

/// How the key biases β are fitted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum BetaMethod {
    /// β = 0: kept keys stand for themselves only.
    Zero,
    /// Bounded least squares on the attention mass of the full cache, by accelerated projected gradient or for the optimum.
    Nnls {
        /// Steps, 1 to 100 000, or 0 for the bounded optimum whatever rows there are. `None`, the default, takes 4 where heads
        /// have less than 8 rows (queries of all heads of a group) for each slot that they keep on average: few steps from a
        /// shared weight are a regularisation. Of more rows it solves for the bounded optimum, wherever steps would begin. See
        /// `MATHEMATICS.md`.
        #[serde(default)]
        iterations: Option<usize>,
        /// β is at least this, -20 to 0. Default -3.
        lower: f64,
        /// β is at most this, 0 to 20. Default 3.
        upper: f64,
        /// Where the steps begin.
        start: NnlsStart,
        /// What a query counts.
        rows: RowWeighting,
    },
}

/// Where the steps of [`BetaMethod::Nnls`] begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum NnlsStart {
    /// At the best weight that all keys of a head could share.
    #[default]
    Shared,
    /// At β = 0.
    Ones,
    /// At the least squares solution of minimal change from weights of one, clamped to the bounds; where that is worse
    /// than the shared weight, there.
    LeastSquares,
}

/// What a query counts in [`BetaMethod::Nnls`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RowWeighting {
    /// As its mass: ‖Φ w − Z‖², with Z at each query's own shift. Queries that spread their attention count more.
    #[default]
    Mass,
    /// All the same: ‖Φ w / Z − 1‖².
    Relative,
}

/// How the compacted values are obtained.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum ValuesMethod {
    /// The original values of the kept positions.
    Copy,
    /// Ridge towards the original values, stiffer where the task looks.
    Ridge {
        /// Strength relative to the mean diagonal of X Ω⁻¹ Xᵀ, 1e-6 to 1e6, or 0 for the least squares that are nearest to
        /// the originals, which a λ of 1e-6 stands for. Default 1.0.
        lambda: f64,
        /// Exponent p of the importance weights ω = (g / mean g)^p, 0 to 8; 0 is the plain ridge. Default 1.0.
        importance: f64,
    },
    /// The same with λ and p chosen for each layer: of λ = 0.01, 0.1, 1, 10, 100 and p = 0, 1, 2 the pair with the least
    /// leave-one-out error, which a ridge has in closed form (PRESS; Golub, Heath and Wahba, 1979).
    RidgeLeaveOneOut,
    /// Ridge towards zero.
    RidgeToZero {
        /// Strength relative to the mean diagonal of X Xᵀ, 1e-6 to 1e6, or 0 for [`LeastSquares`](Self::LeastSquares).
        lambda: f64,
    },
    /// Ridge towards zero with a vanishing λ, the default of the AM reference, which is meant for thousands of
    /// queries. It overfits a short task prompt; it is here to be compared with.
    LeastSquares,
}

impl Default for BetaMethod {
    fn default() -> Self {
        Self::nnls(None)
    }
}

impl Default for ValuesMethod {
    fn default() -> Self {
        Self::Ridge { lambda: 1.0, importance: 1.0 }
    }
}

impl BetaMethod {
    /// The defaults with this many steps, however many rows there are.
    pub fn steps(iterations: usize) -> Self {
        Self::nnls(Some(iterations))
    }

    /// The defaults, solved for the bounded optimum even of few rows, whose queries it fits better and all others worse.
    pub fn optimum() -> Self {
        Self::nnls(Some(0))
    }

    fn nnls(iterations: Option<usize>) -> Self {
        let (start, rows) = (NnlsStart::default(), RowWeighting::default());
        Self::Nnls { iterations, lower: -3.0, upper: 3.0, start, rows }
    }

    pub(super) fn validate(&self) -> Result<()> {
        let Self::Nnls { iterations, lower, upper, .. } = *self else { return Ok(()) };
        if let Some(iterations) = iterations {
            ensure(iterations <= 100_000, "beta.iterations", iterations, "must be within 0..=100000")?;
        }
        // Bounds that exclude a weight of one could not even leave a key as it is.
        ensure((-20.0..=0.0).contains(&lower), "beta.lower", lower, "must be within -20..=0")?;
        ensure((0.0..=20.0).contains(&upper), "beta.upper", upper, "must be within 0..=20")?;
        ensure(lower < upper, "beta.upper", upper, "must be above beta.lower")
    }
}

impl ValuesMethod {
    pub(super) fn validate(&self) -> Result<()> {
        let strength = |lambda: f64| {
            let holds = lambda == 0.0 || (1e-6..=1e6).contains(&lambda);
            ensure(holds, "values.lambda", lambda, "must be 0 or within 1e-6..=1e6")
        };
        match *self {
            Self::Copy | Self::LeastSquares | Self::RidgeLeaveOneOut => Ok(()),
            Self::RidgeToZero { lambda } => strength(lambda),
            Self::Ridge { lambda, importance } => {
                strength(lambda)?;
                let holds = (0.0..=8.0).contains(&importance);
                ensure(holds, "values.importance", importance, "must be within 0..=8")
            }
        }
    }
}
