//! Text to tokens and back, with documents kept apart from control tokens.

use std::collections::HashSet;
use std::path::Path;

use serde_json::Value;

use crate::config::{read_json, unsupported};
use crate::{Error, ModelConfig, Result};

/// A byte-level BPE tokenizer, twice: as written, and without its added tokens.
///
/// The second one encodes documents. Whatever a document contains, `<|im_end|>` included, stays plain text.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    full: tokenizers::Tokenizer,
    plain: tokenizers::Tokenizer,
    added: Vec<String>,
    eos: Vec<u32>,
}

impl Tokenizer {
    /// Reads `tokenizer.json`. `path` is only named in errors.
    pub(crate) fn parse(json: &[u8], path: &Path) -> Result<Self> {
        let value: Value = read_json(json, path)?;
        let decoder = &value["decoder"]["type"];
        if decoder != "ByteLevel" {
            return Err(unsupported("decoder.type", decoder, "only ByteLevel, as Qwen3 uses"));
        }
        let added: Vec<String> = value["added_tokens"]
            .as_array()
            .map(|tokens| tokens.iter().filter_map(|t| t["content"].as_str().map(str::to_string)).collect())
            .unwrap_or_default();
        let plain = without_added(value, &added);
        Ok(Self { full: build(json)?, plain: build(plain.to_string().as_bytes())?, added, eos: Vec::new() })
    }

    /// Checks that every id has an embedding, and takes over the end-of-text ids.
    pub(crate) fn for_model(mut self, config: &ModelConfig) -> Result<Self> {
        let vocab_size = config.vocab_size;
        let highest = self.full.get_vocab(true).into_iter().max_by_key(|(_, id)| *id);
        if let Some((token, id)) = highest.filter(|(_, id)| *id as usize >= vocab_size) {
            return Err(Error::TokenizerMismatch { token, id, vocab_size });
        }
        self.eos.clone_from(&config.eos_token_ids);
        Ok(self)
    }

    /// Encodes a document. Added tokens (`<|im_end|>`, `<think>`, ...) in it stay plain text, always.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn encode_text(&self, text: &str) -> Result<Vec<u32>> {
        encode(&self.plain, text)
    }

    /// Encodes trusted text, such as the parts of a chat template: control tokens are recognised.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn encode_template(&self, text: &str) -> Result<Vec<u32>> {
        encode(&self.full, text)
    }

    /// The text of `ids`, control tokens included. Bytes that are not UTF-8 become U+FFFD; ids without a token
    /// (models pad their vocabulary) are nothing.
    ///
    /// # Errors
    /// None today; a `Result` so that other tokenizers fit.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let bytes: Vec<u8> = ids.iter().flat_map(|&id| self.token_bytes(id)).collect();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// One display string per token. Joined, they are the text that [`decode`](Self::decode) gives; a character that
    /// spans tokens belongs to the one that completes it.
    pub fn pieces(&self, ids: &[u32]) -> Vec<String> {
        let mut bytes = Vec::new();
        let mut owner = Vec::new();
        for (index, &id) in ids.iter().enumerate() {
            let token = self.token_bytes(id);
            owner.resize(owner.len() + token.len(), index);
            bytes.extend(token);
        }
        let mut pieces = vec![String::new(); ids.len()];
        let mut end = 0;
        for chunk in bytes.utf8_chunks() {
            for c in chunk.valid().chars() {
                end += c.len_utf8();
                pieces[owner[end - 1]].push(c);
            }
            if !chunk.invalid().is_empty() {
                end += chunk.invalid().len();
                pieces[owner[end - 1]].push(char::REPLACEMENT_CHARACTER);
            }
        }
        pieces
    }

    /// Distinct tokens, added ones included.
    pub fn vocab_size(&self) -> usize {
        self.full.get_vocab_size(true)
    }

    /// Tokens that end an answer.
    pub fn eos_ids(&self) -> &[u32] {
        &self.eos
    }

    /// The strings that [`encode_template`](Self::encode_template) treats as one token each.
    pub fn added_tokens(&self) -> &[String] {
        &self.added
    }

    /// A token as the vocabulary writes it (byte-level alphabet), `None` for an id without one.
    pub fn token_str(&self, id: u32) -> Option<String> {
        self.full.id_to_token(id)
    }

    /// The id of a token as the vocabulary writes it.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.full.token_to_id(token)
    }

    /// The bytes a token stands for.
    pub(crate) fn token_bytes(&self, id: u32) -> Vec<u8> {
        let Some(token) = self.full.id_to_token(id) else { return Vec::new() };
        if self.added.contains(&token) {
            return token.into_bytes();
        }
        token.chars().map(char_byte).collect::<Option<_>>().unwrap_or_else(|| token.into_bytes())
    }
}

fn build(json: &[u8]) -> Result<tokenizers::Tokenizer> {
    tokenizers::Tokenizer::from_bytes(json).map_err(|e| Error::Tokenizer { reason: e.to_string() })
}

fn encode(tokenizer: &tokenizers::Tokenizer, text: &str) -> Result<Vec<u32>> {
    let encoding =
        tokenizer.encode_fast(text, false).map_err(|e| Error::Tokenizer { reason: e.to_string() })?;
    Ok(encoding.get_ids().to_vec())
}

/// The same tokenizer without added tokens; where training put them into the model's vocabulary too, they leave that
/// as well, so that no sequence of merges can make one.
fn without_added(mut value: Value, added: &[String]) -> Value {
    let added: HashSet<&str> = added.iter().map(String::as_str).collect();
    value["added_tokens"] = Value::Array(Vec::new());
    if let Some(vocab) = value["model"]["vocab"].as_object_mut() {
        vocab.retain(|token, _| !added.contains(token.as_str()));
    }
    if let Some(merges) = value["model"]["merges"].as_array_mut() {
        merges.retain(|merge| !added.contains(merged(merge).as_str()));
    }
    value
}

/// The token a merge makes; merges are written `"a b"` or `["a", "b"]`.
fn merged(merge: &Value) -> String {
    match merge {
        Value::String(pair) => pair.replacen(' ', "", 1),
        Value::Array(pair) => pair.iter().filter_map(Value::as_str).collect(),
        _ => String::new(),
    }
}

/// The byte behind a character of the byte-level alphabet: printable Latin-1 stands for itself, the other 68 bytes
/// are written, in order, as U+0100 and up.
fn char_byte(c: char) -> Option<u8> {
    let code = u32::from(c);
    match code {
        0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => Some(code as u8),
        0x100..=0x120 => Some((code - 0x100) as u8),
        0x121..=0x142 => Some((code - 0x121 + 0x7F) as u8),
        0x143 => Some(0xAD),
        _ => None,
    }
}
