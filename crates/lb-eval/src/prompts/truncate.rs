//! Prompts cut in the middle.

use lb_model::Tokenizer;

use crate::{Error, Result};

/// Text to tokens and back.
pub trait Codec {
    /// Tokens of a text, without those that open or close every prompt.
    ///
    /// # Errors
    /// Those of the tokenizer.
    fn encode(&self, text: &str) -> Result<Vec<u32>>;

    /// The text of tokens.
    ///
    /// # Errors
    /// Those of the tokenizer.
    fn decode(&self, tokens: &[u32]) -> Result<String>;
}

impl Codec for Tokenizer {
    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        Ok(self.encode_text(text)?)
    }

    fn decode(&self, tokens: &[u32]) -> Result<String> {
        Ok(Tokenizer::decode(self, tokens)?)
    }
}

/// A prompt within its limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truncated {
    /// The prompt.
    pub text: String,
    /// Its tokens before it was cut.
    pub tokens: usize,
    /// Tokens that were taken out of its middle; 0 where it fitted.
    pub removed: usize,
}

/// Cuts a prompt to `limit` tokens: the first half and the last half of the limit, decoded together. Of an odd limit the
/// last part gets the odd token, as in the published script (`ids[:n//2] + ids[-n//2:]`, where Python rounds `-n//2`
/// down). A prompt that fits is returned as it is.
///
/// # Errors
/// [`Error::Config`] for a limit of 0; what the codec returns.
pub fn truncate(prompt: &str, limit: usize, codec: &dyn Codec) -> Result<Truncated> {
    if limit == 0 {
        return Err(Error::config("limit", limit, "want at least 1 token"));
    }
    let ids = codec.encode(prompt)?;
    let tokens = ids.len();
    if tokens <= limit {
        return Ok(Truncated { text: prompt.to_owned(), tokens, removed: 0 });
    }
    let (first, last) = (limit / 2, limit.div_ceil(2));
    let kept = [&ids[..first], &ids[tokens - last..]].concat();
    Ok(Truncated { text: codec.decode(&kept)?, tokens, removed: tokens - limit })
}
