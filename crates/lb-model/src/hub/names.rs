//! Names from users, indexes and servers, checked before they become part of a URL or a path.

use std::fmt;

use hf_hub::{Repo, RepoType};

use crate::{Error, Result};

const MAX_PART: usize = 96;
const MAX_NAME: usize = 255;
/// Formats that run code when they are read.
const PICKLES: [&str; 6] = ["bin", "pt", "pth", "ckpt", "pkl", "pickle"];

/// A repository by kind and checked name. Data sets have addresses and cache folders of their own.
#[derive(Debug, Clone)]
pub(super) struct Repository {
    kind: RepoType,
    name: String,
}

impl Repository {
    pub(super) fn model(name: &str) -> Self {
        Self { kind: RepoType::Model, name: name.to_string() }
    }

    pub(super) fn dataset(name: &str) -> Self {
        Self { kind: RepoType::Dataset, name: name.to_string() }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn is_dataset(&self) -> bool {
        matches!(self.kind, RepoType::Dataset)
    }

    /// As `hf_hub` has it, at one revision.
    pub(super) fn at(&self, revision: &str) -> Repo {
        Repo::with_revision(self.name.clone(), self.kind, revision.to_string())
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_dataset() { "datasets/" } else { "" };
        write!(f, "{kind}{}", self.name)
    }
}

/// Splits `org/name` or `org/name@revision`.
pub(crate) fn parse(text: &str) -> Result<(&str, Option<&str>)> {
    let (repository, revision) = match text.split_once('@') {
        Some((repository, revision)) => (repository, Some(revision)),
        None => (text, None),
    };
    let parts: Vec<&str> = repository.split('/').collect();
    if parts.len() != 2 || !parts.iter().all(|part| is_repository_part(part)) {
        return Err(refuse(
            "repository",
            text,
            "`org/name` or `org/name@revision`, of letters, digits, `-_.`",
        ));
    }
    revision.map(check_revision).transpose()?;
    Ok((repository, revision))
}

/// The hub's own rules for the name of an organisation or a model.
fn is_repository_part(part: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    part.len() <= MAX_PART
        && edge(part.chars().next())
        && edge(part.chars().last())
        && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        && !part.contains("--")
        && !part.contains("..")
}

pub(super) fn check_revision(revision: &str) -> Result<()> {
    if is_relative_path(revision, "-_.+") {
        return Ok(());
    }
    Err(refuse("revision", revision, "a branch, a tag or a commit, of letters, digits, `-_.+/`"))
}

pub(super) fn check_file(file: &str) -> Result<()> {
    if !is_relative_path(file, "-_.+=") {
        return Err(refuse("file", file, "a path inside the repository, of letters, digits, `-_.+=/`"));
    }
    match file.rsplit_once('.') {
        Some((_, end)) if PICKLES.contains(&end.to_ascii_lowercase().as_str()) => {
            Err(refuse("file", file, "safetensors, GGUF, JSON or text; pickled weights are never fetched"))
        }
        _ => Ok(()),
    }
}

/// Whether an index may name this shard: a safetensors file beside the index.
pub(super) fn is_shard(name: &str) -> bool {
    !name.contains('/') && name.ends_with(".safetensors") && check_file(name).is_ok()
}

/// An etag or a commit, which becomes the name of a file or a folder of the cache.
pub(super) fn is_key(key: &str) -> bool {
    !key.contains('/') && is_relative_path(key, "-_.+=")
}

pub(super) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'))
}

fn is_relative_path(path: &str, also: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || also.contains(c))
    };
    path.len() <= MAX_NAME && path.split('/').all(part)
}

fn refuse(field: &'static str, value: &str, expected: &str) -> Error {
    let value = value.escape_debug().take(MAX_PART).collect();
    Error::Config { field, value, reason: format!("expected {expected}") }
}
