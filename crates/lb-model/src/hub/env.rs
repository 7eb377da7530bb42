//! Settings that the Python library reads from the environment, by the same names.

use std::fmt;
use std::fs;
use std::path::PathBuf;

use super::Network;
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
    if is_on("HF_HUB_OFFLINE") { Network::Offline } else { Network::CacheFirst }
}

/// `HF_HOME`, or the default beside the user's other caches.
fn home() -> Option<PathBuf> {
    let user_cache = || {
        let cache = var("XDG_CACHE_HOME").map(PathBuf::from);
        cache.or_else(|| Some(std::env::home_dir()?.join(".cache")))
    };
    var("HF_HOME").map(PathBuf::from).or_else(|| Some(user_cache()?.join("huggingface")))
}

pub(super) fn cache_dir() -> Result<PathBuf> {
    let direct = var("HF_HUB_CACHE").or_else(|| var("HUGGINGFACE_HUB_CACHE")).map(PathBuf::from);
    direct.or_else(|| Some(home()?.join("hub"))).ok_or_else(|| Error::Config {
        field: "cache_dir",
        value: String::new(),
        reason: "expected a home folder, HF_HOME or HF_HUB_CACHE".to_string(),
    })
}

/// `HF_TOKEN`, or the file that `hf auth login` writes.
pub(super) fn token() -> Option<Token> {
    if is_on("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
        return None;
    }
    let from_file = || {
        let path = var("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| Some(home()?.join("token")))?;
        fs::read_to_string(path).ok()
    };
    let text = var("HF_TOKEN").or_else(|| var("HUGGING_FACE_HUB_TOKEN")).or_else(from_file)?;
    (!text.trim().is_empty()).then(|| Token::new(&text))
}
