//! Floating point operations of a compaction.

use lb_am::{BetaMethod, Compaction, ValuesMethod};

/// Rounds of power iteration behind the step of the bias fit, the last reading included.
const POWER_ROUNDS: usize = 13;
/// What [`BetaMethod::Nnls`] does where no steps are given: these of few rows, none from so many for each slot on.
const FEW_STEPS: usize = 4;
const MANY_ROWS: f64 = 8.0;

/// Operations of one (layer, KV head), a multiplication and an addition counted as two.
///
/// Only the sums of products that the algorithm asks for are counted, whatever an implementation does; no exponentials,
/// no maxima, no selection, no error that is only reported. With n queries, S positions, t of them kept, width d:
///
/// | step | operations |
/// |---|---|
/// | logits Q Kᵀ | 2 n S d |
/// | output P V, unless values are copied | 2 n S d |
/// | mass and score of each position | 4 n S |
/// | logits of the kept keys | 2 n t d |
/// | step length and steps of β, two products with Φ each | 4 n t (13 + steps) |
/// | Gram matrix of β instead, of many rows without a number of steps | 2 n t² + 2 n t |
/// | residual Y − X V | 2 n t d |
/// | C2, dual (n < t) | 2 n² t + n³/3 + 2 n² d + 2 n t d |
/// | C2, primal | 2 n t² + 2 n t d + t³/3 + 2 t² d |
pub fn head_flops(config: &Compaction, n: usize, seq_len: usize, kept_len: usize, head_dim: usize) -> f64 {
    let [n, s, t, d] = [n, seq_len, kept_len, head_dim].map(|count| count as f64);
    let with_values = config.values != ValuesMethod::Copy;
    let mut flops = 2.0 * n * s * d + 4.0 * n * s;
    if with_values {
        flops += 2.0 * n * s * d;
    }
    // Where everything is kept there is nothing to fit.
    if kept_len >= seq_len {
        return flops;
    }
    if let BetaMethod::Nnls { iterations, .. } = config.beta {
        flops += match iterations {
            None if n >= MANY_ROWS * t => 2.0 * n * t * t + 2.0 * n * t,
            steps => 4.0 * n * t * (POWER_ROUNDS + steps.unwrap_or(FEW_STEPS)) as f64,
        };
    }
    if config.beta != BetaMethod::Zero || with_values {
        flops += 2.0 * n * t * d;
    }
    if with_values {
        flops += 2.0 * n * t * d;
        flops += if n < t {
            2.0 * n * n * t + n.powi(3) / 3.0 + 2.0 * n * n * d + 2.0 * n * t * d
        } else {
            2.0 * n * t * t + 2.0 * n * t * d + t.powi(3) / 3.0 + 2.0 * t * t * d
        };
    }
    flops
}
