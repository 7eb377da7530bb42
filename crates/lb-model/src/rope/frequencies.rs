//! The angle per position of each pair of dimensions, in f32 like transformers, so that angles at far positions round
//! the same way as in training.

use std::f64::consts::TAU;

use crate::{ModelConfig, RopeScaling};

/// Frequencies, `head_dim / 2` of them, and what cos and sin are multiplied by.
pub(super) fn frequencies(config: &ModelConfig) -> (Vec<f32>, f32) {
    let (theta, dim) = (config.rope_theta as f32, config.head_dim as f32);
    let plain = (0..config.head_dim / 2).map(|i| 1.0 / theta.powf(2.0 * i as f32 / dim));
    match &config.rope_scaling {
        RopeScaling::Default => (plain.collect(), 1.0),
        RopeScaling::Linear { factor } => (plain.map(|f| f / *factor as f32).collect(), 1.0),
        RopeScaling::Factors { factors } => (plain.zip(factors).map(|(f, factor)| f / factor).collect(), 1.0),
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_positions } => {
            let stretch = |frequency: f32| {
                let (frequency, factor) = (f64::from(frequency), *factor);
                let turns = *original_positions as f64 * frequency / TAU;
                let keep = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0.0, 1.0);
                ((1.0 - keep) * frequency / factor + keep * frequency) as f32
            };
            (plain.map(stretch).collect(), 1.0)
        }
        RopeScaling::Yarn { factor, attention_factor, .. } => {
            let kept = kept_by_yarn(config);
            let stretch = |(f, keep): (f32, f32)| f / *factor as f32 * (1.0 - keep) + f * keep;
            (plain.zip(kept).map(stretch).collect(), *attention_factor as f32)
        }
    }
}

/// How far each pair of dimensions keeps its frequency: 1 in full, 0 not at all (YaRN, arXiv 2309.00071, section 3.2).
fn kept_by_yarn(config: &ModelConfig) -> Vec<f32> {
    let RopeScaling::Yarn { beta_fast, beta_slow, truncate, original_positions, .. } = &config.rope_scaling
    else {
        return Vec::new();
    };
    let dim = config.head_dim as f64;
    // The dimension that makes this many turns over the original positions.
    let dimension =
        |turns: f64| dim * (*original_positions as f64 / (turns * TAU)).ln() / (2.0 * config.rope_theta.ln());
    let (mut low, mut high) = (dimension(*beta_fast), dimension(*beta_slow));
    if *truncate {
        (low, high) = (low.floor(), high.ceil());
    }
    (low, high) = (low.max(0.0), high.min(dim - 1.0));
    if high - low <= 0.0 {
        high += 0.001;
    }
    let (low, width) = (low as f32, (high - low) as f32);
    (0..config.head_dim / 2).map(|i| 1.0 - ((i as f32 - low) / width).clamp(0.0, 1.0)).collect()
}
