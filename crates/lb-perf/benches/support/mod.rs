//! One random checkpoint with layers of Qwen3-0.6B, for both sides of a comparison.

#[allow(dead_code, reason = "not every bench measures them")]
pub(crate) mod cases;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::qwen3::{Config, ModelForCausalLM};
use latent_briefing::model::{Checkpoint, Worker};
use lb_perf::{RandomCheckpoint, Shape, VOCAB};

/// Layers of the checkpoint.
pub(crate) const LAYERS: usize = 4;
/// Positions that it is made for.
const POSITIONS: usize = 1 << 16;
/// The dtypes that are compared.
pub(crate) const DTYPES: [DType; 2] = [DType::F32, DType::BF16];

pub(crate) fn shape() -> Shape {
    Shape { layers: LAYERS, ..Shape::qwen3_0_6b() }
}

pub(crate) fn checkpoint(dtype: DType) -> RandomCheckpoint {
    RandomCheckpoint::write(&shape(), LAYERS, dtype, POSITIONS)
        .expect("the folder of temporary files can be written to")
}

pub(crate) fn ours(checkpoint: &RandomCheckpoint, dtype: DType) -> Worker {
    let checkpoint = Checkpoint::dir(checkpoint.path()).expect("just written");
    checkpoint.load(&Device::Cpu, Some(dtype)).expect("just written")
}

pub(crate) fn candle(checkpoint: &RandomCheckpoint, dtype: DType) -> ModelForCausalLM {
    let json = std::fs::read(checkpoint.path().join("config.json")).expect("just written");
    let config: Config = serde_json::from_slice(&json).expect("has every field");
    let files = [checkpoint.path().join("model.safetensors")];
    #[allow(unsafe_code, reason = "candle maps files through an unsafe function")]
    let weights = unsafe { VarBuilder::from_mmaped_safetensors(&files, dtype, &Device::Cpu) };
    ModelForCausalLM::new(&config, weights.expect("just written")).expect("the same names")
}

pub(crate) fn tokens(count: usize) -> Vec<u32> {
    (0..count).map(|index| (index * 7 % VOCAB) as u32).collect()
}

/// A pass of candle's model over tokens from `position` on.
pub(crate) fn step(model: &mut ModelForCausalLM, tokens: &[u32], position: usize) -> Tensor {
    let input = Tensor::new(tokens, &Device::Cpu).and_then(|tokens| tokens.unsqueeze(0));
    model.forward(&input.expect("a row"), position).expect("within its positions")
}
