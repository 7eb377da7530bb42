//! How the fits went, and what both ways of computing them have in common.

use serde::{Deserialize, Serialize};

use crate::config::ValuesMethod;

/// λ of [`ValuesMethod::LeastSquares`](crate::ValuesMethod::LeastSquares), relative like any other.
const LEAST_SQUARES_LAMBDA: f64 = 1e-6;
/// Below this λ products are taken in f64: what holds the weak directions of a system would be the rounding of f32.
pub(crate) const EXACT_BELOW: f64 = 1e-3;
/// Steps of a bias fit of few rows, where none are given.
const FEW_STEPS: usize = 4;
/// Rows for each kept slot from which on such a fit is solved for its optimum: about where the optimum is no longer worse than
/// the steps on rows that were not fitted, see `MATHEMATICS.md`.
const MANY_ROWS: usize = 8;
/// Importance weights stay within this range.
const OMEGA: (f64, f64) = (1e-2, 1e2);

/// How the bias fit went, over all layers that were compacted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BetaFit {
    /// Steps of projected gradient that were taken; 0 where the weights were solved for their optimum.
    pub iterations: usize,
    /// ‖Φ_kept 1 − Z‖ / ‖Z‖: the share of the attention mass that is missing with β = 0.
    pub mass_error_before: f64,
    /// ‖Φ_kept w − Z‖ / ‖Z‖ with the fitted w = exp β, before β is rounded to the cache dtype.
    pub mass_error_after: f64,
    /// Weights that ended at a bound.
    pub clamped: usize,
}

/// Sums over heads behind a [`BetaFit`].
#[derive(Clone, Copy, Debug, Default)]
pub struct BetaSums {
    before: f64,
    after: f64,
    mass: f64,
    clamped: usize,
    iterations: usize,
}

/// Squared norms of the bias fit of one head, or of several.
#[derive(Clone, Copy, Debug, Default)]
pub struct BetaPart {
    /// ‖Φ_kept 1 − Z‖².
    pub before: f64,
    /// ‖Φ_kept w − Z‖² with the fitted weights.
    pub after: f64,
    /// ‖Z‖².
    pub mass: f64,
    /// Weights that ended at a bound, of keys that take any mass.
    pub clamped: usize,
}

impl BetaSums {
    /// Counts heads in that took so many steps, 0 where they were solved for the optimum.
    pub fn add(&mut self, part: &BetaPart, iterations: usize) {
        self.before += part.before;
        self.after += part.after;
        self.mass += part.mass;
        self.clamped += part.clamped;
        self.iterations = iterations;
    }

    pub(crate) fn report(self) -> BetaFit {
        let relative = |error: f64| if self.mass > 0.0 { (error / self.mass).sqrt() } else { 0.0 };
        BetaFit {
            iterations: self.iterations,
            mass_error_before: relative(self.before),
            mass_error_after: relative(self.after),
            clamped: self.clamped,
        }
    }
}

/// How the value fit went, over all layers that were compacted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ValuesFit {
    /// ‖X V_kept − Y‖ / ‖Y‖ on the fitted queries, with the values copied and the biases fitted.
    pub output_error_before: f64,
    /// ‖X C2 − Y‖ / ‖Y‖ on the fitted queries, up to the rounding of C2 to the cache dtype. How it does on other queries is
    /// another matter.
    pub output_error_after: f64,
    /// λ relative to the mean diagonal of X Ω⁻¹ Xᵀ; where layers chose their own, the geometric mean.
    pub lambda: f64,
    /// Exponent p of the importance weights; where layers chose their own, the mean.
    pub importance: f64,
    /// ‖errors‖ / ‖Y‖ with each query left out of the fit in turn, where that was what λ and p were chosen by. Query
    /// heads of a group that read the same token are left out apart.
    pub left_out_error: Option<f64>,
    /// The largest diagonal jitter that a factorisation needed, relative to the mean diagonal; 0 as a rule.
    pub jitter: f64,
}

/// Sums over layers behind a [`ValuesFit`].
#[derive(Clone, Copy, Debug, Default)]
pub struct ValuesSums {
    layers: f64,
    before: f64,
    after: f64,
    output: f64,
    log_lambda: f64,
    importance: f64,
    left_out: Option<f64>,
    jitter: f64,
}

/// Squared norms of the value fit of one head, or of several.
#[derive(Clone, Copy, Debug, Default)]
pub struct ValuesPart {
    /// ‖X V_kept − Y‖² with the values as they were.
    pub before: f64,
    /// ‖X C2 − Y‖².
    pub after: f64,
    /// ‖Y‖².
    pub output: f64,
    /// The jitter that a factorisation needed, relative to the mean diagonal.
    pub jitter: f64,
}

impl ValuesSums {
    /// Counts the heads of one layer in, all fitted with the same λ and exponent.
    pub fn add_layer(&mut self, heads: &[ValuesPart], lambda: f64, exponent: f64) {
        for part in heads {
            self.before += part.before;
            self.after += part.after;
            self.output += part.output;
            self.jitter = self.jitter.max(part.jitter);
        }
        self.layers += 1.0;
        self.log_lambda += lambda.ln();
        self.importance += exponent;
    }

    /// Adds the squared error of a layer with each query left out in turn.
    pub fn add_left_out(&mut self, error: f64) {
        self.left_out = Some(self.left_out.unwrap_or(0.0) + error);
    }

    pub(crate) fn report(self) -> ValuesFit {
        let relative =
            |error: f64| if self.output > 0.0 { (error / self.output).sqrt() } else { error.sqrt() };
        let layers = self.layers.max(1.0);
        ValuesFit {
            output_error_before: relative(self.before),
            output_error_after: relative(self.after),
            lambda: (self.log_lambda / layers).exp(),
            importance: self.importance / layers,
            left_out_error: self.left_out.map(relative),
            jitter: self.jitter,
        }
    }
}

/// What holds fitted values where they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pull {
    /// Relative to the mean diagonal of X Ω⁻¹ Xᵀ.
    pub(crate) lambda: f64,
    /// Of the importance weights.
    pub(crate) exponent: f64,
    /// To the original values, or to zero.
    pub(crate) to_original: bool,
}

impl Pull {
    /// Of a method that does not choose for itself.
    pub(crate) fn of(method: ValuesMethod) -> Option<Self> {
        let (lambda, exponent, to_original) = match method {
            ValuesMethod::Ridge { lambda, importance } => (lambda, importance, true),
            ValuesMethod::RidgeToZero { lambda } => (lambda, 0.0, false),
            ValuesMethod::LeastSquares => (LEAST_SQUARES_LAMBDA, 0.0, false),
            ValuesMethod::Copy | ValuesMethod::RidgeLeaveOneOut => return None,
        };
        // 0 is the limit that a vanishing λ stands for.
        Some(Self { lambda: lambda.max(LEAST_SQUARES_LAMBDA), exponent, to_original })
    }
}

/// How many steps a bias fit takes of heads that have so many `rows` and `slots` together; none where it is solved for the
/// optimum.
pub(crate) fn steps_of(iterations: Option<usize>, rows: usize, slots: usize) -> Option<usize> {
    let usual = are_few(rows, slots).then_some(FEW_STEPS);
    iterations.map_or(usual, |steps| (steps > 0).then_some(steps))
}

/// Whether there are too few rows for an optimum to be no worse than a few steps on others.
pub(crate) fn are_few(rows: usize, slots: usize) -> bool {
    rows < MANY_ROWS * slots
}

/// ω_j = (g_j / mean g)^p over the kept positions of a list, clamped, and 1 for padding up to `t`.
pub(crate) fn omega_of(importance: &[f32], exponent: f64, t: usize) -> Vec<f64> {
    let mean = importance.iter().map(|g| f64::from(*g)).sum::<f64>() / importance.len() as f64;
    let weight = |g: f32| (f64::from(g) / mean).powf(exponent).clamp(OMEGA.0, OMEGA.1);
    let mut weights: Vec<f64> =
        importance.iter().map(|g| if mean > 0.0 { weight(*g) } else { 1.0 }).collect();
    weights.resize(t, 1.0);
    weights
}
