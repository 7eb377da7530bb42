//! The shape of a decoder, from the metadata of a GGUF file.

use std::collections::BTreeSet;

use super::Gguf;
use super::keys::{ELSEWHERE, EXPERTS, HARMLESS, NEUTRAL, READ};
use super::types::Kind;
use super::value::Value;
use crate::config::{Bias, Biases, Experts, FAMILIES, FamilySpec, LocalAttention, Window, foreign_has};
use crate::{Error, ModelConfig, Result, RopeScaling, Warning};

/// Llama 3's frequency factors.
pub(crate) const ROPE_FACTORS: &str = "rope_freqs.weight";

/// llama.cpp's base of rotary frequencies, where the file says nothing.
const ROPE_BASE: f64 = 10_000.0;

/// Control tokens that end an answer, whatever the file says its end of text is.
const TURN_ENDS: [&str; 8] = [
    "<end_of_turn>",
    "<|endoftext|>",
    "<|im_end|>",
    "<|end_of_text|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<\u{FF5C}end\u{2581}of\u{2581}sentence\u{FF5C}>",
];

impl Gguf {
    /// Reads the metadata of the architecture.
    ///
    /// # Errors
    /// [`Error::MissingField`], [`Error::FieldType`], [`Error::MissingTensor`], [`Error::UnsupportedConfig`] naming the
    /// key that changes the computation, [`Error::Config`] for sizes that do not fit each other.
    pub(crate) fn config(&self) -> Result<ModelConfig> {
        let spec = self.family()?;
        self.require_neutral(spec)?;
        let hidden_size = self.required("embedding_length")?;
        let heads = self.heads("attention.head_count")?;
        let num_attention_heads = heads.ok_or_else(|| self.missing(&self.key("attention.head_count")))?;
        let head_dim = self.head_dim(hidden_size / num_attention_heads.max(1))?;
        let max_position_embeddings = self.required("context_length")?;
        let num_hidden_layers = self.required("block_count")?;
        let local = self.local(spec, max_position_embeddings, num_hidden_layers)?;
        let experts = spec.experts.then(|| self.experts()).transpose()?;
        let has = |name: &str| self.tensors.contains_key(name);
        let vocab_size = self.vocab_size(hidden_size)?;
        let config = ModelConfig {
            family: spec.family,
            vocab_size,
            hidden_size,
            intermediate_size: self.required("feed_forward_length")?,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads: self.heads("attention.head_count_kv")?.unwrap_or(num_attention_heads),
            head_dim,
            rms_norm_eps: self.required_number("attention.layer_norm_rms_epsilon")?,
            rope_theta: self.number(&self.key("rope.freq_base"))?.unwrap_or(ROPE_BASE),
            rope_scaling: self.rope_scaling(head_dim, max_position_embeddings)?,
            max_position_embeddings,
            tie_word_embeddings: !has("output.weight"),
            qk_norm: spec.qk_norm,
            attention_scale: spec.attention_scale.of_gguf(
                num_hidden_layers,
                hidden_size,
                num_attention_heads,
                head_dim,
            ),
            local,
            biases: Biases {
                qkv: spec.qkv_bias == Bias::Always || has("blk.0.attn_q.bias"),
                output: has("blk.0.attn_output.bias"),
                mlp: has("blk.0.ffn_gate.bias"),
            },
            experts,
            eos_token_ids: self.ends(vocab_size)?,
        };
        config.validate()
    }

    fn family(&self) -> Result<&'static FamilySpec> {
        let key = "general.architecture";
        let name = self.text(key)?.ok_or_else(|| self.missing(key))?;
        FAMILIES.iter().find(|spec| spec.gguf == name).ok_or_else(|| {
            let mut known: Vec<&str> = FAMILIES.iter().map(|spec| spec.gguf).collect();
            known.dedup();
            let more = foreign_has(name).map(|what| format!("; {what}")).unwrap_or_default();
            self.unsupported(key, &format!("only {} are computed here{more}", known.join(", ")))
        })
    }

    /// A key of the architecture.
    fn key(&self, name: &str) -> String {
        let architecture = self.text("general.architecture").ok().flatten();
        format!("{}.{name}", architecture.unwrap_or_default())
    }

    fn required(&self, name: &str) -> Result<usize> {
        let key = self.key(name);
        self.count(&key)?.ok_or_else(|| self.missing(&key))
    }

    fn required_number(&self, name: &str) -> Result<f64> {
        let key = self.key(name);
        self.number(&key)?.ok_or_else(|| self.missing(&key))
    }

    /// A count that may be written once per layer.
    fn heads(&self, name: &str) -> Result<Option<usize>> {
        let key = self.key(name);
        if !matches!(self.values.get(&key), Some(Value::List { .. })) {
            return self.count(&key);
        }
        let counts = self.numbers(&key)?.unwrap_or_default();
        let counts: BTreeSet<usize> = counts.into_iter().map(|count| count as usize).collect();
        match counts.first() {
            Some(count) if counts.len() == 1 => Ok(Some(*count)),
            _ => Err(self.unsupported(&key, "only the same count in every layer")),
        }
    }

    fn head_dim(&self, default: usize) -> Result<usize> {
        let given = |name: &str| self.count(&self.key(name));
        let head_dim = given("attention.key_length")?.unwrap_or(default);
        let same = ["attention.value_length", "rope.dimension_count"];
        for (name, reason) in same.into_iter().zip(["only that of the keys", "only rotation of whole heads"])
        {
            if given(name)?.is_some_and(|width| width != head_dim) {
                return Err(self.unsupported(&self.key(name), reason));
            }
        }
        Ok(head_dim)
    }

    /// Keys of the architecture, without its name.
    fn own_keys<'a>(
        &'a self,
        spec: &'static FamilySpec,
    ) -> impl Iterator<Item = (&'a str, &'a str, &'a Value)> {
        let own = |key: &'a String| key.strip_prefix(spec.gguf)?.strip_prefix('.');
        self.values.iter().filter_map(move |(key, value)| Some((key.as_str(), own(key)?, value)))
    }

    /// A warning for each key of the architecture that nobody here knows.
    pub(crate) fn unknown_keys(&self) -> Result<Vec<Warning>> {
        let is_known = |name: &str| {
            [READ, HARMLESS, EXPERTS].iter().any(|list| list.contains(&name)) || neutral(name).is_some()
        };
        let keys = self.own_keys(self.family()?).filter(|(_, name, _)| !is_known(name));
        let warning = |(key, ..): (&str, &str, &Value)| Warning::UnknownField {
            file: self.path().to_path_buf(),
            field: key.to_owned(),
            value: self.shown(key),
        };
        Ok(keys.map(warning).collect())
    }

    fn require_neutral(&self, spec: &'static FamilySpec) -> Result<()> {
        for (key, name, value) in self.own_keys(spec) {
            let zero: &[f64] = &[0.0];
            let no_experts = (!spec.experts && EXPERTS.contains(&name)).then_some(zero);
            let Some(neutral) = no_experts.or_else(|| neutral(name)) else { continue };
            let numbers = match value {
                Value::List { .. } => self.numbers(key)?.unwrap_or_default(),
                value => vec![value.number().ok_or_else(|| self.mistyped(key, "a number"))?],
            };
            if !numbers.iter().all(|number| neutral.contains(number)) {
                return Err(self.unsupported(key, &format!("only {neutral:?}")));
            }
        }
        Ok(())
    }

    /// Layers with a window, where the family has them; elsewhere a window must reach over all `positions`.
    fn local(
        &self,
        spec: &'static FamilySpec,
        positions: usize,
        layers: usize,
    ) -> Result<Option<LocalAttention>> {
        let key = self.key("attention.sliding_window");
        let window = self.count(&key)?.filter(|width| *width > 0);
        match (spec.window, window) {
            (Window::Layers { every }, Some(window)) => {
                let theta = self.number(&self.key("rope.freq_base_swa"))?.unwrap_or(ROPE_BASE);
                Ok(LocalAttention::new(window, theta, self.kinds(every, layers)?))
            }
            (_, Some(width)) if width < positions => Err(self.unsupported(&key, "only full attention")),
            _ => Ok(None),
        }
    }

    /// By layer, whether it has a window: all but each so many, or a list.
    fn kinds(&self, every: usize, layers: usize) -> Result<Vec<bool>> {
        let key = self.key("attention.sliding_window_pattern");
        if !matches!(self.values.get(&key), Some(Value::List { .. })) {
            return Ok(LocalAttention::pattern(self.count(&key)?.unwrap_or(every), layers));
        }
        let kinds = self.numbers(&key)?.unwrap_or_default();
        Ok(kinds.into_iter().map(|kind| kind != 0.0).collect())
    }

    /// Rows of the embedding.
    fn vocab_size(&self, hidden_size: usize) -> Result<usize> {
        let (name, file) = ("token_embd.weight".to_owned(), self.path.clone());
        let Some(info) = self.tensors.get(&name) else { return Err(Error::MissingTensor { name, file }) };
        let (rows, key) = (info.shape[0], self.key("vocab_size"));
        let said = self.count(&key)?.unwrap_or(rows);
        if info.shape.len() == 2 && said == rows {
            return Ok(rows);
        }
        Err(Error::TensorShape { name, file, expected: vec![said, hidden_size], got: info.shape.clone() })
    }

    fn experts(&self) -> Result<Experts> {
        let per_token = self.required("expert_used_count")?;
        let intermediate_size = match self.count(&self.key("expert_feed_forward_length"))? {
            Some(width) => width,
            None => self.required("feed_forward_length")? / per_token.max(1),
        };
        Ok(Experts {
            count: self.required("expert_count")?,
            per_token,
            intermediate_size,
            normalised: true,
            every: 1,
            dense_layers: Vec::new(),
        })
    }

    fn rope_scaling(&self, head_dim: usize, positions: usize) -> Result<RopeScaling> {
        let kind_key = self.key("rope.scaling.type");
        let factor_key = self.key("rope.scaling.factor");
        let old = self.number(&self.key("rope.scale_linear"))?;
        // 0 stands for no scaling, as in llama.cpp; so does a kind without a factor.
        let factor = self.number(&factor_key)?.or(old).filter(|factor| *factor != 0.0);
        let scaling = match (self.text(&kind_key)?.unwrap_or("linear"), factor) {
            ("none", _) | ("linear", None) => RopeScaling::Default,
            ("linear", Some(factor)) => RopeScaling::Linear { factor },
            ("yarn", Some(factor)) => self.yarn(factor, positions)?,
            ("yarn", None) => return Err(self.missing(&factor_key)),
            _ => return Err(self.unsupported(&kind_key, "only none, linear and yarn")),
        };
        match self.rope_factors(head_dim)? {
            None => Ok(scaling),
            Some(factors) if scaling == RopeScaling::Default => Ok(RopeScaling::Factors { factors }),
            Some(_) => Err(self.unsupported(&kind_key, "no scaling beside frequency factors")),
        }
    }

    fn yarn(&self, factor: f64, positions: usize) -> Result<RopeScaling> {
        let number = |name: &str, default: f64| -> Result<f64> {
            Ok(self.number(&self.key(name))?.unwrap_or(default))
        };
        let attention_factor = if factor <= 1.0 { 1.0 } else { 0.1 * factor.ln() + 1.0 };
        // llama.cpp has read this key as the whole factor, as one on top of it, and not at all.
        let said = number("rope.scaling.yarn_attn_factor", attention_factor)?;
        if [1.0, attention_factor].iter().all(|usual| (said - usual).abs() > 1e-4) {
            let reason = format!("only the usual factor, {attention_factor}");
            return Err(self.unsupported(&self.key("rope.scaling.yarn_attn_factor"), &reason));
        }
        let original = self.count(&self.key("rope.scaling.original_context_length"))?;
        Ok(RopeScaling::Yarn {
            factor,
            beta_fast: number("rope.scaling.yarn_beta_fast", 32.0)?,
            beta_slow: number("rope.scaling.yarn_beta_slow", 1.0)?,
            attention_factor,
            truncate: true,
            original_positions: original.unwrap_or(positions),
        })
    }

    /// What each frequency is divided by, where the file says so.
    fn rope_factors(&self, head_dim: usize) -> Result<Option<Vec<f32>>> {
        let Some(info) = self.tensors.get(ROPE_FACTORS) else { return Ok(None) };
        let (name, file) = (ROPE_FACTORS.to_owned(), self.path.clone());
        if info.shape != [head_dim / 2] {
            let (expected, got) = (vec![head_dim / 2], info.shape.clone());
            return Err(Error::TensorShape { name, file, expected, got });
        }
        if info.kind != Kind::from_number(0) {
            return Err(Error::TensorDtype { name, file, got: info.kind.name() });
        }
        let numbers = self.map_of(info)[info.range.clone()].chunks_exact(4);
        Ok(Some(numbers.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()))
    }

    /// Tokens that end a generation. Ids beyond the embedding, which some files have, can never come and are left out.
    fn ends(&self, rows: usize) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        for key in ["eos_token_id", "eot_token_id", "eom_token_id"] {
            ids.extend(self.token(&format!("tokenizer.ggml.{key}"))?);
        }
        let control = self.control_tokens()?;
        ids.extend(control.iter().filter(|(_, text)| TURN_ENDS.contains(text)).map(|token| token.0));
        ids.retain(|id| (*id as usize) < rows);
        if ids.is_empty() {
            // SentencePiece's own, where the file says nothing that can be.
            ids.extend(control.iter().filter(|token| *token == &(2, "</s>")).map(|token| token.0));
        }
        Ok(ids)
    }
}

/// The values at which a key that would change the computation does not.
fn neutral(name: &str) -> Option<&'static [f64]> {
    let elsewhere = ELSEWHERE.iter().any(|beginning| name.starts_with(beginning));
    let known = NEUTRAL.iter().find(|(known, _)| *known == name).map(|row| row.1);
    known.or(elsewhere.then_some(&[0.0]))
}
