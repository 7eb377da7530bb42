//! Which files a checkpoint needs, and for each of them: cache, link or download.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lb_io::files::{SETTINGS, read_at_most};
use serde::Deserialize;

use super::client::{Client, Head};
use super::failure::{Failure, Place, failure_of};
use super::layout::Layout;
use super::names::{check_file, check_revision, is_commit, is_shard};
use super::patience::Retries;
use super::{Hub, Network, env, transfer};
use crate::config::read_json;
use crate::{Error, Result};

pub(super) const CONFIG: &str = "config.json";
const REQUIRED: [&str; 2] = [CONFIG, "tokenizer.json"];
const OPTIONAL: [&str; 3] = ["generation_config.json", "tokenizer_config.json", "chat_template.jinja"];
pub(super) const SINGLE: &str = "model.safetensors";
pub(super) const INDEX: &str = "model.safetensors.index.json";
/// Below this a timeout could not tell a slow server from a fast one.
const MIN_TIMEOUT: Duration = Duration::from_millis(10);

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// What a checkpoint is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// A folder in the Hugging Face layout.
    Folder(PathBuf),
    /// A GGUF file, or the first part of one, and its path in the repository.
    Gguf(PathBuf, String),
}

/// One call's way through the files of a repository.
pub(super) struct Fetch<'h> {
    pub(super) hub: &'h Hub,
    pub(super) layout: Layout,
    pub(super) client: Option<Client>,
    /// What the revision stands for, once cache or server have said it.
    pub(super) commit: Option<String>,
    /// Files that came from the server in this call.
    pub(super) fetched: usize,
}

impl<'h> Fetch<'h> {
    pub(super) fn new(hub: &'h Hub) -> Result<Self> {
        check_revision(&hub.revision)?;
        if hub.timeout < MIN_TIMEOUT {
            let (value, reason) = (format!("{:?}", hub.timeout), format!("expected {MIN_TIMEOUT:?} or more"));
            return Err(Error::Config { field: "timeout", value, reason });
        }
        let cache_dir = hub.cache_dir.clone().map_or_else(env::cache_dir, Ok)?;
        let layout = Layout::new(cache_dir, &hub.repo, &hub.revision);
        let client = match hub.network {
            Network::Offline => None,
            _ => Some(Client::new(&hub.endpoint, hub.token.clone(), hub.timeout, hub.patience.clone())?),
        };
        let stale = hub.network == Network::Refresh && !is_commit(&hub.revision);
        let commit = if stale { None } else { layout.commit() };
        Ok(Self { hub, layout, client, commit, fetched: 0 })
    }

    pub(super) fn file(mut self, name: &str) -> Result<PathBuf> {
        let path = self.get(name)?;
        self.remember()?;
        Ok(path)
    }

    /// What a checkpoint needs: a snapshot's folder with all of it, or the GGUF file that the name chooses or that stands alone.
    pub(super) fn checkpoint(mut self) -> Result<Found> {
        if self.hub.repo.is_dataset() {
            let (value, reason) = (self.hub.repo.to_string(), "expected a model, not a data set".to_string());
            return Err(Error::Config { field: "repository", value, reason });
        }
        let found = match &self.hub.choice {
            Some(choice) => self.gguf(Some(choice))?,
            None => match self.folder() {
                Ok(folder) => Found::Folder(folder),
                Err(error) => self.gguf_instead(error)?,
            },
        };
        self.remember()?;
        Ok(found)
    }

    fn folder(&mut self) -> Result<PathBuf> {
        for file in REQUIRED {
            self.get(file)?;
        }
        self.weights()?;
        self.optional(&OPTIONAL)?;
        let config = self.get(CONFIG)?;
        Ok(config.parent().unwrap_or(&config).to_path_buf())
    }

    /// Only when all the rest came from the cache may the hub be out of reach: then the cache is the checkpoint.
    pub(super) fn optional(&mut self, files: &[&str]) -> Result<()> {
        let hub = self.hub;
        if let (0, Some(client)) = (self.fetched, &mut self.client) {
            // Nobody waits for a hub that is not needed.
            client.set_retries(Retries::NONE);
        }
        let done = self.each_optional(files);
        if let Some(client) = &mut self.client {
            client.set_retries(hub.patience.retries);
        }
        done
    }

    fn each_optional(&mut self, files: &[&str]) -> Result<()> {
        for file in files {
            match self.get(file) {
                Ok(_) => {}
                // A cache that cannot be written to is the checkpoint as well.
                Err(Error::Io { .. }) if self.fetched == 0 => return Ok(()),
                Err(error) => match failure_of(&error) {
                    Some(Failure::NoFile | Failure::NotCached { .. }) => {}
                    Some(Failure::Unreachable { .. } | Failure::TimedOut { .. } | Failure::Status { .. })
                        if self.fetched == 0 =>
                    {
                        return Ok(());
                    }
                    _ => return Err(error),
                },
            }
        }
        Ok(())
    }

    fn weights(&mut self) -> Result<()> {
        if self.cached(SINGLE).is_some() {
            return Ok(());
        }
        if self.cached(INDEX).is_none() {
            let Err(no_single) = self.get(SINGLE) else { return Ok(()) };
            if !is_missing(&no_single) {
                return Err(no_single);
            }
            match self.get(INDEX) {
                Err(no_index) if is_missing(&no_index) => return Err(no_single),
                index => index?,
            };
        }
        let index = self.get(INDEX)?;
        for shard in shards(&index)? {
            self.get(&shard)?;
        }
        Ok(())
    }

    pub(super) fn cached(&self, file: &str) -> Option<PathBuf> {
        self.layout.find(self.commit.as_deref()?, file)
    }

    /// The path of a file, from the cache or the server.
    pub(super) fn get(&mut self, file: &str) -> Result<PathBuf> {
        check_file(file)?;
        if let Some(path) = self.cached(file) {
            return Ok(path);
        }
        let place = self.place(file);
        if self.commit.as_deref().is_some_and(|commit| self.layout.is_absent(commit, file)) {
            return Err(place.error(Failure::NoFile));
        }
        let Some(client) = &self.client else {
            let cache = self.layout.cache().path().clone();
            return Err(place.error(Failure::NotCached { cache }));
        };
        let revision = self.commit.as_deref().unwrap_or(&self.hub.revision);
        let head = client.head(revision, self.commit.is_some(), &place);
        let head = head.inspect_err(|error| self.note_absence(error, &place))?;
        let path = self.take(&head, &place)?;
        self.commit = Some(head.commit);
        self.fetched += 1;
        Ok(path)
    }

    fn take(&self, head: &Head, place: &Place) -> Result<PathBuf> {
        if self.commit.as_ref().is_some_and(|commit| *commit != head.commit) {
            return Err(place.error(Failure::BadReply { header: "x-repo-commit" }));
        }
        if let Some(path) = self.layout.find(&head.commit, &place.file) {
            return Ok(path);
        }
        let blob = self.layout.blob(&head.etag);
        let whole = |blob: &Path| fs::metadata(blob).is_ok_and(|m| head.size.is_none_or(|s| s == m.len()));
        if !whole(&blob) {
            let _lock = self.layout.lock(&head.etag, self.hub.timeout, place)?;
            // Another process may have been first.
            if let (false, Some(client)) = (whole(&blob), &self.client) {
                let part = self.layout.part(&head.etag);
                transfer::fetch(client, head, (&part, &blob), place, &*self.hub.progress)?;
            }
        }
        self.layout.link(&head.etag, &head.commit, place)
    }

    /// Remembers that a commit lacks a file, so that the next call need not ask.
    fn note_absence(&self, error: &Error, place: &Place) {
        if let (true, Some(commit)) = (is_missing(error), &self.commit) {
            // Only a shortcut: without the mark the next call asks again.
            let _ = self.layout.mark_absent(commit, place);
        }
    }

    /// Lets the revision stand for the commit whose files are now in the cache.
    fn remember(&self) -> Result<()> {
        match &self.commit {
            Some(commit) if self.fetched > 0 && !is_commit(&self.hub.revision) => {
                self.layout.set_commit(commit, &self.place(CONFIG))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn place(&self, file: &str) -> Place {
        let Hub { repo, revision, .. } = self.hub;
        Place { repo: repo.clone(), revision: revision.clone(), file: file.to_string() }
    }
}

pub(super) fn is_missing(error: &Error) -> bool {
    matches!(failure_of(error), Some(Failure::NoFile))
}

/// The shards that an index names.
fn shards(index: &Path) -> Result<BTreeSet<String>> {
    let json =
        read_at_most(index, SETTINGS).map_err(|source| Error::Io { path: index.to_path_buf(), source })?;
    let shards: BTreeSet<String> = read_json::<Index>(&json, index)?.weight_map.into_values().collect();
    match shards.iter().find(|shard| !is_shard(shard)) {
        None => Ok(shards),
        Some(bad) => {
            let reason = format!("the shard {bad:?} is not a plain file name");
            Err(Error::Corrupt { path: index.to_path_buf(), reason })
        }
    }
}
