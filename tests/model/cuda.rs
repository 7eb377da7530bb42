//! On an NVIDIA GPU: `cargo test --release -p lb-tests --features cuda -- --ignored model::cuda`, and with `flash-attn` for the
//! fused kernels.

use candle_core::{DType, Device, Tensor};
use lb_am::LayerKv;
use lb_model::{Checkpoint, DeviceChoice, PrefillOptions, Worker};

use crate::support::checkpoints::{golden, prompt};
use crate::support::compare::{distance, flat};

const FAMILIES: [&str; 6] = ["llama3", "mistral", "qwen2_untied", "qwen3_bias", "qwen3_moe", "tiny_tied"];

/// Largest differences to the CPU in f32, as parts of the range of the logits.
const F32: f64 = 1e-4;
const BF16: f64 = 0.03;

fn load(name: &str, device: &Device, dtype: DType) -> Worker {
    Checkpoint::dir(golden(name)).unwrap().load(device, Some(dtype)).unwrap()
}

fn difference(got: &Tensor, expected: &Tensor) -> f64 {
    let expected = flat(expected);
    let range =
        expected.iter().fold(f64::MIN, |a, b| a.max(*b)) - expected.iter().fold(f64::MAX, |a, b| a.min(*b));
    distance(&flat(&got.to_device(&Device::Cpu).unwrap()), &expected) / range
}

/// Logits behind a prompt, and behind the same with a bias on every cached key.
fn logits(worker: &Worker, tokens: &[u32]) -> [Tensor; 2] {
    let (model, (context, task)) = (worker.model(), tokens.split_at(tokens.len() - 12));
    let mut full = model.new_cache();
    model.prefill(context, &mut full, &PrefillOptions { chunk: 32 }, &mut |_, _| {}).unwrap();
    let shape = (worker.config().num_key_value_heads, context.len());
    let bias: Vec<f32> = (0..shape.0 * shape.1).map(|i| (i * 37 % 101) as f32 / 25.0 - 2.0).collect();
    let bias = Tensor::from_vec(bias, shape, model.device()).unwrap();
    let with_bias = |layer: LayerKv| LayerKv { bias: Some(bias.clone()), ..layer };
    let layers: Vec<LayerKv> = full.layers().unwrap().into_iter().map(with_bias).collect();
    let mut biased = model.new_cache();
    biased.append_layers(&layers, context.len()).unwrap();
    [full, biased].map(|mut cache| model.forward(task, &mut cache).unwrap())
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn logits_are_those_of_the_cpu() {
    let gpu = DeviceChoice::Cuda(0).open().unwrap();
    for name in FAMILIES {
        let tokens = prompt(name);
        let expected = logits(&load(name, &Device::Cpu, DType::F32), &tokens);
        assert!(difference(&expected[1], &expected[0]) > 0.05, "{name}: biases that matter");
        for (dtype, bound) in [(DType::F32, F32), (DType::BF16, BF16)] {
            let got = logits(&load(name, &gpu, dtype), &tokens);
            for (what, (got, expected)) in ["plain", "biased"].iter().zip(got.iter().zip(&expected)) {
                let d = difference(got, expected);
                assert!(d <= bound, "{name}, {what}, {dtype:?}: {d:.2e} of the range");
            }
        }
    }
}
