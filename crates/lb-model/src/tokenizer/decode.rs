//! Tokens to text.

use super::Tokenizer;
use super::alphabet::{char_byte, fallback_byte};
use super::kind::Kind;
use crate::Result;

impl Tokenizer {
    /// The text of `ids`, control tokens included. Bytes that are not UTF-8 become U+FFFD; ids without a token
    /// (models pad their vocabulary) are nothing.
    ///
    /// The text is that of transformers' `decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)`
    /// with two differences. An added token with characters beyond ASCII is its own text here, where transformers
    /// sends it through the byte-level alphabet. And where a run of byte-fallback tokens is not UTF-8 as a whole, its
    /// valid characters are kept here and its other bytes are U+FFFD each, where transformers gives up the whole run.
    ///
    /// # Errors
    /// None today; a `Result` so that other tokenizers fit.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        Ok(self.pieces(ids).concat())
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
                if !(end == 1 && c == ' ' && self.kind.strips_first_space()) {
                    pieces[owner[end - 1]].push(c);
                }
            }
            for end in self.replaced(end, chunk.invalid().len()) {
                pieces[owner[end - 1]].push(char::REPLACEMENT_CHARACTER);
            }
            end += chunk.invalid().len();
        }
        pieces
    }

    /// Turns tokens into text one by one.
    pub fn stream(&self) -> TextStream<'_> {
        TextStream { tokenizer: self, pending: Vec::new(), delta: String::new(), started: false }
    }

    /// The bytes a token stands for.
    pub(crate) fn token_bytes(&self, id: u32) -> Vec<u8> {
        let Some(token) = self.full.id_to_token(id) else { return Vec::new() };
        match &self.kind {
            Kind::ByteLevel if self.added_ids.contains(&id) => token.into_bytes(),
            Kind::ByteLevel => {
                token.chars().map(char_byte).collect::<Option<_>>().unwrap_or_else(|| token.into_bytes())
            }
            Kind::SentencePiece { .. } => match fallback_byte(&token) {
                Some(byte) => vec![byte],
                None => token.replace('▁', " ").into_bytes(),
            },
        }
    }

    /// Where U+FFFD goes for `len` bytes behind `start` that are not UTF-8: one for all of them (they are the start of
    /// one character) in byte-level text, one for each with byte fallback.
    fn replaced(&self, start: usize, len: usize) -> impl Iterator<Item = usize> + use<> {
        let step = if self.kind == Kind::ByteLevel { len.max(1) } else { 1 };
        (0..len).step_by(step).map(move |i| start + (i + step).min(len))
    }
}

/// Tokens in, complete characters out. See [`Tokenizer::stream`].
///
/// The deltas of some tokens, joined, are what [`Tokenizer::decode`] gives for them, but for an unfinished character
/// at the end, which still waits.
#[derive(Debug, Clone)]
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    pending: Vec<u8>,
    delta: String,
    started: bool,
}

impl TextStream<'_> {
    /// The text that `token` completes. An unfinished character waits; bytes that can never be one are U+FFFD.
    pub fn push(&mut self, token: u32) -> &str {
        self.pending.extend(self.tokenizer.token_bytes(token));
        if !self.started && !self.pending.is_empty() {
            self.started = true;
            if self.pending[0] == b' ' && self.tokenizer.kind.strips_first_space() {
                self.pending.remove(0);
            }
        }
        self.delta.clear();
        let mut rest = Vec::new();
        let mut consumed = 0;
        for chunk in self.pending.utf8_chunks() {
            self.delta.push_str(chunk.valid());
            let invalid = chunk.invalid();
            consumed += chunk.valid().len() + invalid.len();
            let unfinished = consumed == self.pending.len()
                && std::str::from_utf8(invalid).is_err_and(|e| e.error_len().is_none());
            if unfinished {
                rest = invalid.to_vec();
            } else {
                let replaced = self.tokenizer.replaced(0, invalid.len());
                self.delta.extend(replaced.map(|_| char::REPLACEMENT_CHARACTER));
            }
        }
        self.pending = rest;
        &self.delta
    }
}
