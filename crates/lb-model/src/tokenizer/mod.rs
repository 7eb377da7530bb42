//! Text to tokens and back, with documents kept apart from control tokens.

mod alphabet;
mod check;
mod decode;
mod kind;
mod load;
mod variants;

use std::collections::HashSet;

use crate::template::{RenderedPiece, SpecialTokens};
use crate::{Error, ModelConfig, Result};

pub use decode::TextStream;
use kind::{Kind, Prefix};

/// A BPE tokenizer as `tokenizer.json` describes it: byte-level (Qwen, Llama 3, Mistral's Tekken) or in the style of
/// SentencePiece with byte fallback (Llama 2, Mistral up to v0.3).
///
/// It is kept as written and without its added tokens. The second one encodes documents: whatever a document contains,
/// `<|im_end|>` included, stays plain text. Every byte has a token, so no text is ever lost or unknown.
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
}

/// A token that is looked for in trusted text before anything else.
#[derive(Debug, Clone)]
struct Added {
    id: u32,
    content: String,
    /// It takes the white space before or behind it along.
    strips: (bool, bool),
}

impl Tokenizer {
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

    /// Encodes a document, or a part of one, that stands somewhere in a prompt. Added tokens (`<|im_end|>`, `<think>`,
    /// ...) in it stay plain text, always.
    ///
    /// Encoded apart, a document shares no token with the text around it. Where that text ends in a space or goes on
    /// without one, transformers, which encodes the whole, may have one token in the place of two.
    /// [`ChatTemplate::encode_conversation`](crate::ChatTemplate::encode_conversation) has no such seams.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn encode_text(&self, text: &str) -> Result<Vec<u32>> {
        encode(self.inner.as_ref().unwrap_or(&self.section), text)
    }

    /// Encodes trusted text that stands somewhere in a prompt, such as the parts of a chat template: control tokens
    /// are recognised.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn encode_template(&self, text: &str) -> Result<Vec<u32>> {
        let Some(inner) = &self.inner else { return encode(&self.full, text) };
        let first = self.added.iter().filter_map(|token| Some((text.find(&token.content)?, token)));
        let Some((at, token)) = first.min_by_key(|(at, _)| *at) else { return encode(inner, text) };
        let before = if token.strips.0 { text[..at].trim_end() } else { &text[..at] };
        let mut ids = encode(inner, before)?;
        ids.extend(encode(&self.full, &text[at..])?);
        Ok(ids)
    }

    /// Encodes a whole prompt as transformers' `tokenizer(text)` does: control tokens are recognised, and the tokens
    /// that open or close every text (`<|begin_of_text|>`, `<s>`) are added. For trusted text.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>> {
        let (before, behind) = &self.around;
        let text = encode(&self.full, text)?;
        Ok([before.as_slice(), &text, behind].concat())
    }

    /// Encodes what [`ChatTemplate::render_pieces`](crate::ChatTemplate::render_pieces) gives, which is a prompt from
    /// its start.
    ///
    /// # Errors
    /// [`Error::Tokenizer`]; [`Error::Template`] for a control token that is not one of this tokenizer.
    pub fn encode_pieces(&self, pieces: &[RenderedPiece]) -> Result<Vec<u32>> {
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
                    ids.extend(encode(plain, text)?);
                }
            }
        }
        Ok(ids)
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

    /// The id of a token as the vocabulary writes it.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.full.token_to_id(token)
    }
}

fn encode(tokenizer: &tokenizers::Tokenizer, text: &str) -> Result<Vec<u32>> {
    let encoding =
        tokenizer.encode_fast(text, false).map_err(|e| Error::Tokenizer { reason: e.to_string() })?;
    Ok(encoding.get_ids().to_vec())
}
