//! What settings make of a cache in a safetensors file, with its slots, biases and values, for comparisons with other
//! programs: `tools/peers`.
//!
//! `cargo run --release -p lb-am --example compacted -- CACHE.safetensors GROUP_SIZE JOBS.json OUT_FOLDER`
//!
//! The cache is laid out as for `latent-briefing compact`. A job has a `config`, a [`Compaction`] as JSON, and where slots were
//! chosen by others, `slots` as `[layer][head]`. What comes out of job N is `N.safetensors` with `slots`, `bias` and `values`, and
//! `N.json`, the report.

use std::collections::HashMap;
use std::error::Error;
use std::fs;
use std::path::Path;

use candle_core::{Device, Tensor};
use lb_am::{Compacted, Compaction, Compactor, Kept, LayerKv};
use serde::Deserialize;

#[derive(Deserialize)]
struct Job {
    config: Compaction,
    slots: Option<Vec<Kept>>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [cache, group_size, jobs, out] = arguments.as_slice() else {
        return Err("CACHE.safetensors GROUP_SIZE JOBS.json OUT_FOLDER".into());
    };
    let group_size = group_size.parse()?;
    let tensors = candle_core::safetensors::load(cache, &Device::Cpu)?;
    let caches = layers_of(&tensors, "keys")?.into_iter().zip(layers_of(&tensors, "values")?);
    let caches =
        caches.map(|(keys, values)| LayerKv::new(keys, values, None)).collect::<Result<Vec<_>, _>>()?;
    let queries = layers_of(&tensors, "queries")?;

    let jobs: Vec<Job> = serde_json::from_str(&fs::read_to_string(jobs)?)?;
    for (number, job) in jobs.iter().enumerate() {
        let compactor = Compactor::new(&caches, &queries, &job.config).group_size(group_size);
        let made = match &job.slots {
            Some(kept) => compactor.at(kept).run()?,
            None => compactor.run()?,
        };
        let file = |ending: &str| Path::new(out).join(format!("{number}.{ending}"));
        candle_core::safetensors::save(&tensors_of(&made, caches[0].kv_heads())?, file("safetensors"))?;
        fs::write(file("json"), serde_json::to_string(&made.report)?)?;
    }
    Ok(())
}

/// `slots`, `bias` and `values` of all layers; slots of heads that keep fewer than others end in the largest number.
fn tensors_of(made: &Compacted, heads: usize) -> candle_core::Result<HashMap<String, Tensor>> {
    let longest = made.report.kept_len;
    let mut slots = Vec::new();
    let (mut bias, mut values) = (Vec::new(), Vec::new());
    for layer in &made.layers {
        for head in 0..heads {
            let kept = layer.kept.head(head);
            slots.extend_from_slice(kept);
            slots.resize(slots.len() + longest - kept.len(), u32::MAX);
        }
        let missing = longest - layer.kept_len();
        bias.push(layer.bias.pad_with_zeros(1, 0, missing)?);
        values.push(layer.values.pad_with_zeros(1, 0, missing)?);
    }
    let slots = Tensor::from_vec(slots, (made.layers.len(), heads, longest), &Device::Cpu)?;
    let named =
        [("slots", slots), ("bias", Tensor::stack(&bias, 0)?), ("values", Tensor::stack(&values, 0)?)];
    Ok(named.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect())
}

/// The layers of a tensor.
fn layers_of(tensors: &HashMap<String, Tensor>, name: &str) -> Result<Vec<Tensor>, Box<dyn Error>> {
    let all = tensors.get(name).ok_or_else(|| format!("no tensor {name}"))?;
    Ok((0..all.dim(0)?).map(|layer| all.get(layer)).collect::<candle_core::Result<_>>()?)
}
