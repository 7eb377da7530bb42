//! A naive Qwen3 in f64: plain loops, one token at a time, its own loader, sharing no code with `lb-model`.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use candle_core::{DType, Device};
use lb_am::LayerKv;
use serde_json::Value;

use super::oracle::{Rows, rows2, rows3};

type Vector = Vec<f64>;

/// The model with its weights in f64.
pub struct NaiveModel {
    weights: HashMap<String, Rows>,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    d: usize,
    eps: f64,
    theta: f64,
    tied: bool,
}

/// Keys, values and biases by head and slot; the next token's position.
pub struct NaiveCache {
    layers: Vec<NaiveLayer>,
    /// The next token's position.
    pub position: usize,
}

/// One layer of a cache.
pub struct NaiveLayer {
    keys: Vec<Rows>,
    values: Vec<Rows>,
    bias: Rows,
}

/// What one token gave.
pub struct NaiveStep {
    /// Of the token behind it.
    pub logits: Vector,
    /// `[layer][query head]`, after norm and rotation.
    pub queries: Vec<Rows>,
}

impl NaiveCache {
    /// A cache of these layers, `position` tokens into the text.
    pub fn of(layers: &[LayerKv], position: usize) -> Self {
        let layer = |l: &LayerKv| NaiveLayer {
            keys: rows3(&l.keys),
            values: rows3(&l.values),
            bias: l.bias.as_ref().map_or_else(|| vec![vec![0.0; l.seq_len()]; l.kv_heads()], rows2),
        };
        Self { layers: layers.iter().map(layer).collect(), position }
    }
}

impl NaiveModel {
    /// Reads a checkpoint's folder.
    pub fn load(dir: &Path) -> Self {
        let config: Value = serde_json::from_slice(&fs::read(dir.join("config.json")).unwrap()).unwrap();
        let size = |field: &str| usize::try_from(config[field].as_u64().unwrap()).unwrap();
        let mut weights = HashMap::new();
        for file in fs::read_dir(dir).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|e| e == "safetensors") {
                for (name, tensor) in candle_core::safetensors::load(&path, &Device::Cpu).unwrap() {
                    let tensor = tensor.to_dtype(DType::F64).unwrap();
                    let tensor = if tensor.rank() == 1 { tensor.unsqueeze(0).unwrap() } else { tensor };
                    weights.insert(name, tensor.to_vec2().unwrap());
                }
            }
        }
        Self {
            weights,
            layers: size("num_hidden_layers"),
            heads: size("num_attention_heads"),
            kv_heads: size("num_key_value_heads"),
            d: size("head_dim"),
            eps: config["rms_norm_eps"].as_f64().unwrap(),
            theta: config["rope_parameters"]["rope_theta"].as_f64().unwrap(),
            tied: config["tie_word_embeddings"].as_bool().unwrap(),
        }
    }

    /// A cache before the first token.
    pub fn empty_cache(&self) -> NaiveCache {
        let layer = || NaiveLayer {
            keys: vec![Vec::new(); self.kv_heads],
            values: vec![Vec::new(); self.kv_heads],
            bias: vec![Vec::new(); self.kv_heads],
        };
        NaiveCache { layers: (0..self.layers).map(|_| layer()).collect(), position: 0 }
    }

    /// Reads one token.
    pub fn step(&self, token: u32, cache: &mut NaiveCache) -> NaiveStep {
        let mut x = self.weights["model.embed_tokens.weight"][token as usize].clone();
        let mut queries = Vec::new();
        for index in 0..self.layers {
            let name = |part: &str| format!("model.layers.{index}.{part}.weight");
            let normed = self.norm(&x, &name("input_layernorm"));
            let (attended, q) = self.attention(&normed, index, cache.position, &mut cache.layers[index]);
            queries.push(q);
            add(&mut x, &self.project(&attended, &name("self_attn.o_proj")));
            let normed = self.norm(&x, &name("post_attention_layernorm"));
            let gate = self.project(&normed, &name("mlp.gate_proj"));
            let up = self.project(&normed, &name("mlp.up_proj"));
            let inner: Vector = gate.iter().zip(&up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
            add(&mut x, &self.project(&inner, &name("mlp.down_proj")));
        }
        cache.position += 1;
        let head = if self.tied { "model.embed_tokens.weight" } else { "lm_head.weight" };
        let logits = self.project(&self.norm(&x, "model.norm.weight"), head);
        NaiveStep { logits, queries }
    }

    /// Reads several tokens; the last one's result.
    pub fn read(&self, tokens: &[u32], cache: &mut NaiveCache) -> NaiveStep {
        tokens.iter().map(|&token| self.step(token, cache)).last().unwrap()
    }

    fn attention(&self, x: &Vector, index: usize, position: usize, cache: &mut NaiveLayer) -> (Vector, Rows) {
        let name = |part: &str| format!("model.layers.{index}.self_attn.{part}.weight");
        let split = |x: Vector| -> Rows { x.chunks(self.d).map(<[f64]>::to_vec).collect() };
        let prepare = |heads: Rows, norm: &str| -> Rows {
            heads.iter().map(|h| self.rotate(&self.norm(h, &name(norm)), position)).collect()
        };
        let q = prepare(split(self.project(x, &name("q_proj"))), "q_norm");
        let k = prepare(split(self.project(x, &name("k_proj"))), "k_norm");
        let v = split(self.project(x, &name("v_proj")));
        for (head, (k, v)) in k.into_iter().zip(v).enumerate() {
            cache.keys[head].push(k);
            cache.values[head].push(v);
            cache.bias[head].push(0.0);
        }
        let group = self.heads / self.kv_heads;
        let out = q.iter().enumerate().flat_map(|(h, q)| self.attend(q, cache, h / group)).collect();
        (out, q)
    }

    fn attend(&self, q: &Vector, cache: &NaiveLayer, head: usize) -> Vector {
        let scores: Vector = cache.keys[head]
            .iter()
            .zip(&cache.bias[head])
            .map(|(k, b)| dot(q, k) / (self.d as f64).sqrt() + b)
            .collect();
        let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mass: Vector = scores.iter().map(|s| (s - max).exp()).collect();
        let total: f64 = mass.iter().sum();
        let mut out = vec![0.0; self.d];
        for (p, v) in mass.iter().zip(&cache.values[head]) {
            for (o, v) in out.iter_mut().zip(v) {
                *o += p / total * v;
            }
        }
        out
    }

    fn rotate(&self, x: &Vector, position: usize) -> Vector {
        let half = self.d / 2;
        let mut out = x.clone();
        for i in 0..half {
            let angle = position as f64 / self.theta.powf(2.0 * i as f64 / self.d as f64);
            out[i] = x[i] * angle.cos() - x[i + half] * angle.sin();
            out[i + half] = x[i + half] * angle.cos() + x[i] * angle.sin();
        }
        out
    }

    fn norm(&self, x: &Vector, gain: &str) -> Vector {
        let mean = dot(x, x) / x.len() as f64;
        x.iter().zip(&self.weights[gain][0]).map(|(x, g)| x / (mean + self.eps).sqrt() * g).collect()
    }

    fn project(&self, x: &Vector, name: &str) -> Vector {
        self.weights[name].iter().map(|row| dot(row, x)).collect()
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(x: &mut Vector, y: &[f64]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}
