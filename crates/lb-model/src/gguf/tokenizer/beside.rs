//! The tokenizer.json beside a file whose metadata do not tell how text becomes tokens.

use std::borrow::Cow;

use serde_json::Value;

use super::TOKENS;
use crate::checkpoint::read_file;
use crate::config::read_json;
use crate::gguf::Gguf;
use crate::{Error, Result};

impl Gguf {
    /// Its content, `None` where there is no such file.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Json`]; [`Error::Corrupt`] where it lists other tokens than the metadata do: the tokenizer
    /// of another model.
    pub(super) fn tokenizer_beside(&self) -> Result<Option<Cow<'static, [u8]>>> {
        let path = self.path.with_file_name("tokenizer.json");
        let Some(bytes) = read_file(path.clone())? else { return Ok(None) };
        let json: Value = read_json(&bytes, &path)?;
        let listed = self.strings(TOKENS)?.unwrap_or_default();
        let vocab = json["model"]["vocab"].as_object().into_iter().flatten();
        let vocab = vocab.map(|(text, id)| (id.as_u64(), text.as_str()));
        let added = json["added_tokens"].as_array().into_iter().flatten();
        let added = added.map(|token| (token["id"].as_u64(), token["content"].as_str().unwrap_or_default()));
        for (id, text) in vocab.chain(added) {
            let id = id.and_then(|id| usize::try_from(id).ok());
            let Some((id, other)) = id.and_then(|id| Some((id, *listed.get(id)?))) else { continue };
            // Converters write some control tokens without the white space around them.
            if other.trim() != text.trim() {
                let file = self.path.file_name().unwrap_or_default().to_string_lossy();
                let reason = format!(
                    "the token {id} is {text:?} here and {other:?} in {file}: the tokenizer of another model"
                );
                return Err(Error::Corrupt { path, reason });
            }
        }
        Ok(Some(bytes))
    }
}
