//! Attention to a window of positions: which layers have one, where a family's may, and the many ways of saying that there
//! is none, where they may not.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Fields, Window, check, unsupported};
use crate::Result;
use crate::config::FamilySpec;

const FULL: &str = "full_attention";
const SLIDING: &str = "sliding_attention";

/// Where windows begin in the families that have a switch, if config.json does not say.
const MAX_WINDOW_LAYERS: usize = 28;

/// Layers that attend to the last positions only (Gemma 3); the others attend to everything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LocalAttention {
    /// Positions that a token sees, its own included.
    pub window: usize,
    /// Base of the rotary frequencies of these layers, which are never stretched.
    pub rope_theta: f64,
    /// By layer, whether it is one of them.
    pub layers: Vec<bool>,
}

impl LocalAttention {
    /// `None` where no layer is one.
    pub(crate) fn new(window: usize, rope_theta: f64, layers: Vec<bool>) -> Option<Self> {
        layers.contains(&true).then_some(Self { window, rope_theta, layers })
    }

    /// All layers but each `every`th.
    pub(crate) fn pattern(every: usize, layers: usize) -> Vec<bool> {
        (1..=layers).map(|number| !number.is_multiple_of(every.max(1))).collect()
    }

    pub(super) fn validate(&self, layers: usize) -> Result<()> {
        let (window, theta) = (self.window, self.rope_theta);
        check((1..=1 << 31).contains(&window), "sliding_window", window, "at least 1, at most 2^31")?;
        check(theta > 0.0 && theta.is_finite(), "rope_local_base_freq", theta, "above 0")?;
        let listed = self.layers.len();
        check(listed == layers, "layer_types", format!("{listed} kinds"), "one for each layer")
    }
}

/// The window and its layers, of a model of `layers` layers in a family that has them.
pub(super) fn local_layers(
    fields: &mut Fields<'_>,
    spec: &FamilySpec,
    every: usize,
    layers: usize,
) -> Result<(usize, Vec<bool>)> {
    let usual = spec.defaults.window.unwrap_or(0);
    let width = fields.map.remove("sliding_window").unwrap_or_else(|| Value::from(usual));
    // Where kinds are listed the pattern is what they were made from.
    let every: usize = fields.take_or("sliding_window_pattern", every)?;
    let Some(types) = fields.said("layer_types") else {
        return Ok((width_of(&width)?, LocalAttention::pattern(every, layers)));
    };
    let kind = |kind: &Value| match kind.as_str() {
        Some(FULL) => Some(false),
        Some(SLIDING) => Some(true),
        _ => None,
    };
    let kinds: Option<Vec<bool>> = types.as_array().and_then(|all| all.iter().map(kind).collect());
    match kinds {
        Some(kinds) if kinds.len() == layers => Ok((width_of(&width)?, kinds)),
        Some(kinds) => {
            let reason = format!("{} kinds for {layers} layers", kinds.len());
            Err(unsupported("layer_types", &types, &reason))
        }
        None => Err(unsupported("layer_types", &types, &kinds_of(&types, &[FULL, SLIDING]))),
    }
}

fn width_of(width: &Value) -> Result<usize> {
    let number = width.as_f64().filter(|width| width.fract() == 0.0 && (1.0..9e15).contains(width));
    let reason = "layers with a window need its width, at least 1";
    number.map(|width| width as usize).ok_or_else(|| unsupported("sliding_window", width, reason))
}

/// Refuses windows that are shorter than the model's `positions`, in each family's own way of writing them.
pub(super) fn require_full_attention(
    fields: &mut Fields<'_>,
    spec: &FamilySpec,
    positions: usize,
    layers: usize,
) -> Result<()> {
    let types = fields.said("layer_types");
    let full = |types: &Value| types.as_array().is_some_and(|all| all.iter().all(|t| t == FULL));
    if let Some(types) = types.as_ref().filter(|types| !full(types)) {
        return Err(unsupported("layer_types", types, &kinds_of(types, &[FULL])));
    }
    let from = fields.take_or("max_window_layers", MAX_WINDOW_LAYERS)?;
    let on = fields.map.remove("use_sliding_window").unwrap_or_default();
    let default = || spec.defaults.window.map_or(Value::Null, Value::from);
    let width = fields.map.remove("sliding_window").unwrap_or_else(default);
    // What is no number is refused where a window is on.
    let short = !width.is_null() && width.as_f64().is_none_or(|width| width < positions as f64);
    match spec.window {
        Window::None if short => {
            fields.no_effect("sliding_window", &width, "this family attends to every position");
        }
        Window::Switch if on != Value::Bool(false) && !on.is_null() && short => {
            let windowed = types.is_none() && (spec.experts || from < layers);
            if windowed {
                let reason =
                    format!("a window of {width} positions is not computed here; {}", way_out(&width));
                return Err(unsupported("use_sliding_window", &on, &reason));
            }
        }
        Window::Width if short => {
            let reason = format!(
                "each token would attend to the last {width} of {positions} positions only, which is not computed here; {}",
                way_out(&width)
            );
            return Err(unsupported("sliding_window", &width, &reason));
        }
        Window::None | Window::Switch | Window::Width | Window::Layers { .. } => {}
    }
    Ok(())
}

/// What a user can do: within its width a window leaves nothing out.
fn way_out(width: &Value) -> String {
    format!("with `max_position_embeddings` = {width} in config.json the model loads, and reads no further")
}

fn kinds_of(types: &Value, known: &[&str]) -> String {
    let mut kinds: Vec<&str> = types.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds.retain(|kind| !known.contains(kind));
    let what = match kinds.as_slice() {
        [] => "a list of kinds of attention was expected".to_owned(),
        kinds => format!("layers of {} are not computed here", kinds.join(" and ")),
    };
    format!("{what}; only {}", known.join(" and "))
}
