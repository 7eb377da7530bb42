//! What GGUF files call the tensors of the Hugging Face layout, and how they hold them.

use crate::config::FamilySpec;

/// Outside of the layers.
const TOP: [(&str, &str, Stored); 3] = [
    ("model.embed_tokens", "token_embd", Stored::Same),
    ("model.norm", "output_norm", Stored::Gain),
    ("lm_head", "output", Stored::Same),
];

/// Of layer N, behind `model.layers.N.` and `blk.N.`, beside the norms that families call differently.
const LAYER: [(&str, &str, Stored); 10] = [
    ("self_attn.q_proj", "attn_q", Stored::Queries),
    ("self_attn.k_proj", "attn_k", Stored::Keys),
    ("self_attn.v_proj", "attn_v", Stored::Same),
    ("self_attn.o_proj", "attn_output", Stored::Same),
    ("self_attn.q_norm", "attn_q_norm", Stored::Gain),
    ("self_attn.k_norm", "attn_k_norm", Stored::Gain),
    ("mlp.gate", "ffn_gate_inp", Stored::Same),
    ("mlp.gate_proj", "ffn_gate", Stored::Same),
    ("mlp.up_proj", "ffn_up", Stored::Same),
    ("mlp.down_proj", "ffn_down", Stored::Same),
];

/// Of an expert, behind `mlp.experts.E.`; the experts of a layer lie in one tensor.
const EXPERT: [(&str, &str); 3] =
    [("gate_proj", "ffn_gate_exps"), ("up_proj", "ffn_up_exps"), ("down_proj", "ffn_down_exps")];

/// What is stored in place of a tensor of the Hugging Face layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    Same,
    /// Rows of every query head ordered by adjacent rotary pairs, in some families.
    Queries,
    /// Those of every key head likewise.
    Keys,
    /// A norm's weights and what the family adds to them.
    Gain,
}

/// Where a tensor is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) name: String,
    /// Which of the experts that the tensor holds.
    pub(crate) expert: Option<usize>,
    pub(crate) stored: Stored,
}

/// What GGUF files call the norms of a layer.
fn norm(stem: &str, spec: &FamilySpec) -> Option<&'static str> {
    let norms = &spec.layer_norms;
    let names = [
        (Some(norms.before_attention), "attn_norm"),
        (norms.behind_attention, "post_attention_norm"),
        (Some(norms.before_mlp), "ffn_norm"),
        (norms.behind_mlp, "post_ffw_norm"),
    ];
    names.into_iter().find(|(name, _)| *name == Some(stem)).map(|(_, to)| to)
}

/// The place of a tensor of the Hugging Face layout in a GGUF file of this family.
pub(crate) fn place(name: &str, spec: &FamilySpec) -> Option<Place> {
    let (stem, kind) = name.rsplit_once('.')?;
    if let Some((_, to, stored)) = TOP.iter().find(|(from, ..)| *from == stem) {
        return Some(Place { name: format!("{to}.{kind}"), expert: None, stored: *stored });
    }
    let (layer, stem) = stem.strip_prefix("model.layers.")?.split_once('.')?;
    let layer: usize = layer.parse().ok()?;
    if let Some((expert, stem)) = stem.strip_prefix("mlp.experts.").and_then(|rest| rest.split_once('.')) {
        let (_, to) = EXPERT.iter().find(|(from, _)| *from == stem)?;
        let expert = Some(expert.parse().ok()?);
        return Some(Place { name: format!("blk.{layer}.{to}.{kind}"), expert, stored: Stored::Same });
    }
    if let Some(to) = norm(stem, spec) {
        let name = format!("blk.{layer}.{to}.{kind}");
        return Some(Place { name, expert: None, stored: Stored::Gain });
    }
    let (_, to, stored) = LAYER.iter().find(|(from, ..)| *from == stem)?;
    Some(Place { name: format!("blk.{layer}.{to}.{kind}"), expert: None, stored: *stored })
}

#[cfg(test)]
mod tests {
    use super::{Stored, place};
    use crate::Family;

    #[test]
    fn names_are_those_of_llama_cpp() {
        let at = |name: &str| place(name, Family::Llama.spec()).map(|p| (p.name, p.expert, p.stored));
        let found = |name: &str, expert, order| Some((name.to_owned(), expert, order));
        assert_eq!(at("model.embed_tokens.weight"), found("token_embd.weight", None, Stored::Same));
        assert_eq!(at("lm_head.weight"), found("output.weight", None, Stored::Same));
        let query = at("model.layers.12.self_attn.q_proj.bias");
        assert_eq!(query, found("blk.12.attn_q.bias", None, Stored::Queries));
        let expert = at("model.layers.3.mlp.experts.17.down_proj.weight");
        assert_eq!(expert, found("blk.3.ffn_down_exps.weight", Some(17), Stored::Same));
        assert_eq!(
            at("model.layers.3.mlp.gate.weight"),
            found("blk.3.ffn_gate_inp.weight", None, Stored::Same)
        );
        assert_eq!(at("model.layers.x.mlp.gate.weight"), None);
        assert_eq!(at("vision.weight"), None);
    }

    /// One name stands for two norms.
    #[test]
    fn norms_are_those_of_the_family() {
        let name = "model.layers.2.post_attention_layernorm.weight";
        let at = |family: Family| place(name, family.spec()).map(|place| (place.name, place.stored));
        assert_eq!(at(Family::Qwen3), Some(("blk.2.ffn_norm.weight".to_owned(), Stored::Gain)));
        assert_eq!(at(Family::Gemma3), Some(("blk.2.post_attention_norm.weight".to_owned(), Stored::Gain)));
    }
}
