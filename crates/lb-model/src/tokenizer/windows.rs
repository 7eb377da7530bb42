//! Long texts from outside, encoded window by window: what is too long ends early, and who waits can call it off.
//!
//! A text is cut only where the pre-tokenizer cuts it anyway, between a letter or digit and a sign behind it: no run of
//! white space, of digits or of combining marks goes over such a place, so that both sides give the tokens that they give
//! together.

use tokenizers::{
    NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
};

use super::{Tokenizer, encode};
use crate::{Error, RenderedPiece, Result};

/// Bytes at a time: a few milliseconds.
const WINDOW: usize = 16 << 10;
/// Bytes of one window at most. A run of letters that is longer is cut between two of them.
const LONGEST: usize = 64 << 10;
/// What a pre-tokenizer must have seen behind a place that it is cut at.
const BEHIND: usize = 64;

/// The tokens of a text up to some byte.
struct Read {
    ids: Vec<u32>,
    bytes: usize,
}

impl Tokenizer {
    /// Encodes a document as [`encode_text`](Self::encode_text) does, to the token, as long as it is at most `most` tokens
    /// and `go_on`, asked every few milliseconds between two windows, says so. Memory is that of one window of at most 64 KiB and of the tokens.
    /// Only a run of letters or digits that is longer than a window may have other tokens where one window ends.
    ///
    /// # Errors
    /// [`Error::TooManyTokens`], found without reading on; [`Error::Interrupted`] where `go_on` returns false; those of
    /// [`encode_text`](Self::encode_text).
    pub fn encode_text_within(
        &self,
        text: &str,
        most: usize,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<u32>> {
        let Read { ids, bytes } = self.windows(text, WINDOW, most, go_on)?;
        if bytes < text.len() || ids.len() > most {
            return Err(Error::TooManyTokens { bytes: text.len(), most });
        }
        Ok(ids)
    }

    /// The first tokens of a document, at most `most`, and how many all of it has: counted up to `count`, estimated from
    /// what was read beyond. Otherwise like [`encode_text_within`](Self::encode_text_within).
    ///
    /// # Errors
    /// [`Error::Interrupted`]; those of [`encode_text`](Self::encode_text).
    pub fn encode_text_start(
        &self,
        text: &str,
        most: usize,
        count: usize,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<(Vec<u32>, usize)> {
        let Read { mut ids, bytes } = self.windows(text, WINDOW, most.max(count), go_on)?;
        let share = text.len() as f64 / bytes.max(1) as f64;
        let all = (ids.len() as f64 * share).round() as usize;
        ids.truncate(most);
        Ok((ids, all))
    }

    /// Encodes pieces as [`encode_pieces`](Self::encode_pieces) does, within the bounds of
    /// [`encode_text_within`](Self::encode_text_within).
    ///
    /// # Errors
    /// Those of both.
    pub fn encode_pieces_within(
        &self,
        pieces: &[RenderedPiece],
        most: usize,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<u32>> {
        let too_many = || {
            let bytes = |piece: &RenderedPiece| match piece {
                RenderedPiece::Control(text) | RenderedPiece::Text(text) => text.len(),
            };
            Error::TooManyTokens { bytes: pieces.iter().map(bytes).sum(), most }
        };
        let mut windowed = |first: &tokenizers::Tokenizer, text: &str, ids: &mut Vec<u32>| {
            let left = most.checked_sub(ids.len()).ok_or_else(too_many)?;
            let begun = self.first_window(first, text, WINDOW)?;
            ids.extend(encode(first, &text[..begun])?);
            let Read { ids: more, bytes } = self.windows(&text[begun..], WINDOW, left, go_on)?;
            if begun + bytes < text.len() {
                return Err(too_many());
            }
            ids.extend(more);
            Ok(())
        };
        let ids = self.encode_pieces_by(pieces, &mut windowed)?;
        if ids.len() > most { Err(too_many()) } else { Ok(ids) }
    }

    /// Windows of any size, for tests of their seams.
    #[doc(hidden)]
    pub fn encode_text_in_windows(&self, text: &str, window: usize) -> Result<Vec<u32>> {
        Ok(self.windows(text, window, usize::MAX, &mut || true)?.ids)
    }

    fn windows(
        &self,
        text: &str,
        window: usize,
        most: usize,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Read> {
        let plain = self.inner.as_ref().unwrap_or(&self.section);
        let (mut ids, mut bytes) = (Vec::new(), 0);
        while bytes < text.len() && ids.len() <= most {
            if bytes > 0 && !go_on() {
                return Err(Error::Interrupted);
            }
            let end = bytes + self.first_window(plain, &text[bytes..], window)?;
            ids.extend(encode(plain, &text[bytes..end])?);
            bytes = end;
        }
        Ok(Read { ids: self.embedded(ids)?, bytes })
    }

    /// Bytes of the text that are encoded apart from what follows.
    fn first_window(&self, plain: &tokenizers::Tokenizer, text: &str, window: usize) -> Result<usize> {
        let mut size = window;
        loop {
            let end = text.floor_char_boundary(size);
            if end == text.len() {
                return Ok(end);
            }
            if let Some(cut) = self.last_cut(plain, &text[..end])? {
                return Ok(cut);
            }
            if size >= LONGEST {
                return Ok(end);
            }
            size = (2 * size).min(LONGEST);
        }
    }

    fn last_cut(&self, plain: &tokenizers::Tokenizer, text: &str) -> Result<Option<usize>> {
        let far = text.len().saturating_sub(BEHIND);
        let parts = starts(plain, text)?;
        if parts.len() > 1 {
            return Ok(parts.into_iter().rev().find(|at| *at <= far && is_seam(text, *at)));
        }
        // Without a pre-tokenizer merges know no bounds but those of the vocabulary.
        if self.words_begin_with_spaces() {
            return Ok(text[..text.floor_char_boundary(far)]
                .rmatch_indices(' ')
                .map(|(at, _)| at)
                .find(|at| is_seam(text, *at)));
        }
        Ok(None)
    }

    /// Whether no token has `▁` behind another character, so that a space between words ends every merge.
    fn words_begin_with_spaces(&self) -> bool {
        let inside = |token: &String| token.trim_start_matches('▁').contains('▁');
        !self.full.get_vocab(false).keys().any(inside)
    }
}

/// Where the pre-tokenizer's pieces begin, in bytes of the text.
fn starts(plain: &tokenizers::Tokenizer, text: &str) -> Result<Vec<usize>> {
    let failed = |error: tokenizers::Error| Error::Tokenizer { reason: error.to_string() };
    let mut normal = NormalizedString::from(text);
    if let Some(normalizer) = plain.get_normalizer() {
        normalizer.normalize(&mut normal).map_err(failed)?;
    }
    let mut pieces = PreTokenizedString::from(normal);
    if let Some(splitter) = plain.get_pre_tokenizer() {
        splitter.pre_tokenize(&mut pieces).map_err(failed)?;
    }
    let splits = pieces.get_splits(OffsetReferential::Original, OffsetType::Byte);
    Ok(splits.into_iter().map(|(_, (start, _), _)| start).collect())
}

/// Whether a letter or digit stands before `at`, and a sign behind it.
fn is_seam(text: &str, at: usize) -> bool {
    let Some((before, behind)) = text.split_at_checked(at) else { return false };
    before.chars().next_back().is_some_and(char::is_alphanumeric)
        && behind.chars().next().is_some_and(is_sign)
}

/// White space and punctuation that nothing combines with.
fn is_sign(c: char) -> bool {
    match c {
        '\u{3001}'..='\u{3003}'
        | '\u{3008}'..='\u{3011}'
        | '！'
        | '，'
        | '．'
        | '：'
        | '；'
        | '？'
        | '（'
        | '）' => true,
        other => other.is_ascii() && !other.is_ascii_alphanumeric(),
    }
}
