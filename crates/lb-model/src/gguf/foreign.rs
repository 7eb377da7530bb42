//! What other architectures have that is not computed here, in a few words, so that one line says why a file is refused.

/// Beginnings of `general.architecture`, the more special before the more general.
const FOREIGN: [(&[&str], &str); 12] = [
    (&["gemma"], "Gemma has norms of its own, GELU and, in some generations, soft caps and windows"),
    (&["phi"], "Phi has fused projections and long-context rotary factors"),
    (&["qwen3next", "qwen35", "qwen4", "kimi-linear"], "most of its layers are linear attention"),
    (&["qwen2moe"], "Qwen2-MoE has shared experts"),
    (&["qwen2vl", "qwen3vl", "cogvlm", "hunyuan-vl"], "a model of images and text"),
    (&["llama4"], "Llama 4 has chunked attention and shared experts"),
    (&["gpt-oss"], "gpt-oss has attention sinks, windows and weights in MXFP4"),
    (
        &["mamba", "rwkv", "falcon-h1", "jamba", "nemotron_h", "granitehybrid", "lfm2", "plamo2", "arwkv"],
        "layers with a recurrent state have no keys and values to compact",
    ),
    (&["deepseek", "glm-dsa", "minicpm3", "plm"], "latent attention and experts of its own kind"),
    (&["bert", "nomic-bert", "jina-bert", "modern-bert", "neo-bert", "eurobert", "t5encoder"], "an encoder"),
    (&["clip", "mmproj", "wavtokenizer"], "a projector or codec beside a model, not a language model"),
    (&["granite", "minicpm", "cohere", "command-r"], "scales of its own for embeddings, residuals or logits"),
];

/// What is missing, where more can be said than that it is not known.
pub(super) fn missing(architecture: &str) -> Option<&'static str> {
    let row = FOREIGN.iter().find(|(names, _)| names.iter().any(|name| architecture.starts_with(name)));
    row.map(|row| row.1)
}
