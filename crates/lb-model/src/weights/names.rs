//! What GGUF files call the tensors of the Hugging Face layout, and how they hold them.

/// Outside of the layers.
const TOP: [(&str, &str); 3] =
    [("model.embed_tokens", "token_embd"), ("model.norm", "output_norm"), ("lm_head", "output")];

/// Of layer N, behind `model.layers.N.` and `blk.N.`.
const LAYER: [(&str, &str, Order); 12] = [
    ("input_layernorm", "attn_norm", Order::Same),
    ("post_attention_layernorm", "ffn_norm", Order::Same),
    ("self_attn.q_proj", "attn_q", Order::Queries),
    ("self_attn.k_proj", "attn_k", Order::Keys),
    ("self_attn.v_proj", "attn_v", Order::Same),
    ("self_attn.o_proj", "attn_output", Order::Same),
    ("self_attn.q_norm", "attn_q_norm", Order::Same),
    ("self_attn.k_norm", "attn_k_norm", Order::Same),
    ("mlp.gate", "ffn_gate_inp", Order::Same),
    ("mlp.gate_proj", "ffn_gate", Order::Same),
    ("mlp.up_proj", "ffn_up", Order::Same),
    ("mlp.down_proj", "ffn_down", Order::Same),
];

/// Of an expert, behind `mlp.experts.E.`; the experts of a layer lie in one tensor.
const EXPERT: [(&str, &str); 3] =
    [("gate_proj", "ffn_gate_exps"), ("up_proj", "ffn_up_exps"), ("down_proj", "ffn_down_exps")];

/// The order of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Same,
    /// Of every query head by adjacent rotary pairs, in some families.
    Queries,
    /// Of every key head likewise.
    Keys,
}

/// Where a tensor is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) name: String,
    /// Which of the experts that the tensor holds.
    pub(crate) expert: Option<usize>,
    pub(crate) order: Order,
}

/// The place of a tensor of the Hugging Face layout in a GGUF file.
pub(crate) fn place(name: &str) -> Option<Place> {
    let (stem, kind) = name.rsplit_once('.')?;
    if let Some((_, to)) = TOP.iter().find(|(from, _)| *from == stem) {
        return Some(Place { name: format!("{to}.{kind}"), expert: None, order: Order::Same });
    }
    let (layer, stem) = stem.strip_prefix("model.layers.")?.split_once('.')?;
    let layer: usize = layer.parse().ok()?;
    if let Some((expert, stem)) = stem.strip_prefix("mlp.experts.").and_then(|rest| rest.split_once('.')) {
        let (_, to) = EXPERT.iter().find(|(from, _)| *from == stem)?;
        let expert = Some(expert.parse().ok()?);
        return Some(Place { name: format!("blk.{layer}.{to}.{kind}"), expert, order: Order::Same });
    }
    let (_, to, order) = LAYER.iter().find(|(from, ..)| *from == stem)?;
    Some(Place { name: format!("blk.{layer}.{to}.{kind}"), expert: None, order: *order })
}

#[cfg(test)]
mod tests {
    use super::{Order, place};

    #[test]
    fn names_are_those_of_llama_cpp() {
        let at = |name: &str| place(name).map(|p| (p.name, p.expert, p.order));
        let found = |name: &str, expert, order| Some((name.to_owned(), expert, order));
        assert_eq!(at("model.embed_tokens.weight"), found("token_embd.weight", None, Order::Same));
        assert_eq!(at("lm_head.weight"), found("output.weight", None, Order::Same));
        let query = at("model.layers.12.self_attn.q_proj.bias");
        assert_eq!(query, found("blk.12.attn_q.bias", None, Order::Queries));
        let expert = at("model.layers.3.mlp.experts.17.down_proj.weight");
        assert_eq!(expert, found("blk.3.ffn_down_exps.weight", Some(17), Order::Same));
        assert_eq!(
            at("model.layers.3.mlp.gate.weight"),
            found("blk.3.ffn_gate_inp.weight", None, Order::Same)
        );
        assert_eq!(at("model.layers.x.mlp.gate.weight"), None);
        assert_eq!(at("vision.weight"), None);
    }
}
