//! The scene and its compactions in a file, for other implementations to be compared with.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use lb_am::{Compacted, Compaction};
use lb_io::files::Output;
use serde_json::json;

use super::scene::Scene;
use crate::{Error, Result};

/// Writes a safetensors file, whole or not at all. Per layer `i`:
///
/// | tensor | shape |
/// |---|---|
/// | `keys.i`, `values.i` | `[kv_heads, seq_len, head_dim]` |
/// | `queries.i` | `[kv_heads, n_queries, head_dim]` |
/// | `NAME.kept.i` | `[kv_heads, kept_len]`, i64 |
/// | `NAME.beta.i` | `[kv_heads, kept_len]`, f32 |
/// | `NAME.values.i` | `[kv_heads, kept_len, head_dim]` |
///
/// for each named compaction. `config` is in the metadata, as JSON; the selection is the name's matter.
///
/// # Errors
/// [`Error::Io`] naming the file; [`Error::Tensor`] where heads keep different counts.
pub fn write_tensors(
    path: &Path,
    scene: &Scene,
    compactions: &[(String, &Compacted)],
    config: &Compaction,
) -> Result<()> {
    let about = HashMap::from([("config".to_owned(), json!(config).to_string())]);
    let mut tensors = Vec::new();
    for (index, (layer, queries)) in scene.layers.iter().zip(&scene.queries).enumerate() {
        tensors.push((format!("keys.{index}"), layer.keys.clone()));
        tensors.push((format!("values.{index}"), layer.values.clone()));
        tensors.push((format!("queries.{index}"), queries.clone()));
    }
    for (name, compacted) in compactions {
        for (index, layer) in compacted.layers.iter().enumerate() {
            let heads = layer.keys.dim(0)?;
            let kept: Vec<i64> =
                (0..heads).flat_map(|head| layer.kept.head(head)).map(|slot| i64::from(*slot)).collect();
            let kept = Tensor::from_vec(kept, (heads, layer.kept_len()), &Device::Cpu)?;
            tensors.push((format!("{name}.kept.{index}"), kept));
            tensors.push((format!("{name}.beta.{index}"), layer.bias.clone()));
            tensors.push((format!("{name}.values.{index}"), layer.values.clone()));
        }
    }
    let io = |source| Error::Io { path: path.to_owned(), source };
    let file = Output::create(path).map_err(io)?;
    safetensors::serialize_to_file(tensors, Some(about), file.path())
        .map_err(|error| io(std::io::Error::other(error)))?;
    file.finish().map_err(io)
}
