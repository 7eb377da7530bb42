//! Repositories of GGUF files: which one is meant, all its parts, and what it lacks.

use std::path::Path;

use super::client::Listed;
use super::failure::{Failure, failure_of};
use super::fetch::{Fetch, Found, INDEX, SINGLE, is_missing};
use super::gguf::{Model, chosen, in_folder, models, parts, weights};
use super::names::Choice;
use crate::{Checkpoint, Error, Result};

/// Files beside a GGUF that say what its metadata may lack.
const BESIDE: [&str; 2] = ["tokenizer.json", "chat_template.jinja"];

impl Fetch<'_> {
    /// The GGUF file that a choice means, with all its parts.
    pub(super) fn gguf(&mut self, choice: Option<&Choice>) -> Result<Found> {
        if let Some(files) = self.chosen_in_cache(choice) {
            return self.take_parts(&files);
        }
        if let Some(Choice::File(file)) = choice {
            let taken = self.take_parts(&parts(file));
            let missing = taken.as_ref().is_err_and(is_missing);
            // Those that there are help more than that this one is none of them.
            return match if missing { self.list() } else { Ok(Vec::new()) } {
                Ok(files) if missing && !models(&files).is_empty() => Err(self.choose(&files, choice)),
                _ => taken,
            };
        }
        match self.list() {
            Err(error) if is_out_of_reach(&error) => {
                let cached = self.in_cache();
                let fitting = chosen(models(&cached), choice).len();
                if fitting == 0 { Err(error) } else { self.gguf_among(&cached, choice) }
            }
            listed => self.gguf_among(&listed?, choice),
        }
    }

    fn gguf_among(&mut self, listed: &[Listed], choice: Option<&Choice>) -> Result<Found> {
        match only(chosen(models(listed), choice)) {
            Some(model) => self.take_parts(&model.files.first().map_or(Vec::new(), |file| parts(&file.path))),
            None => Err(self.choose(listed, choice)),
        }
    }

    /// What a repository without a whole checkpoint in safetensors has: a GGUF file, or nothing that can be read. Where nobody can
    /// be asked, the cache is the repository.
    pub(super) fn gguf_instead(&mut self, error: Error) -> Result<Found> {
        let away = is_out_of_reach(&error);
        if !away && !is_missing(&error) {
            return Err(error);
        }
        let listed = match if away { Ok(self.in_cache()) } else { self.list() } {
            Ok(listed) => listed,
            Err(other) if is_out_of_reach(&other) => self.in_cache(),
            Err(_) => return Err(error),
        };
        if listed.iter().any(|file| file.path == SINGLE || file.path == INDEX) {
            return Err(error);
        }
        if !models(&listed).is_empty() {
            return self.gguf_among(&listed, None);
        }
        let found = weights(&listed);
        if found.is_empty() {
            return Err(error);
        }
        Err(self.place(SINGLE).error(Failure::NoWeights { found }))
    }

    /// The paths of a choice's files where the cache holds all of them. Without a choice the hub has to be asked whether there
    /// are others.
    fn chosen_in_cache(&self, choice: Option<&Choice>) -> Option<Vec<String>> {
        if choice.is_none() && self.client.is_some() {
            return None;
        }
        let cached = self.in_cache();
        let model = only(chosen(models(&cached), choice))?;
        let files = parts(&model.files.first()?.path);
        files.iter().all(|file| self.cached(file).is_some()).then_some(files)
    }

    fn in_cache(&self) -> Vec<Listed> {
        self.commit.as_deref().map(|commit| in_folder(&self.layout.snapshot(commit))).unwrap_or_default()
    }

    /// The files of the repository. Says which commit the revision stands for, if that is not known yet.
    fn list(&mut self) -> Result<Vec<Listed>> {
        let place = self.place("(list of files)");
        let Some(client) = &self.client else {
            let cache = self.layout.cache().path().clone();
            return Err(place.error(Failure::NotCached { cache }));
        };
        let revision = self.commit.as_deref().unwrap_or(&self.hub.revision);
        let listing = client.listing(revision, &place)?;
        let known = self.commit.get_or_insert_with(|| listing.commit.clone());
        if *known != listing.commit {
            return Err(place.error(Failure::BadReply { header: "sha" }));
        }
        Ok(listing.files)
    }

    fn take_parts(&mut self, files: &[String]) -> Result<Found> {
        let mut paths = Vec::new();
        for file in files {
            match self.get(file) {
                Err(error) if is_missing(&error) && !paths.is_empty() => {
                    return Err(self.place(file).error(Failure::NoPart));
                }
                path => paths.push(path?),
            }
        }
        let (Some(path), Some(file)) = (paths.into_iter().next(), files.first()) else {
            return Err(self.place("*.gguf").error(Failure::NoFile));
        };
        self.beside(&path, file)?;
        Ok(Found::Gguf(path, file.clone()))
    }

    /// Fetches what a GGUF file's metadata lacks and the repository has. What is wrong with the file is told when it is loaded.
    fn beside(&mut self, path: &Path, file: &str) -> Result<()> {
        let Ok(checkpoint) = Checkpoint::gguf(path) else { return Ok(()) };
        let folder = file.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
        for name in BESIDE {
            if !matches!(checkpoint.source().read(name), Ok(Some(_))) {
                self.optional(&[&format!("{folder}{name}")])?;
            }
        }
        Ok(())
    }

    fn choose(&self, listed: &[Listed], choice: Option<&Choice>) -> Error {
        let files: Vec<_> = {
            let fitting: Vec<Model<'_>> = chosen(models(listed), choice);
            let shown = if fitting.is_empty() { models(listed) } else { fitting };
            shown.iter().map(Model::entry).collect()
        };
        if files.is_empty() {
            return self.place("*.gguf").error(Failure::NoFile);
        }
        let asked = choice.map(ToString::to_string);
        let repo = self.hub.repo.name().to_string();
        self.place("*.gguf").error(Failure::Choose { repo, asked, files })
    }
}

/// The one element of a list that has no other.
fn only<T>(mut list: Vec<T>) -> Option<T> {
    list.pop().filter(|_| list.is_empty())
}

fn is_out_of_reach(error: &Error) -> bool {
    matches!(
        failure_of(error),
        Some(
            Failure::NotCached { .. }
                | Failure::Unreachable { .. }
                | Failure::TimedOut { .. }
                | Failure::Status { .. }
        )
    )
}
