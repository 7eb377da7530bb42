//! Settings that the Python library reads from the environment, by the same names.

use std::fmt;
use std::path::PathBuf;

use lb_io::files::{WORD, read_text_at_most};

use super::Network;
use super::expand::{Process, STYLE, expand};
use crate::{Error, Result};

const ENDPOINT: &str = "https://huggingface.co";

/// A secret. `Debug` does not show it.
#[derive(Clone)]
pub(super) struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(hidden)")
    }
}

impl Token {
    pub(super) fn new(text: &str) -> Self {
        lb_io::secrets::remember(text.trim());
        Self(text.trim().to_string())
    }

    /// The text, for the request that carries it.
    pub(super) fn reveal(&self) -> Result<&str> {
        if !self.0.is_empty() && self.0.chars().all(|c| c.is_ascii_graphic()) {
            return Ok(&self.0);
        }
        let reason = "expected printable ASCII without spaces".to_string();
        Err(Error::Config { field: "token", value: "(hidden)".to_string(), reason })
    }
}

fn var(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn is_on(name: &str) -> bool {
    var(name).is_some_and(|v| matches!(v.to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE"))
}

pub(super) fn endpoint() -> String {
    var("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_string())
}

pub(super) fn network() -> Network {
    let named = var("HF_HUB_OFFLINE").map_or("TRANSFORMERS_OFFLINE", |_| "HF_HUB_OFFLINE");
    if is_on(named) { Network::Offline } else { Network::CacheFirst }
}

/// The path in a variable, `~` and variables in it expanded; `below` is joined to it first. `None` where it is not set.
fn path(name: &'static str, below: &str) -> Result<Option<PathBuf>> {
    let Some(value) = std::env::var_os(name).filter(|value| !value.is_empty()) else { return Ok(None) };
    let value = PathBuf::from(value);
    let joined = if below.is_empty() { value } else { value.join(below) };
    // What is no Unicode holds nothing to expand.
    let Some(text) = joined.to_str() else { return Ok(Some(joined)) };
    match expand(text, STYLE, &Process) {
        Ok(path) => Ok(Some(path.into())),
        Err(reason) => Err(Error::Config { field: name, value: text.to_string(), reason }),
    }
}

/// `HF_HOME`, or the default beside the user's other caches.
fn home() -> Result<Option<PathBuf>> {
    if let Some(home) = path("HF_HOME", "")? {
        return Ok(Some(home));
    }
    let user_cache = path("XDG_CACHE_HOME", "huggingface")?;
    Ok(user_cache.or_else(|| Some(std::env::home_dir()?.join(".cache").join("huggingface"))))
}

pub(super) fn cache_dir() -> Result<PathBuf> {
    for name in ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"] {
        if let Some(folder) = path(name, "")? {
            return Ok(folder);
        }
    }
    home()?.map(|home| home.join("hub")).ok_or_else(|| Error::Config {
        field: "cache_dir",
        value: String::new(),
        reason: "expected a home folder, HF_HOME or HF_HUB_CACHE".to_string(),
    })
}

/// `HF_TOKEN`, or the file that `hf auth login` writes.
pub(super) fn token() -> Result<Option<Token>> {
    if is_on("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
        return Ok(None);
    }
    let text = match var("HF_TOKEN").or_else(|| var("HUGGING_FACE_HUB_TOKEN")) {
        Some(text) => Some(text),
        None => match path("HF_TOKEN_PATH", "")? {
            Some(file) => read_text_at_most(file, WORD).ok(),
            // A home that cannot be made out is told where the cache is looked for.
            None => home().ok().flatten().and_then(|home| read_text_at_most(home.join("token"), WORD).ok()),
        },
    };
    Ok(text.filter(|text| !text.trim().is_empty()).map(|text| Token::new(&text)))
}
