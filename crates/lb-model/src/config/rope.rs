//! How rotary embeddings are stretched beyond the positions of the first training.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Fields, check, unsupported};
use crate::Result;

/// A scaling of the rotary frequencies (transformers, `modeling_rope_utils`).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "rope_type")]
#[non_exhaustive]
pub enum RopeScaling {
    /// None: `theta^(-2i/d)`.
    #[default]
    Default,
    /// All frequencies divided by `factor` (position interpolation, arXiv 2306.15595).
    Linear {
        /// Above 0.
        factor: f64,
    },
    /// Low frequencies divided by `factor`, high ones kept, between them interpolated (Llama 3.1).
    Llama3 {
        /// Above 0.
        factor: f64,
        /// Wavelengths above `original_positions / low_freq_factor` are stretched in full.
        low_freq_factor: f64,
        /// Wavelengths below `original_positions / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// Positions of the first training.
        original_positions: usize,
    },
    /// YaRN (arXiv 2309.00071): a ramp over the dimensions, and attention sharpened by a factor.
    Yarn {
        /// Above 0.
        factor: f64,
        /// Dimensions with more turns than this over the original positions are kept; 32.
        beta_fast: f64,
        /// Dimensions with fewer turns than this are stretched in full; 1.
        beta_slow: f64,
        /// What cos and sin are multiplied by.
        attention_factor: f64,
        /// Whether the ends of the ramp are rounded to whole dimensions.
        truncate: bool,
        /// Positions of the first training.
        original_positions: usize,
    },
    /// Each frequency divided by a factor of its own, as GGUF files write Llama 3's scaling.
    Factors {
        /// `head_dim / 2` of them, above 0.
        factors: Vec<f32>,
    },
}

impl RopeScaling {
    /// Positions up to which the scaling was made for, where it says so.
    pub(crate) fn positions(&self) -> Option<usize> {
        match self {
            Self::Yarn { factor, original_positions, .. } => {
                Some((factor * *original_positions as f64).round() as usize)
            }
            _ => None,
        }
    }

    pub(crate) fn validate(&self) -> Result<()> {
        let above =
            |field, value: f64| check(value > 0.0 && value.is_finite(), field, value, "above 0 and finite");
        match *self {
            Self::Default => Ok(()),
            Self::Factors { ref factors } => {
                factors.iter().try_for_each(|&factor| above("rope_scaling.factors", f64::from(factor)))
            }
            Self::Linear { factor } => above("rope_scaling.factor", factor),
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_positions } => {
                above("rope_scaling.factor", factor)?;
                above("rope_scaling.low_freq_factor", low_freq_factor)?;
                let (field, reason) = ("rope_scaling.high_freq_factor", "finite and above low_freq_factor");
                let ordered = high_freq_factor > low_freq_factor && high_freq_factor.is_finite();
                check(ordered, field, high_freq_factor, reason)?;
                original(original_positions)
            }
            Self::Yarn { factor, beta_fast, beta_slow, attention_factor, original_positions, .. } => {
                above("rope_scaling.factor", factor)?;
                above("rope_scaling.beta_slow", beta_slow)?;
                above("rope_scaling.beta_fast", beta_fast)?;
                above("rope_scaling.attention_factor", attention_factor)?;
                original(original_positions)
            }
        }
    }
}

fn original(positions: usize) -> Result<()> {
    let field = "rope_scaling.original_max_position_embeddings";
    check((1..=1 << 40).contains(&positions), field, positions, "at least 1, at most 2^40")
}

/// Theta, and the scaling, from `rope_parameters` (transformers 5), or from top-level `rope_theta` and `rope_scaling`
/// (transformers 4). Takes these fields out of `fields`.
pub(super) fn parse(fields: &mut Fields<'_>, max_positions: usize) -> Result<(f64, RopeScaling)> {
    let top: Option<f64> = fields.optional("rope_theta")?;
    let old: Option<Map<String, Value>> = fields.optional("rope_scaling")?;
    let new: Option<Map<String, Value>> = fields.optional("rope_parameters")?;
    let (prefix, map) = match (old, new) {
        (None, None) => {
            return Ok((top.map_or_else(|| fields.missing("rope_theta"), Ok)?, RopeScaling::Default));
        }
        (Some(map), None) => ("rope_scaling", map),
        (None, Some(map)) => ("rope_parameters", map),
        (Some(map), Some(_)) => {
            return Err(unsupported("rope_scaling", &Value::from(map), "not beside rope_parameters"));
        }
    };
    let mut rope = Fields { map, path: fields.path };
    let Some(theta) = rope.optional("rope_theta")?.or(top) else {
        return fields.missing(&format!("{prefix}.rope_theta"));
    };
    let scaling = scaling(&mut rope, prefix, max_positions)?;
    match rope.map.iter().next() {
        Some((field, value)) => {
            Err(unsupported(&format!("{prefix}.{field}"), value, "no field of this kind of rotary embedding"))
        }
        None => Ok((theta, scaling)),
    }
}

fn scaling(rope: &mut Fields<'_>, prefix: &str, max_positions: usize) -> Result<RopeScaling> {
    let old: Option<String> = rope.optional("type")?;
    let kind = rope.optional::<String>("rope_type")?.or(old).unwrap_or_else(|| "default".to_owned());
    if let Some(partial) = rope.optional::<f64>("partial_rotary_factor")?.filter(|p| (p - 1.0).abs() > 0.0) {
        let field = format!("{prefix}.partial_rotary_factor");
        return Err(unsupported(&field, &Value::from(partial), "only rotation of whole heads"));
    }
    let factor = |rope: &mut Fields<'_>| rope.inner("factor", prefix);
    match kind.as_str() {
        "default" => {
            // Written beside the default kind by some exporters; they say nothing then.
            rope.map.retain(|_, value| !value.is_null());
            rope.map.remove("original_max_position_embeddings");
            Ok(RopeScaling::Default)
        }
        "linear" => Ok(RopeScaling::Linear { factor: factor(rope)? }),
        "llama3" => Ok(RopeScaling::Llama3 {
            factor: factor(rope)?,
            low_freq_factor: rope.inner("low_freq_factor", prefix)?,
            high_freq_factor: rope.inner("high_freq_factor", prefix)?,
            original_positions: rope.inner("original_max_position_embeddings", prefix)?,
        }),
        "yarn" => yarn(rope, max_positions),
        other => {
            let reason = "only default, linear, llama3 and yarn";
            Err(unsupported(&format!("{prefix}.rope_type"), &Value::from(other), reason))
        }
    }
}

fn yarn(rope: &mut Fields<'_>, max_positions: usize) -> Result<RopeScaling> {
    let original_positions = rope.optional("original_max_position_embeddings")?.unwrap_or(max_positions);
    let given: Option<f64> = rope.optional("factor")?;
    let factor = given.unwrap_or(max_positions as f64 / original_positions.max(1) as f64);
    let (mscale, all_dim): (Option<f64>, Option<f64>) =
        (rope.optional("mscale")?, rope.optional("mscale_all_dim")?);
    let sharpening = |by: f64| if factor <= 1.0 { 1.0 } else { 0.1 * by * factor.ln() + 1.0 };
    let computed = match (mscale, all_dim) {
        (Some(a), Some(b)) if a != 0.0 && b != 0.0 => sharpening(a) / sharpening(b),
        _ => sharpening(1.0),
    };
    Ok(RopeScaling::Yarn {
        factor,
        beta_fast: rope.optional("beta_fast")?.unwrap_or(32.0),
        beta_slow: rope.optional("beta_slow")?.unwrap_or(1.0),
        attention_factor: rope.optional("attention_factor")?.unwrap_or(computed),
        truncate: rope.optional("truncate")?.unwrap_or(true),
        original_positions,
    })
}
