//! For which orchestrators the loop's texts are written.

use lb_model::{Experts, ModelConfig, Worker};
use serde::{Deserialize, Serialize};

/// Checkpoints of fewer parameters than this get [`PromptProfile::Small`] where nobody chooses.
const SMALL_BELOW: u64 = 5_000_000_000;

/// For which kind of orchestrator the loop's texts are written, and how its replies are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromptProfile {
    /// Everything that the REPL has is described; replies are read strictly: code in fences marked `repl`, every block
    /// of a reply runs.
    #[default]
    Standard,
    /// For models of a few billion parameters: a short system prompt, three worked examples as turns of the conversation,
    /// one step a turn, and notices that say what to write next. Of a reply the first block runs, whatever its fence says,
    /// and what stands behind it is left out of the conversation: it was written without the block's output. An answer is
    /// taken in every form that says clearly that it is one: `FINAL(...)` in code or prose, `answer = ...`, a line that
    /// begins with `Final answer:`.
    Small,
}

impl PromptProfile {
    /// The profile for a checkpoint that orchestrates: [`Small`](Self::Small) below five billion parameters.
    pub fn for_checkpoint(worker: &Worker) -> Self {
        if parameters(worker.config()) < SMALL_BELOW { Self::Small } else { Self::Standard }
    }
}

/// Weights of the projections and of one table of embeddings; what else there is does not change the size.
fn parameters(config: &ModelConfig) -> u64 {
    let [hidden, inner, layers, heads, kv_heads, head_dim, vocab] = [
        config.hidden_size,
        config.intermediate_size,
        config.num_hidden_layers,
        config.num_attention_heads,
        config.num_key_value_heads,
        config.head_dim,
        config.vocab_size,
    ]
    .map(|n| n as u64);
    let attention = hidden * head_dim * 2 * (heads + kv_heads);
    let experts = |experts: &Experts| experts.count as u64 * experts.intermediate_size as u64;
    let mlp = 3 * hidden * config.experts.as_ref().map_or(inner, experts);
    layers * (attention + mlp) + vocab * hidden
}
