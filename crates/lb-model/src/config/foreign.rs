//! Models of other architectures: which family a checkpoint belongs to, and what would be missing for one that is not read.

use serde_json::{Map, Value};

use super::{FAMILIES, FamilySpec, Fields, unsupported};
use crate::Result;

const PICTURES: &str =
    "a model of text with pictures or sound, whose encoders and positions are missing here";
const HYBRID: &str = "a hybrid: most layers are linear attention (Gated DeltaNet) with a state instead of keys and values, which \
                      is neither computed nor briefed here";
const STATE: &str = "layers of state spaces instead of attention, which are missing here";
const LATENT: &str = "latent attention (MLA) and experts in groups, which are missing here";
const LEARNED: &str = "learned positions, LayerNorm and joined projections, which are missing here";
const PARTIAL: &str = "heads that are rotated in part and LayerNorm, which are missing here";
const JOINED: &str = "joined projections under names of its own, which are missing here";
const NORMS: &str = "norms in other places, which are missing here";
const MIXTURE: &str = "a mixture of experts of its own, which is missing here";
const ENCODER: &str = "an encoder, which does not write text";

/// Beginnings of `model_type` and of a GGUF file's architecture, which has the same names with other signs between their
/// parts; the first that fits counts. Beside them, what such models have.
const FOREIGN: &[(&str, &str)] = &[
    ("gemma3n", "inputs of every layer's own and layers that share keys and values, which are missing here"),
    ("gemma2", "soft-capped scores and logits, which are not computed here"),
    (
        "gemma3",
        "a model of text with pictures, whose encoder is missing here; gemma3_text, the same without it, is read",
    ),
    ("gemma4", "heads of two widths and layers that share keys and values, which are missing here"),
    ("gemma_embedding", ENCODER),
    ("gemma", "Gemma 1, whose norms lie in other places than Gemma 3's; only the latter is read"),
    ("paligemma", PICTURES),
    ("phi4_multimodal", PICTURES),
    ("phi3_v", PICTURES),
    ("phi4mm", PICTURES),
    ("phimoe", MIXTURE),
    ("phi3", "joined projections, heads that are rotated in part and LongRoPE, which are missing here"),
    ("phi", PARTIAL),
    ("qwen3_5", HYBRID),
    ("qwen3_6", HYBRID),
    ("qwen3_next", HYBRID),
    ("qwen2_moe", "experts that every token goes to beside the chosen ones, which are missing here"),
    ("qwen2_", PICTURES),
    ("qwen3_", PICTURES),
    ("qwen", JOINED),
    ("kimi_linear", HYBRID),
    ("minimax", "layers of linear attention, which are missing here"),
    ("deepseek_vl", PICTURES),
    ("deepseek", LATENT),
    ("kimi", LATENT),
    ("longcat", LATENT),
    ("glm4_moe", MIXTURE),
    ("glm", PARTIAL),
    ("chatglm", JOINED),
    (
        "gpt_oss",
        "attention sinks, windows in every other layer and experts packed in MXFP4, which are missing here",
    ),
    ("gpt2", LEARNED),
    ("gpt_bigcode", LEARNED),
    ("gpt_neox", PARTIAL),
    ("gptj", PARTIAL),
    ("gpt_", LEARNED),
    ("opt", LEARNED),
    ("bloom", "ALiBi and LayerNorm, which are missing here"),
    ("mpt", "ALiBi and LayerNorm, which are missing here"),
    ("falcon_mamba", STATE),
    ("falcon_h1", STATE),
    ("falcon", "attention beside the MLP and joined projections, which are missing here"),
    ("mamba", STATE),
    ("jamba", STATE),
    ("bamba", STATE),
    ("zamba", STATE),
    ("nemotron_h", STATE),
    ("nemotron", "squared ReLU and LayerNorm, which are missing here"),
    ("granitemoehybrid", STATE),
    ("granitehybrid", STATE),
    ("granitemoe", MIXTURE),
    ("granite", "scaled embeddings, residuals and logits, which are missing here"),
    ("rwkv", STATE),
    ("recurrent_gemma", STATE),
    ("mixtral", "mixtures of experts under names of its own, which are missing here"),
    ("ministral3", PICTURES),
    ("ministral", "windows in some of the layers, which are missing here"),
    ("mistral3", PICTURES),
    ("pixtral", PICTURES),
    ("voxtral", PICTURES),
    (
        "llama4",
        "layers without rotation, attention in chunks and a mixture of experts, which are missing here",
    ),
    ("mllama", PICTURES),
    ("llava", PICTURES),
    ("vipllava", PICTURES),
    ("idefics", PICTURES),
    ("smolvlm", PICTURES),
    ("internvl", PICTURES),
    ("minicpmv", PICTURES),
    ("smollm3", "layers without rotation, which are missing here"),
    ("exaone", "norms in other places and windows in some of the layers, which are missing here"),
    ("olmoe", MIXTURE),
    ("olmo", NORMS),
    ("cohere", "attention beside the MLP and scaled logits, which are missing here"),
    ("command", "attention beside the MLP and scaled logits, which are missing here"),
    ("stablelm", PARTIAL),
    ("starcoder2", "LayerNorm and an MLP without gates, which are missing here"),
    ("internlm", JOINED),
    ("baichuan", JOINED),
    ("minicpm", "scaled embeddings, residuals and logits, which are missing here"),
    ("dbrx", MIXTURE),
    ("jetmoe", MIXTURE),
    ("ernie4_5_moe", MIXTURE),
    ("bitnet", "ternary weights and norms of their own, which are missing here"),
    ("t5", "an encoder and a decoder, which are missing here"),
    ("bart", "an encoder and a decoder, which are missing here"),
    ("whisper", PICTURES),
    ("bert", ENCODER),
    ("roberta", ENCODER),
    ("modernbert", ENCODER),
    ("xlm-roberta", ENCODER),
    ("deberta", ENCODER),
    ("nomic_bert", ENCODER),
    // Of GGUF files alone.
    ("jina-bert", ENCODER),
    ("neo-bert", ENCODER),
    ("eurobert", ENCODER),
    ("cogvlm", PICTURES),
    ("hunyuan-vl", PICTURES),
    ("clip", "a projector of pictures beside a model, not a language model"),
    ("mmproj", "a projector of pictures beside a model, not a language model"),
    ("wavtokenizer", "a codec of sound beside a model, not a language model"),
    ("arwkv", STATE),
    ("lfm2", STATE),
    ("plamo2", STATE),
    ("plm", LATENT),
];

/// Fields that tell what an architecture has which is in no list.
const SIGNS: &[(&str, &str)] = &[
    ("vision_config", PICTURES),
    ("audio_config", PICTURES),
    ("linear_num_value_heads", HYBRID),
    ("kv_lora_rank", LATENT),
    ("ssm_cfg", STATE),
    ("mamba_d_state", STATE),
    ("state_size", STATE),
    ("num_local_experts", MIXTURE),
    ("n_routed_experts", MIXTURE),
    ("num_experts", MIXTURE),
];

/// The family that `model_type` and `architectures` name.
pub(super) fn family(fields: &mut Fields<'_>) -> Result<&'static FamilySpec> {
    let name: Value = fields.take("model_type")?;
    let Some(spec) = FAMILIES.iter().find(|spec| name == spec.model_type) else {
        return Err(unsupported(
            "model_type",
            &name,
            &missing(name.as_str().unwrap_or_default(), &fields.map),
        ));
    };
    let Some(value) = fields.said("architectures") else { return Ok(spec) };
    // Early conversions of Llama wrote LLaMAForCausalLM.
    let same = |name: &str| name.eq_ignore_ascii_case(spec.architecture);
    let others = value.as_array().map(|all| all.iter().find(|a| !a.as_str().is_some_and(same)));
    match others {
        Some(None) => Ok(spec),
        Some(Some(other)) => Err(unsupported("architectures", &value, &purpose(other.as_str(), spec))),
        None => Err(unsupported("architectures", &value, "expected a list of names")),
    }
}

/// Without the signs that are `_` in config.json and `-` or nothing in GGUF files.
fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).collect()
}

/// What a foreign architecture has, where it is known.
pub(crate) fn foreign_has(name: &str) -> Option<&'static str> {
    let name = plain(name);
    FOREIGN.iter().find(|(beginning, _)| name.starts_with(&plain(beginning))).map(|(_, what)| *what)
}

fn missing(model_type: &str, fields: &Map<String, Value>) -> String {
    let known = foreign_has(model_type);
    let sign = || {
        let has = |field: &str| fields.get(field).is_some_and(|value| !value.is_null());
        SIGNS.iter().find(|(field, _)| has(field)).map(|(_, what)| *what)
    };
    let names: Vec<&str> = FAMILIES.iter().map(|spec| spec.model_type).collect();
    let read = format!("the families read here are {}", names.join(", "));
    match known.or_else(sign) {
        Some(what) => format!("{what}; {read}"),
        None => format!("not an architecture that is known here; {read}"),
    }
}

/// Why a class of a known family is not what is read here.
fn purpose(class: Option<&str>, spec: &FamilySpec) -> String {
    let only = format!("only {}", spec.architecture);
    let class = class.unwrap_or_default();
    let what = if ["Classification", "RewardModel", "RewardModelWithMargin"]
        .iter()
        .any(|end| class.ends_with(end))
    {
        "this model scores text and has no head to write with; "
    } else if class.ends_with("QuestionAnswering") {
        "this model marks answers in text and has no head to write with; "
    } else if class.ends_with("Model") {
        "this model embeds text and has no head to write with; "
    } else {
        ""
    };
    format!("{what}{only}")
}

#[cfg(test)]
mod tests {
    use super::{FAMILIES, FOREIGN, plain};

    /// A name that begins like an earlier one would never be found; one that a family has would be wrong.
    #[test]
    fn every_foreign_name_can_be_found() {
        for (at, (name, _)) in FOREIGN.iter().enumerate() {
            let own = plain(name);
            let earlier = FOREIGN[..at].iter().find(|(earlier, _)| own.starts_with(&plain(earlier)));
            assert!(earlier.is_none(), "{name} hides behind {earlier:?}");
            assert!(FAMILIES.iter().all(|spec| spec.model_type != *name));
        }
    }
}
