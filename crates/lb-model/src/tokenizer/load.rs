//! From files to a [`Tokenizer`].

use std::collections::HashSet;
use std::path::Path;

use lb_io::files::{SETTINGS, VOCABULARY, read_at_most};
use serde_json::{Map, Value};

use super::kind::{Kind, Prefix};
use super::{Added, Tokenizer, check, variants};
use crate::config::read_json;
use crate::template::SpecialTokens;
use crate::{Error, Result};

impl Tokenizer {
    /// Reads `tokenizer.json` from a folder, and `tokenizer_config.json` where there is one. `path` is the folder or a
    /// file in it.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Json`], [`Error::UnsupportedConfig`] with the field that is not supported or malformed,
    /// [`Error::Tokenizer`].
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let folder = if path.is_file() { path.parent().unwrap_or(path) } else { path };
        let file = folder.join("tokenizer.json");
        let json =
            read_at_most(&file, VOCABULARY).map_err(|source| Error::Io { path: file.clone(), source })?;
        let tokenizer = Self::parse(&json, &file)?;
        let file = folder.join("tokenizer_config.json");
        match read_at_most(&file, SETTINGS) {
            Ok(json) => Ok(tokenizer.with_config(&read_json(&json, &file)?)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(tokenizer),
            Err(source) => Err(Error::Io { path: file, source }),
        }
    }

    /// Reads `tokenizer.json`. `path` is only named in errors.
    pub(crate) fn parse(json: &[u8], path: &Path) -> Result<Self> {
        let file: Value = read_json(json, path)?;
        let kind = Kind::of(&file)?;
        check::check(&file, kind)?;
        let added: Vec<Added> = file["added_tokens"].as_array().into_iter().flatten().map(added).collect();
        // White space, as Gemma has tokens for line ends and for runs of spaces, is text like any other.
        let controls = added.iter().filter(|token| !token.blank);
        let names: Vec<String> = controls.map(|token| token.content.clone()).collect();
        let hidden: HashSet<&str> = names.iter().map(String::as_str).collect();
        let missing = check::missing_bytes(&file, kind);
        let written = variants::full(file.clone());
        let full = build(&written)?;
        check::check_ids(&file, &full)?;
        let around = check::around(&file, &full)?;
        let plain = variants::without_added(written, &hidden);
        check::check(&plain, kind)?;
        let section = build(&plain)?;
        let inner = match kind.prefix() {
            Prefix::Never => None,
            Prefix::First | Prefix::EverySection => Some(build(&variants::without_prefix(plain))?),
        };
        let added_ids = added.iter().map(|token| token.id).collect();
        let (special, eos) = (SpecialTokens::new(), Vec::new());
        let embeddings = usize::MAX;
        Ok(Self {
            full,
            section,
            inner,
            kind,
            added,
            names,
            added_ids,
            special,
            around,
            eos,
            embeddings,
            missing,
        })
    }

    /// Takes over the special tokens of `tokenizer_config.json`. What is added to every prompt is the post-processor's
    /// business alone, as in transformers, which leaves `add_bos_token` aside where there is a `tokenizer.json`.
    pub(crate) fn with_config(mut self, config: &Map<String, Value>) -> Self {
        for (name, value) in config.iter().filter(|(name, _)| name.ends_with("_token")) {
            let content = value.as_str().or_else(|| value.get("content")?.as_str());
            if let Some(content) = content {
                self.special.insert(name.clone(), content.to_string());
            }
        }
        self
    }
}

fn added(token: &Value) -> Added {
    let content = token["content"].as_str().unwrap_or_default();
    let is_blank = |c: char| c.is_whitespace() || c == '\u{2581}';
    Added {
        id: token["id"].as_u64().unwrap_or_default() as u32,
        content: content.to_string(),
        blank: token["special"] == false && content.chars().all(is_blank),
        strips: (token["lstrip"] == true, token["rstrip"] == true),
    }
}

fn build(json: &Value) -> Result<tokenizers::Tokenizer> {
    tokenizers::Tokenizer::from_bytes(json.to_string().as_bytes())
        .map_err(|e| Error::Tokenizer { reason: e.to_string() })
}
