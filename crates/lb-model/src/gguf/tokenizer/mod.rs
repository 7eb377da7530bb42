//! The tokenizer in a file's metadata, as the tokenizer.json that it was made from.

mod beside;
mod pre;
mod same;
mod spm;
mod write;

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use pre::Pre;
pub(super) use write::tokenizer as write;

use super::Gguf;
use crate::{Error, Result};

const MODEL: &str = "tokenizer.ggml.model";
const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";
const SCORES: &str = "tokenizer.ggml.scores";
const PRE_KEY: &str = "tokenizer.ggml.pre";
/// The whole tokenizer.json, in the few files that carry it.
const HF_JSON: &str = "tokenizer.huggingface.json";

/// Control tokens that some converters write down as plain text; llama.cpp takes them for what they are as well.
const ALWAYS_CONTROL: [&str; 12] = [
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<\u{FF5C}begin\u{2581}of\u{2581}sentence\u{FF5C}>",
    "<\u{FF5C}end\u{2581}of\u{2581}sentence\u{FF5C}>",
    "<|end|>",
];

/// Numbers of `tokenizer.ggml.token_type`.
mod kind {
    pub(super) const NORMAL: u8 = 1;
    pub(super) const UNKNOWN: u8 = 2;
    pub(super) const CONTROL: u8 = 3;
    pub(super) const USER_DEFINED: u8 = 4;
    pub(super) const UNUSED: u8 = 5;
    pub(super) const BYTE: u8 = 6;
}

/// One entry of the vocabulary.
#[derive(Debug, Clone, Copy)]
struct Token<'a> {
    id: u32,
    text: &'a str,
    kind: u8,
}

impl Token<'_> {
    fn is_added(&self) -> bool {
        matches!(self.kind, kind::CONTROL | kind::USER_DEFINED | kind::UNKNOWN)
    }

    fn as_added(&self) -> Value {
        json!({
            "id": self.id,
            "content": self.text,
            "single_word": false,
            "lstrip": false,
            "rstrip": false,
            "normalized": false,
            "special": self.kind != kind::USER_DEFINED,
        })
    }
}

impl Gguf {
    /// The vocabulary, without the tokens that only fill it up or have no text.
    fn tokens(&self) -> Result<Vec<Token<'_>>> {
        let texts = self.strings(TOKENS)?.ok_or_else(|| self.missing(TOKENS))?;
        let kinds = self.numbers(TYPES)?.unwrap_or_else(|| vec![f64::from(kind::NORMAL); texts.len()]);
        if kinds.len() < texts.len() {
            let reason = format!("{} tokens and {} token types", texts.len(), kinds.len());
            return Err(Error::Corrupt { path: self.path.clone(), reason });
        }
        let tokens = (0u32..).zip(texts).zip(kinds).map(|((id, text), kind)| {
            let kind = if ALWAYS_CONTROL.contains(&text) { kind::CONTROL } else { kind as u8 };
            Token { id, text, kind }
        });
        Ok(tokens.filter(|token| token.kind != kind::UNUSED && !token.text.is_empty()).collect())
    }

    /// Ids and texts of the control tokens; none where there is no vocabulary.
    pub(super) fn control_tokens(&self) -> Result<Vec<(u32, &str)>> {
        if !self.values.contains_key(TOKENS) {
            return Ok(Vec::new());
        }
        let tokens = self.tokens()?.into_iter().filter(|token| token.kind == kind::CONTROL);
        Ok(tokens.map(|token| (token.id, token.text)).collect())
    }

    /// Whether the metadata say anything of a tokenizer.
    fn has_tokenizer(&self) -> bool {
        [MODEL, HF_JSON].iter().any(|key| self.values.contains_key(*key))
    }

    /// The tokenizer.json: as it stands in the metadata, or made from them; where neither is possible, the one beside the
    /// file.
    ///
    /// # Errors
    /// [`Error::MissingField`], [`Error::FieldType`], [`Error::Corrupt`], and [`Error::UnsupportedConfig`] for a
    /// tokenizer whose rules are not known here, if no file beside tells them.
    pub(crate) fn tokenizer_json(&self) -> Result<Cow<'static, [u8]>> {
        if let Some(json) = self.text(HF_JSON)? {
            return Ok(Cow::Owned(json.as_bytes().to_vec()));
        }
        match self.json_of_metadata() {
            Ok(json) => Ok(Cow::Owned(json.to_string().into_bytes())),
            Err(unknown @ (Error::UnsupportedConfig { .. } | Error::MissingField { .. })) => {
                self.tokenizer_beside()?.ok_or(unknown)
            }
            Err(other) => Err(other),
        }
    }

    fn json_of_metadata(&self) -> Result<Value> {
        if !self.has_tokenizer() {
            let reason = "the file brings no tokenizer; put the model's tokenizer.json beside it";
            return Err(self.unsupported(MODEL, reason));
        }
        // And whether a prompt begins with a token of its own where the file does not say, as llama.cpp has it.
        let (mut json, begins) = match self.text(MODEL)?.ok_or_else(|| self.missing(MODEL))? {
            "gpt2" => {
                let json = self.byte_level()?;
                let begins = json["model"]["ignore_merges"] == true;
                (json, begins)
            }
            "llama" => (self.sentence_pieces()?, true),
            _ => {
                let reason = "gpt2 and llama are known; put the model's tokenizer.json beside the file";
                return Err(self.unsupported(MODEL, reason));
            }
        };
        json["post_processor"] = self.around(begins)?;
        Ok(json)
    }

    /// What puts the tokens for beginning and end around a prompt; null where there are none.
    fn around(&self, begins: bool) -> Result<Value> {
        let texts = self.strings(TOKENS)?.unwrap_or_default();
        // SentencePiece's own ids where the file does not say.
        let spm = self.text(MODEL)? == Some("llama");
        let token = |name: &str, usual: u32, adds: bool| -> Result<Option<(u32, &str)>> {
            if !self.flag(&format!("tokenizer.ggml.add_{name}_token"))?.unwrap_or(adds) {
                return Ok(None);
            }
            let id = self.token(&format!("tokenizer.ggml.{name}_token_id"))?.or(spm.then_some(usual));
            Ok(id.and_then(|id| Some((id, *texts.get(id as usize)?))))
        };
        let (begin, end) = (token("bos", 1, begins)?, token("eos", 2, false)?);
        if begin.is_none() && end.is_none() {
            return Ok(Value::Null);
        }
        let special = |token: Option<(u32, &str)>, kind: u32| {
            token.map(|(_, text)| json!({"SpecialToken": {"id": text, "type_id": kind}}))
        };
        let piece = |name: &str, kind: u32| -> Vec<Value> {
            let text = json!({"Sequence": {"id": name, "type_id": kind}});
            special(begin, kind).into_iter().chain([text]).chain(special(end, kind)).collect()
        };
        let ids = begin.into_iter().chain(end);
        let tokens =
            ids.map(|(id, text)| (text.to_owned(), json!({"id": text, "ids": [id], "tokens": [text]})));
        Ok(json!({
            "type": "TemplateProcessing",
            "single": piece("A", 0),
            "pair": piece("A", 0).into_iter().chain(piece("B", 1)).collect::<Vec<_>>(),
            "special_tokens": tokens.collect::<Map<String, Value>>(),
        }))
    }

    /// What tokenizer_config.json would say.
    pub(crate) fn tokenizer_config(&self) -> Result<Vec<u8>> {
        let mut config = Map::new();
        let texts = self.strings(TOKENS)?.unwrap_or_default();
        for (name, key) in [("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")] {
            let id = self.token(&format!("tokenizer.ggml.{key}_token_id"))?;
            if let Some(text) = id.and_then(|id| texts.get(id as usize)) {
                config.insert(format!("{name}_token"), Value::from(*text));
            }
            if let Some(add) = self.flag(&format!("tokenizer.ggml.add_{name}_token"))? {
                config.insert(format!("add_{name}_token"), Value::from(add));
            }
        }
        Ok(Value::from(config).to_string().into_bytes())
    }

    /// The chat template.
    pub(crate) fn chat_template(&self) -> Result<Option<&str>> {
        self.text("tokenizer.chat_template")
    }

    /// Byte-level BPE.
    fn byte_level(&self) -> Result<Value> {
        let pre = self.text(PRE_KEY)?.and_then(Pre::named).ok_or_else(|| {
            let known =
                "how text is split is not known from that; put the model's tokenizer.json beside the file";
            self.unsupported(PRE_KEY, known)
        })?;
        let tokens = self.tokens()?;
        let merges = self.strings(MERGES)?.ok_or_else(|| self.missing(MERGES))?;
        // The left part may itself begin with a space in no byte-level vocabulary; the first character is skipped as
        // llama.cpp does.
        let pair = |merge: &&str| -> Option<Value> {
            let first = merge.chars().next()?.len_utf8();
            let at = merge[first..].find(' ')? + first;
            Some(json!([merge[..at], merge[at + 1..]]))
        };
        let merges: Option<Vec<Value>> = merges.iter().map(pair).collect();
        let merges = merges.ok_or_else(|| self.mistyped(MERGES, "a list of pairs with a space between"))?;
        Ok(json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added(&tokens),
            "normalizer": if pre.nfc { json!({"type": "NFC"}) } else { Value::Null },
            "pre_tokenizer": pre.pre_tokenizer(),
            "post_processor": null,
            "decoder": {
                "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false,
            },
            "model": {
                "type": "BPE",
                "dropout": null,
                "unk_token": null,
                "continuing_subword_prefix": null,
                "end_of_word_suffix": null,
                "fuse_unk": false,
                "byte_fallback": false,
                "ignore_merges": pre.ignore_merges,
                "vocab": self.vocab(&tokens)?,
                "merges": merges,
            },
        }))
    }

    /// Ids by text.
    fn vocab(&self, tokens: &[Token<'_>]) -> Result<Map<String, Value>> {
        let mut vocab = Map::new();
        for token in tokens {
            if let Some(other) = vocab.insert(token.text.to_owned(), Value::from(token.id)) {
                let reason = format!("the tokens {other} and {} are both {:?}", token.id, token.text);
                return Err(Error::Corrupt { path: self.path.clone(), reason });
            }
        }
        Ok(vocab)
    }
}

fn added(tokens: &[Token<'_>]) -> Vec<Value> {
    tokens.iter().filter(|token| token.is_added()).map(Token::as_added).collect()
}

/// Ids by text, to look them up.
fn ids<'a>(tokens: &[Token<'a>]) -> BTreeMap<&'a str, u32> {
    tokens.iter().map(|token| (token.text, token.id)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::pre::Pre;
    use crate::gguf::Gguf;
    use crate::gguf::metadata::Metadata;
    use crate::gguf::value::Type;

    /// `text` split by the pre-tokenizer that `name` stands for.
    fn split(name: &str, text: &str) -> Vec<String> {
        use tokenizers::{
            OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, PreTokenizerWrapper,
        };
        let pre = Pre::named(name).unwrap();
        let splitter: PreTokenizerWrapper = serde_json::from_value(pre.pre_tokenizer()).unwrap();
        let mut string = PreTokenizedString::from(text);
        splitter.pre_tokenize(&mut string).unwrap();
        let places = string.get_splits(OffsetReferential::Original, OffsetType::Byte);
        places.into_iter().map(|(_, (start, end), _)| text[start..end].to_owned()).collect()
    }

    #[test]
    fn names_split_text_as_their_models_do() {
        let text = "I'LL pay 12345 camelCase\n\n  x";
        let join = |name| split(name, text).join("|");
        assert_eq!(join("qwen2"), "I|'LL| pay| |1|2|3|4|5| camelCase|\n\n| | x");
        assert_eq!(join("llama-bpe"), "I|'LL| pay| |123|45| camelCase|\n\n| | x");
        assert_eq!(join("tekken"), "I|'LL| pay| |1|2|3|4|5| camel|Case|\n\n| | x");
        assert_eq!(join("smollm"), "I|'|LL| pay| |1|2|3|4|5| camelCase|\n\n | x");
        assert_eq!(join("gpt-2"), "I|'|LL| pay| 12345| camelCase|\n\n | x");
    }

    /// Special tokens, the bytes, and pieces with scores.
    fn sentence_pieces(prefix: bool) -> Gguf {
        let special = ["<unk>", "<s>", "</s>"].map(str::to_owned);
        let bytes = (0..=255u8).map(|byte| format!("<0x{byte:02X}>"));
        let pieces = ["\u{2581}", "a", "b", "c", "ab", "bc", "\u{2581}a", "abc", "\u{2581}ab"];
        let tokens: Vec<String> = special.into_iter().chain(bytes).chain(pieces.map(str::to_owned)).collect();
        let kinds = [2i32, 3, 3].into_iter().chain([6; 256]).chain([1; 9]);
        // Pieces of one character come last, as SentencePiece has them; bc before ab.
        let own = [-9f32, -9.0, -9.0, -9.0, -2.0, -1.0, -3.0, -4.0, -5.0];
        let scores = [0f32; 259].into_iter().chain(own);
        let mut out = Metadata::default();
        out.text("tokenizer.ggml.model", "llama");
        out.texts("tokenizer.ggml.tokens", tokens.iter().map(String::as_str));
        out.list("tokenizer.ggml.token_type", Type::I32, tokens.len());
        out.bytes.extend(kinds.flat_map(i32::to_le_bytes));
        out.list("tokenizer.ggml.scores", Type::F32, tokens.len());
        out.bytes.extend(scores.flat_map(f32::to_le_bytes));
        out.flag("tokenizer.ggml.add_space_prefix", prefix);
        Gguf::of_metadata(&out).unwrap()
    }

    fn encode(file: &Gguf, text: &str) -> Vec<String> {
        let tokenizer = tokenizers::Tokenizer::from_bytes(file.tokenizer_json().unwrap()).unwrap();
        let encoding = tokenizer.encode_fast(text, false).unwrap();
        encoding.get_ids().iter().map(|&id| tokenizer.id_to_token(id).unwrap()).collect()
    }

    #[test]
    fn sentence_pieces_join_by_score() {
        let file = sentence_pieces(true);
        assert_eq!(encode(&file, "abc"), ["\u{2581}a", "bc"]);
        assert_eq!(encode(&file, "ab ab"), ["\u{2581}ab", "\u{2581}ab"]);
        assert_eq!(encode(&file, "c\u{e9}</s>"), ["\u{2581}", "c", "<0xC3>", "<0xA9>", "</s>"]);
        assert_eq!(encode(&sentence_pieces(false), "abc"), ["abc"]);
        let json: Value = serde_json::from_slice(&file.tokenizer_json().unwrap()).unwrap();
        let merges: Vec<String> = json["model"]["merges"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| format!("{} {}", m[0].as_str().unwrap(), m[1].as_str().unwrap()))
            .collect();
        // By score; the two ways to \u{2581}ab by the length of the left part, longer first.
        let expected = ["b c", "a b", "\u{2581} a", "ab c", "a bc", "\u{2581}a b", "\u{2581} ab"];
        assert_eq!(merges, expected);
    }
}
