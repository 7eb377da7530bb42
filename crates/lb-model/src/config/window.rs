//! Attention to a window of positions, which is refused, and the many ways of saying that there is none.

use serde_json::Value;

use super::{Fields, Window, unsupported};
use crate::Result;
use crate::config::FamilySpec;

const FULL: &str = "full_attention";

/// Where windows begin in the families that have a switch, if config.json does not say.
const MAX_WINDOW_LAYERS: usize = 28;

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
        return Err(unsupported("layer_types", types, &kinds_of(types)));
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
        Window::None | Window::Switch | Window::Width => {}
    }
    Ok(())
}

/// What a user can do: within its width a window leaves nothing out.
fn way_out(width: &Value) -> String {
    format!("with `max_position_embeddings` = {width} in config.json the model loads, and reads no further")
}

fn kinds_of(types: &Value) -> String {
    let mut kinds: Vec<&str> = types.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds.retain(|kind| *kind != FULL);
    let what = match kinds.as_slice() {
        [] => "a list of kinds of attention was expected".to_owned(),
        kinds => format!("layers of {} are not computed here", kinds.join(" and ")),
    };
    format!("{what}; only {FULL}")
}
