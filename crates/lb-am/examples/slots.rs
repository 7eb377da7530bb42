//! The slots that settings keep of a cache in a safetensors file, for comparisons with other programs: `tools/peers`.
//!
//! `cargo run --release -p lb-am --example slots -- CACHE.safetensors GROUP_SIZE SETTINGS.json OUT.json`
//!
//! The cache is laid out as for `latent-briefing compact`; beside `keys`, `values` and `queries` there may be `context` and
//! `repeat`, the queries of the context's own prefill and of its repetition. The settings are a list of [`Compaction`] as
//! JSON, and what comes out is a list likewise, each with the slots `[layer][head]`.

use std::collections::HashMap;
use std::error::Error;
use std::fs;

use candle_core::{Device, Tensor};
use lb_am::{Compaction, Compactor, LayerKv};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [cache, group_size, settings, out] = arguments.as_slice() else {
        return Err("CACHE.safetensors GROUP_SIZE SETTINGS.json OUT.json".into());
    };
    let tensors = candle_core::safetensors::load(cache, &Device::Cpu)?;
    let (keys, values) = (layers_of(&tensors, "keys")?, layers_of(&tensors, "values")?);
    let caches = keys.into_iter().zip(values).map(|(keys, values)| LayerKv::new(keys, values, None));
    let caches = caches.collect::<Result<Vec<_>, _>>()?;
    let (queries, context) = (layers_of(&tensors, "queries")?, layers_of(&tensors, "context")?);
    let repeat = layers_of(&tensors, "repeat")?;

    let settings: Vec<Compaction> = serde_json::from_str(&fs::read_to_string(settings)?)?;
    let mut all: Vec<Vec<Vec<Vec<u32>>>> = Vec::with_capacity(settings.len());
    for config in &settings {
        let compactor = Compactor::new(&caches, &queries, config).group_size(group_size.parse()?);
        let selected = compactor.context(&context).repeat(&repeat).select()?;
        let of_layer = |(kept, layer): (&lb_am::Kept, &LayerKv)| {
            (0..layer.kv_heads()).map(|head| kept.head(head).to_vec()).collect()
        };
        all.push(selected.kept.iter().zip(&caches).map(of_layer).collect());
    }
    fs::write(out, serde_json::to_string(&all)?)?;
    Ok(())
}

/// The layers of a tensor; none where it is missing.
fn layers_of(tensors: &HashMap<String, Tensor>, name: &str) -> candle_core::Result<Vec<Tensor>> {
    let Some(all) = tensors.get(name) else { return Ok(Vec::new()) };
    (0..all.dim(0)?).map(|layer| all.get(layer)).collect()
}
