//! How rotary embeddings are stretched beyond the positions of the first training.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::family::ROPE_THETA;
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
/// (transformers 4). Takes these fields out of `fields`. `theta` is the family's where they do not say.
pub(super) fn parse(fields: &mut Fields<'_>, max_positions: usize, theta: f64) -> Result<(f64, RopeScaling)> {
    let theta: f64 = fields.take_or("rope_theta", theta)?;
    let original: Option<usize> = fields.optional("original_max_position_embeddings")?;
    let positions = Positions { max: max_positions, original };
    let mut read = None;
    for prefix in ["rope_parameters", "rope_scaling"] {
        let Some(map) = fields.optional::<Map<String, Value>>(prefix)?.filter(|map| !map.is_empty()) else {
            continue;
        };
        let shown = Value::from(map.clone());
        let mut rope = Fields::new(map, fields.path);
        let found = object(&mut rope, prefix, theta, positions)?;
        fields.warnings.append(&mut rope.warnings);
        if read.replace(found.clone()).is_some_and(|before| before != found) {
            return Err(unsupported(
                prefix,
                &shown,
                "it contradicts rope_parameters, and only one of the two is meant",
            ));
        }
    }
    Ok(read.unwrap_or((theta, RopeScaling::Default)))
}

/// The same of the layers that attend to everything, and theta of those with a window: from `rope_parameters`, an object for
/// each kind of layer (transformers 5), or from `rope_theta`, `rope_scaling` and `rope_local_base_freq` at the top
/// (transformers 4).
pub(super) fn parse_by_kind(
    fields: &mut Fields<'_>,
    max_positions: usize,
    theta: f64,
) -> Result<(f64, RopeScaling, f64)> {
    let mut local: f64 = fields.take_or("rope_local_base_freq", ROPE_THETA)?;
    let prefix = "rope_parameters";
    if let Some(mut kinds) = fields.optional::<Map<String, Value>>(prefix)?.filter(|map| !map.is_empty()) {
        let shown = Value::from(kinds.clone());
        let mut kind = |name: &str| kinds.remove(name).filter(|value| !value.is_null());
        let (full, sliding) = (kind("full_attention"), kind("sliding_attention"));
        if !kinds.is_empty() {
            let reason = "objects for full_attention and sliding_attention were expected";
            return Err(unsupported(prefix, &shown, reason));
        }
        // What was said of all layers is said of these.
        fields.map.extend(full.map(|full| (prefix.to_owned(), full)));
        if let Some(Value::Object(map)) = sliding {
            let mut rope = Fields::new(map, fields.path);
            let positions = Positions { max: max_positions, original: None };
            let name = "rope_parameters.sliding_attention";
            let (theta, scaling) = object(&mut rope, name, local, positions)?;
            fields.warnings.append(&mut rope.warnings);
            if scaling != RopeScaling::Default {
                let reason = "only unscaled rotary embeddings in layers with a window";
                return Err(unsupported(&format!("{name}.rope_type"), &shown["sliding_attention"], reason));
            }
            local = theta;
        }
    }
    let (theta, scaling) = parse(fields, max_positions, theta)?;
    Ok((theta, scaling, local))
}

/// How many positions the model reads, and how many it was trained with first, if that stands outside.
#[derive(Clone, Copy)]
struct Positions {
    max: usize,
    original: Option<usize>,
}

fn object(
    rope: &mut Fields<'_>,
    prefix: &str,
    theta: f64,
    positions: Positions,
) -> Result<(f64, RopeScaling)> {
    let theta = rope.take_or("rope_theta", theta)?;
    let scaling = scaling(rope, prefix, positions)?;
    for (field, value) in std::mem::take(&mut rope.map) {
        let name = format!("{prefix}.{field}");
        match (field.as_str(), &value) {
            // Whether a model was trained on after it was stretched.
            (_, Value::Null) | ("finetuned", _) => {}
            (_, Value::Object(_)) => {
                return Err(unsupported(&name, &value, "only one rotary embedding for all layers"));
            }
            ("mrope_section" | "mrope_interleaved", _) => {
                return Err(unsupported(
                    &name,
                    &value,
                    "rotation by several positions (of pictures) is not computed here",
                ));
            }
            (field, _) if KNOWN.contains(&field) => {
                rope.no_effect(&name, &value, "this kind of rotary embedding has no such field");
            }
            _ => rope.unknown(&name, &value),
        }
    }
    Ok((theta, scaling))
}

/// Fields of one kind or another.
const KNOWN: &[&str] = &[
    "attention_factor",
    "beta_fast",
    "beta_slow",
    "factor",
    "high_freq_factor",
    "low_freq_factor",
    "mscale",
    "mscale_all_dim",
    "truncate",
];

fn scaling(rope: &mut Fields<'_>, prefix: &str, positions: Positions) -> Result<RopeScaling> {
    let old: Option<String> = rope.optional("type")?;
    let kind = rope.optional::<String>("rope_type")?.or(old).unwrap_or_else(|| "default".to_owned());
    if let Some(partial) = rope.optional::<f64>("partial_rotary_factor")?.filter(|p| (p - 1.0).abs() > 0.0) {
        let field = format!("{prefix}.partial_rotary_factor");
        return Err(unsupported(&field, &Value::from(partial), "only rotation of whole heads"));
    }
    let factor = |rope: &mut Fields<'_>| rope.inner("factor", prefix);
    let original: Option<usize> = rope.optional("original_max_position_embeddings")?;
    let original_positions = positions.original.or(original).unwrap_or(positions.max);
    match kind.as_str() {
        "default" => Ok(RopeScaling::Default),
        "linear" => Ok(RopeScaling::Linear { factor: factor(rope)? }),
        "dynamic" => dynamic(rope, prefix),
        "llama3" => Ok(RopeScaling::Llama3 {
            factor: factor(rope)?,
            low_freq_factor: rope.inner("low_freq_factor", prefix)?,
            high_freq_factor: rope.inner("high_freq_factor", prefix)?,
            original_positions,
        }),
        "yarn" => yarn(rope, positions.max, original_positions),
        other => {
            let reason = "only default, linear, dynamic, llama3 and yarn";
            Err(unsupported(&format!("{prefix}.rope_type"), &Value::from(other), reason))
        }
    }
}

/// Dynamic NTK leaves the frequencies alone up to `max_position_embeddings`, and no position beyond is read.
fn dynamic(rope: &mut Fields<'_>, prefix: &str) -> Result<RopeScaling> {
    if let Some(alpha) = rope.said("alpha") {
        return Err(unsupported(
            &format!("{prefix}.alpha"),
            &alpha,
            "frequencies stretched from the start are not computed here",
        ));
    }
    if let Some(factor) = rope.said("factor") {
        let reason = "it stretches positions beyond max_position_embeddings alone, which are not read";
        rope.no_effect(&format!("{prefix}.factor"), &factor, reason);
    }
    Ok(RopeScaling::Default)
}

fn yarn(rope: &mut Fields<'_>, max_positions: usize, original_positions: usize) -> Result<RopeScaling> {
    let given: Option<f64> = rope.optional("factor")?;
    let factor = given.unwrap_or(max_positions as f64 / original_positions.max(1) as f64);
    let (mscale, all_dim): (Option<f64>, Option<f64>) =
        (rope.optional("mscale")?, rope.optional("mscale_all_dim")?);
    let sharpening = |by: f64| if factor <= 1.0 { 1.0 } else { 0.1 * by * factor.ln() + 1.0 };
    let computed = match (mscale, all_dim) {
        (Some(a), Some(b)) if a != 0.0 && b != 0.0 => sharpening(a) / sharpening(b),
        _ => sharpening(1.0),
    };
    // 0 stands for the usual value, as in Python.
    let or = |given: Option<f64>, usual: f64| given.filter(|given| *given != 0.0).unwrap_or(usual);
    Ok(RopeScaling::Yarn {
        factor,
        beta_fast: or(rope.optional("beta_fast")?, 32.0),
        beta_slow: or(rope.optional("beta_slow")?, 1.0),
        attention_factor: rope.optional("attention_factor")?.unwrap_or(computed),
        truncate: rope.optional("truncate")?.unwrap_or(true),
        original_positions,
    })
}
