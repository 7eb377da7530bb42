//! Weights that are packed in ways of their own.

use serde_json::Value;

use super::policy::Neutral::Empty;
use super::{Fields, unsupported};
use crate::Result;

/// Refuses them.
pub(super) fn require_plain_weights(fields: &mut Fields<'_>) -> Result<()> {
    for field in ["quantization_config", "quantization", "compression_config"] {
        let Some(value) = fields.said(field).filter(|value| !Empty.is(value)) else { continue };
        let flag = |name: &str| value.get(name).and_then(Value::as_bool);
        // What bitsandbytes leaves in a model that was merged and saved in full.
        if [flag("load_in_4bit"), flag("load_in_8bit")] == [Some(false); 2] {
            continue;
        }
        let method = ["quant_method", "quant_algo", "quantization_method"]
            .iter()
            .find_map(|name| value.get(*name)?.as_str());
        let bits = value.get("bits").or_else(|| value.get("w_bit")).and_then(Value::as_u64);
        let how = match (method, bits) {
            (Some(method), Some(bits)) => format!("packed by {method} to {bits} bits"),
            (Some(method), None) => format!("packed by {method}"),
            (None, Some(bits)) => format!("packed to {bits} bits"),
            (None, None) => "packed".to_owned(),
        };
        let reason = format!(
            "the weights are {how}; read are safetensors in bf16, f16 and f32, and GGUF files: take the model that this one \
             was made of, or a GGUF of it"
        );
        return Err(unsupported(field, &value, &reason));
    }
    Ok(())
}
