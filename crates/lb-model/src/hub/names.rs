//! Names from users, indexes and servers, checked before they become part of a URL or a path.

use std::fmt;
use std::path::Path;

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

    /// The path of the address that describes one of its revisions.
    pub(super) fn api_url(&self, revision: &str) -> String {
        let kind = if self.is_dataset() { "datasets" } else { "models" };
        format!("{kind}/{}/revision/{}", self.name, escaped(revision))
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

/// What a name says: a repository, a revision of it, one of its GGUF files.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Name<'n> {
    pub(super) repository: String,
    pub(super) revision: Option<&'n str>,
    pub(super) choice: Option<Choice>,
}

/// Which GGUF file of a repository is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Choice {
    /// By the end of its name, `Q4_K_M`, in any case.
    Tag(String),
    /// By its path in the repository.
    File(String),
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::File(file) => f.write_str(file),
        }
    }
}

/// Addresses of the hub that people copy instead of a name.
const ADDRESSES: [&str; 6] = [
    "https://huggingface.co/",
    "http://huggingface.co/",
    "https://hf.co/",
    "huggingface.co/",
    "hf.co/",
    "hf://",
];

/// Reads `name`, `org/name`, `org/name:TAG` and `org/name/FILE.gguf`, each with `@revision` if wanted, and addresses of
/// pages on the hub.
pub(super) fn parse(text: &str) -> Result<Name<'_>> {
    let expected = "`org/name`, `name`, `org/name:TAG` or `org/name/FILE.gguf`, with `@revision` if wanted, of letters, \
                    digits, `-_.`";
    let refused = || refuse("repository", text, expected);
    let plain = ADDRESSES.iter().find_map(|address| text.strip_prefix(address)).unwrap_or(text);
    let (before, revision) =
        plain.split_once('@').map_or((plain, None), |(name, revision)| (name, Some(revision)));
    let (path, tag) = before.split_once(':').map_or((before, None), |(path, tag)| (path, Some(tag)));
    // The tag may also stand behind the revision.
    let (revision, tag) = match (revision.and_then(|revision| revision.split_once(':')), tag) {
        (Some(_), Some(_)) => return Err(refused()),
        (Some((revision, tag)), None) => (Some(revision), Some(tag)),
        (None, tag) => (revision, tag),
    };
    let mut parts: Vec<&str> = path.split('/').collect();
    let mut page = None;
    if plain.len() < text.len() {
        let shown = parts
            .iter()
            .position(|part| ["tree", "blob", "resolve"].contains(part))
            .filter(|at| (1..3).contains(at));
        if let Some(at) = shown.filter(|at| parts.len() > at + 1) {
            page = Some(parts.remove(at + 1));
            parts.remove(at);
        }
    }
    let file = (parts.len() > 2).then(|| parts.split_off(2).join("/"));
    if !parts.iter().all(|part| is_repository_part(part)) {
        return Err(refused());
    }
    let choice = match (file, tag) {
        (None, None) => None,
        (Some(file), None) if is_gguf(&file) => {
            check_file(&file)?;
            Some(Choice::File(file))
        }
        (None, Some(tag)) if is_gguf(tag) && check_file(tag).is_ok() => Some(Choice::File(tag.to_string())),
        (None, Some(tag)) if is_key(tag) => Some(Choice::Tag(tag.to_string())),
        _ => return Err(refused()),
    };
    let revision = revision.or(page);
    revision.map(check_revision).transpose()?;
    Ok(Name { repository: parts.join("/"), revision, choice })
}

pub(super) fn is_gguf(file: &str) -> bool {
    file.len() > 5 && file.as_bytes()[file.len() - 5..].eq_ignore_ascii_case(b".gguf")
}

/// Whether a path that leads nowhere is a name that the hub may be asked for. What is plainly a file is not: `model.gguf`,
/// or a file in a folder that is there.
pub(super) fn may_be_repository(path: &Path) -> bool {
    const FILES: [&str; 10] =
        ["gguf", "safetensors", "json", "jinja", "ggml", "onnx", "bin", "pt", "pth", "txt"];
    let Some(name) = path.to_str().and_then(|text| parse(text).ok()) else { return false };
    let ends_as_file = |part: &str| {
        part.rsplit_once('.').is_some_and(|(_, end)| FILES.contains(&end.to_ascii_lowercase().as_str()))
    };
    match name.choice {
        Some(Choice::File(_)) => !path.parent().is_some_and(Path::is_dir),
        // `C:name` is a path on another system.
        Some(Choice::Tag(_)) if name.repository.len() == 1 => false,
        _ => !ends_as_file(&name.repository),
    }
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

/// A revision in a URL.
pub(super) fn escaped(revision: &str) -> String {
    revision.replace('/', "%2F")
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
