//! Every family and kind of rotary embedding against transformers (`tools/golden/make_golden.py`).

use candle_core::{DType, Device, Tensor};
use lb_model::{Checkpoint, Worker};
use serde_json::Value;

use crate::support::checkpoints::{Copy, golden, golden_json, golden_logits, ids};
use crate::support::compare::{distance, flat};

const FAMILIES: [&str; 14] = [
    "gemma3",
    "gemma3_scaled",
    "llama3",
    "llama_bias",
    "llama_linear",
    "mistral",
    "qwen2_tied",
    "qwen2_untied",
    "qwen3_bias",
    "qwen3_moe",
    "qwen3_moe_sparse",
    "qwen3_yarn",
    "qwen3_yarn_explicit",
    "qwen3_yarn_mscale",
];

/// Largest difference in f32, as a part of the range of the logits: what the order of summation makes of it.
const F32: f64 = 1e-5;

/// The same in bf16, weights, cache and, where the machine multiplies bf16, long inputs. transformers, which rounds every
/// intermediate result, is 0.013 to 0.018 away from f32 where the weights are stored in bf16; weights stored in f32 or f16
/// are rounded on top of that.
const BF16: f64 = 0.03;
const STORED_BF16: f64 = 0.015;
const F16: f64 = 0.01;

const GREEDY: usize = 64;

fn load(name: &str, dtype: DType) -> Worker {
    Checkpoint::dir(golden(name)).unwrap().load(&Device::Cpu, Some(dtype)).unwrap()
}

/// Logits at the golden's positions, read in chunks of `chunk`, and the cache behind them.
fn read(worker: &Worker, expected: &Value, chunk: usize) -> (Vec<Vec<f64>>, Tensor, lb_model::KvCache) {
    let (tokens, positions) = (ids(&expected["tokens"]), ids(&expected["logit_positions"]));
    let mut cache = worker.model().new_cache();
    let (mut rows, mut last) = (Vec::new(), None);
    for (start, part) in (0..).step_by(chunk).zip(tokens.chunks(chunk)) {
        let logits = worker.model().forward_all(part, &mut cache).unwrap();
        let inside = |p: &&u32| (start..start + part.len()).contains(&(**p as usize));
        rows.extend(positions.iter().filter(inside).map(|p| flat(&logits.get(*p as usize - start).unwrap())));
        last = Some(logits.get(part.len() - 1).unwrap());
    }
    assert_eq!(rows.len(), positions.len());
    (rows, last.unwrap(), cache)
}

/// Largest difference as a part of the range of the golden logits.
fn difference(rows: &[Vec<f64>], expected: &[Vec<f64>]) -> f64 {
    let all = || expected.iter().flatten().copied();
    let range = all().fold(f64::MIN, f64::max) - all().fold(f64::MAX, f64::min);
    rows.iter().zip(expected).map(|(a, b)| distance(a, b)).fold(0.0, f64::max) / range
}

fn expected_dtype(name: &str) -> String {
    let config: Value =
        serde_json::from_slice(&std::fs::read(golden(name).join("config.json")).unwrap()).unwrap();
    config["dtype"].as_str().unwrap().to_owned()
}

#[test]
fn logits_and_greedy_tokens_are_those_of_transformers() {
    for name in FAMILIES {
        let (worker, expected) = (load(name, DType::F32), golden_json(name));
        let (rows, mut next, mut cache) = read(&worker, &expected, 700);
        let d = difference(&rows, &golden_logits(name));
        assert!(d <= F32, "{name}: {d:.2e} of the range");
        let greedy = ids(&expected["greedy"]);
        assert_eq!(greedy.len(), GREEDY);
        for (step, expected) in greedy.into_iter().enumerate() {
            let token = next.argmax(0).unwrap().to_scalar::<u32>().unwrap();
            assert_eq!(token, expected, "{name}: greedy step {step}");
            next = worker.model().forward(&[token], &mut cache).unwrap();
        }
    }
}

#[test]
fn narrow_weights_and_caches_are_near() {
    for name in FAMILIES {
        let (expected, logits) = (golden_json(name), golden_logits(name));
        for (dtype, bound) in [(DType::BF16, BF16), (DType::F16, F16)] {
            let worker = load(name, dtype);
            let (rows, _, cache) = read(&worker, &expected, 700);
            assert_eq!((cache.dtype(), worker.model().compute_dtype()), (dtype, DType::F32));
            let d = difference(&rows, &logits);
            let stored = expected_dtype(name) == "bfloat16" && dtype == DType::BF16;
            let bound = if stored { STORED_BF16 } else { bound };
            assert!(d <= bound, "{name} in {dtype:?}: {d:.2e} of the range");
        }
    }
}

/// Older and newer layouts of config.json, model cards and exporters: the same logits, to the bit.
#[test]
fn layouts_of_the_configuration_agree() {
    for name in FAMILIES {
        let expected = golden_json(name);
        let tokens: Vec<u32> = ids(&expected["tokens"]).into_iter().take(200).collect();
        let logits = |worker: &Worker| {
            flat(&worker.model().forward(&tokens, &mut worker.model().new_cache()).unwrap())
        };
        let own = logits(&Checkpoint::dir(golden(name)).unwrap().load(&Device::Cpu, None).unwrap());
        let files = expected["same_logits_with"].as_array().unwrap();
        assert!(!files.is_empty(), "{name}");
        for file in files.iter().map(|f| f.as_str().unwrap()) {
            let copy = Copy::of(name);
            std::fs::copy(copy.file(file), copy.file("config.json")).unwrap();
            assert!(logits(&copy.load()) == own, "{name}/{file}");
        }
    }
}

/// YaRN reads on to the original positions times its factor, whatever `max_position_embeddings` says.
#[test]
fn yarn_stretches_the_limit() {
    let worker = load("qwen3_yarn", DType::F32);
    assert_eq!(worker.config().position_limit(), 8192);
    let copy = Copy::of("qwen3_yarn");
    copy.edit_json("config.json", |c| c["max_position_embeddings"] = 2560.into());
    assert_eq!(copy.load().config().position_limit(), 8192);
}
