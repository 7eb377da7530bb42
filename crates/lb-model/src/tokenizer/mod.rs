//! Text to tokens and back, with documents kept apart from control tokens.

mod alphabet;
mod check;
mod decode;
mod kind;
mod load;
mod variants;
mod windows;

use std::collections::HashSet;

use crate::template::{RenderedPiece, SpecialTokens};
use crate::{Error, ModelConfig, Result};

pub use decode::TextStream;
use kind::{Kind, Prefix};
pub(crate) use variants::merge_parts;

/// A BPE tokenizer as `tokenizer.json` describes it: byte-level (Qwen, Llama 3, Mistral's Tekken) or in the style of
/// SentencePiece with byte fallback (Llama 2, Mistral up to v0.3).
///
/// It is kept as written and without its added tokens. The second one encodes documents: whatever a document contains,
/// `<|im_end|>` included, stays plain text. White space among them (Gemma's line ends and runs of spaces) is text anyway.
///
/// # Bytes without a token
/// Nearly every vocabulary has a token for each byte, so that no text is lost or unknown. Where one lacks some
/// ([`missing_bytes`](Self::missing_bytes); SmolLM2's lacks 21, six control characters among them), a character with such a byte becomes
/// what transformers makes of it: the file's unknown token, or nothing where it names none.
///
/// # The prefix of SentencePiece
/// These tokenizers put a space in front of a text, so that `Oslo` is the same token (`▁Oslo`) at its start as within
/// it. [`encode_text`](Self::encode_text) and [`encode_template`](Self::encode_template) encode parts of a prompt and
/// put no such space in front; [`encode_prompt`](Self::encode_prompt) encodes a whole prompt and does. Behind a control
/// token inside a text, the tokenizer's file decides: it says "every section" or "the first only".
#[derive(Debug, Clone)]
pub struct Tokenizer {
    full: tokenizers::Tokenizer,
    /// Without added tokens, for a section that gets the prefix.
    section: tokenizers::Tokenizer,
    /// Without added tokens and without a prefix. `None` where there is no prefix anyway.
    inner: Option<tokenizers::Tokenizer>,
    kind: Kind,
    added: Vec<Added>,
    names: Vec<String>,
    added_ids: HashSet<u32>,
    special: SpecialTokens,
    /// Ids before and behind a whole prompt.
    around: (Vec<u32>, Vec<u32>),
    eos: Vec<u32>,
    /// Rows of the model's embedding; no limit for a tokenizer without a model.
    embeddings: usize,
    missing: Vec<u8>,
}

/// A token that is looked for in trusted text before anything else.
#[derive(Debug, Clone)]
struct Added {
    id: u32,
    content: String,
    /// No control token, but white space.
    blank: bool,
    /// It takes the white space before or behind it along.
    strips: (bool, bool),
}

/// Encodes a text with a tokenizer, behind what is there.
type EncodeInto<'a> = dyn FnMut(&tokenizers::Tokenizer, &str, &mut Vec<u32>) -> Result<()> + 'a;

impl Tokenizer {
    /// Takes over the end-of-text ids, and how many tokens have an embedding. Vocabularies may list tokens beyond;
    /// encoding one is an error.
    pub(crate) fn for_model(mut self, config: &ModelConfig) -> Self {
        self.embeddings = config.vocab_size;
        self.eos.clone_from(&config.eos_token_ids);
        self
    }

    /// Fails where one of `ids` has no embedding.
    fn embedded(&self, ids: Vec<u32>) -> Result<Vec<u32>> {
        match ids.iter().find(|id| **id as usize >= self.embeddings) {
            None => Ok(ids),
            Some(&id) => Err(Error::TokenizerMismatch {
                token: self.token_str(id).unwrap_or_default(),
                id,
                vocab_size: self.embeddings,
            }),
        }
    }

    /// Encodes a document, or a part of one, that stands somewhere in a prompt. Added tokens (`<|im_end|>`, `<think>`,
    /// ...) in it stay plain text, always.
    ///
    /// Encoded apart, a document shares no token with the text around it. Where that text ends in a space or goes on
    /// without one, transformers, which encodes the whole, may have one token in the place of two.
    /// [`ChatTemplate::encode_conversation`](crate::ChatTemplate::encode_conversation) has no such seams.
    ///
    /// # Errors
    /// [`Error::Tokenizer`]; [`Error::TokenizerMismatch`] for a token that the model has no embedding for.
    pub fn encode_text(&self, text: &str) -> Result<Vec<u32>> {
        self.embedded(encode(self.inner.as_ref().unwrap_or(&self.section), text)?)
    }

    /// Encodes trusted text that stands somewhere in a prompt, such as the parts of a chat template: control tokens
    /// are recognised.
    ///
    /// # Errors
    /// Those of [`encode_text`](Self::encode_text).
    pub fn encode_template(&self, text: &str) -> Result<Vec<u32>> {
        let Some(inner) = &self.inner else { return self.embedded(encode(&self.full, text)?) };
        let first = self.added.iter().filter_map(|token| Some((text.find(&token.content)?, token)));
        let Some((at, token)) = first.min_by_key(|(at, _)| *at) else {
            return self.embedded(encode(inner, text)?);
        };
        let before = if token.strips.0 { text[..at].trim_end() } else { &text[..at] };
        let mut ids = encode(inner, before)?;
        ids.extend(encode(&self.full, &text[at..])?);
        self.embedded(ids)
    }

    /// Encodes a whole prompt as transformers' `tokenizer(text)` does: control tokens are recognised, and the tokens
    /// that open or close every text (`<|begin_of_text|>`, `<s>`) are added. For trusted text.
    ///
    /// # Errors
    /// Those of [`encode_text`](Self::encode_text).
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>> {
        let (before, behind) = &self.around;
        let text = encode(&self.full, text)?;
        self.embedded([before.as_slice(), &text, behind].concat())
    }

    /// Encodes what [`ChatTemplate::render_pieces`](crate::ChatTemplate::render_pieces) gives, which is a prompt from
    /// its start.
    ///
    /// # Errors
    /// Those of [`encode_text`](Self::encode_text); [`Error::Template`] for a control token that is not one of this
    /// tokenizer.
    pub fn encode_pieces(&self, pieces: &[RenderedPiece]) -> Result<Vec<u32>> {
        let mut whole = |first: &tokenizers::Tokenizer, text: &str, ids: &mut Vec<u32>| {
            ids.extend(encode(first, text)?);
            Ok(())
        };
        self.encode_pieces_by(pieces, &mut whole)
    }

    /// Encodes pieces, each text with `text_ids`, which is given the tokenizer of its beginning.
    fn encode_pieces_by(&self, pieces: &[RenderedPiece], text_ids: &mut EncodeInto<'_>) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        for (index, piece) in pieces.iter().enumerate() {
            match piece {
                RenderedPiece::Control(token) => ids.push(self.added(token)?.id),
                RenderedPiece::Text(text) => {
                    let mut text = text.as_str();
                    let next = pieces.get(index + 1);
                    if let Some(RenderedPiece::Control(before)) = index.checked_sub(1).map(|i| &pieces[i]) {
                        text = if self.added(before)?.strips.1 { text.trim_start() } else { text };
                    }
                    if let Some(RenderedPiece::Control(behind)) = next {
                        text = if self.added(behind)?.strips.0 { text.trim_end() } else { text };
                    }
                    let gets_prefix = index == 0 || self.kind.prefix() == Prefix::EverySection;
                    let plain = self.inner.as_ref().filter(|_| !gets_prefix).unwrap_or(&self.section);
                    text_ids(plain, text, &mut ids)?;
                }
            }
        }
        self.embedded(ids)
    }

    fn added(&self, content: &str) -> Result<&Added> {
        self.added.iter().find(|token| token.content == content).ok_or_else(|| Error::Template {
            reason: format!("`{content}` is no control token of the tokenizer"),
        })
    }

    /// Distinct tokens, added ones included.
    pub fn vocab_size(&self) -> usize {
        self.full.get_vocab_size(true)
    }

    /// The bytes that the vocabulary has no token for; usually none. Text with one of them does not come back from
    /// [`decode`](Self::decode) as it was.
    pub fn missing_bytes(&self) -> &[u8] {
        &self.missing
    }

    /// Tokens that end an answer.
    pub fn eos_ids(&self) -> &[u32] {
        &self.eos
    }

    /// The strings that [`encode_template`](Self::encode_template) treats as one token each.
    pub fn added_tokens(&self) -> &[String] {
        &self.names
    }

    /// `bos_token`, `eos_token` and the like from `tokenizer_config.json`, for the chat template.
    pub fn special_tokens(&self) -> &SpecialTokens {
        &self.special
    }

    /// A token as the vocabulary writes it, `None` for an id without one. Byte-level vocabularies write every byte as
    /// a character of their own alphabet, those of SentencePiece a space as `▁`.
    pub fn token_str(&self, id: u32) -> Option<String> {
        self.full.id_to_token(id)
    }

    /// The tokenizer as `tokenizer.json` has it, for a program that makes the same tokens elsewhere. What was in a GGUF file is written
    /// in this form as well. What [`encode_prompt`](Self::encode_prompt) puts around a whole prompt is not in it.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn to_json(&self) -> Result<String> {
        self.full.to_string(false).map_err(|e| Error::Tokenizer { reason: e.to_string() })
    }

    /// The id of a token as the vocabulary writes it.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.full.token_to_id(token)
    }
}

/// Whether some bytes have no token in a tokenizer.json.
pub(crate) fn lacks_bytes(file: &serde_json::Value) -> bool {
    Kind::of(file).is_ok_and(|kind| !check::missing_bytes(file, kind).is_empty())
}

fn encode(tokenizer: &tokenizers::Tokenizer, text: &str) -> Result<Vec<u32>> {
    let encoding =
        tokenizer.encode_fast(text, false).map_err(|e| Error::Tokenizer { reason: e.to_string() })?;
    Ok(encoding.get_ids().to_vec())
}
