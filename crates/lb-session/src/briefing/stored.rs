//! A briefing on disk: one file, the compacted cache as [`KvCache::save`] writes it, and in its metadata what it was made for, by which
//! model, and how it came about.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use lb_am::Report;
use lb_model::{KvCache, Worker};
use serde::{Deserialize, Serialize};

use super::{BriefTiming, Briefing};
use crate::{Error, Result, Task};

const KEY: &str = "latent_briefing_briefing";
const FORMAT: &str = "latent-briefing-briefing-1";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored<'a> {
    format: String,
    /// Digests of the model that made it.
    weights: String,
    tokenizer: String,
    template: String,
    slice: Option<String>,
    question: String,
    kept_len: usize,
    prefilled: usize,
    kept_by: Cow<'a, [f32]>,
    tokens: Cow<'a, [u32]>,
    draft: Cow<'a, [u32]>,
    report: Cow<'a, Report>,
    timing: BriefTiming,
}

impl Briefing {
    /// Writes the briefing to `path`, through a temporary file beside it. It travels: any worker of the same model answers over it, with no
    /// trajectory at hand.
    ///
    /// # Errors
    /// [`Error::Config`] for one that carries its task's own state, which belongs to the call it was made for; [`Error::Model`] where the
    /// file cannot be written.
    pub fn save(&self, worker: &Worker, path: impl AsRef<Path>) -> Result<()> {
        if self.reused.is_some() {
            let reason = "a briefing that carries its task's own state does not travel; want recompute";
            return Err(Error::config("task_state", "reuse", reason));
        }
        let model = worker.fingerprint()?.clone();
        let stored = Stored {
            format: FORMAT.to_owned(),
            weights: model.weights,
            tokenizer: model.tokenizer,
            template: model.template,
            slice: self.task.slice.clone(),
            question: self.task.question.clone(),
            kept_len: self.kept_len,
            prefilled: self.prefilled,
            kept_by: Cow::Borrowed(&self.kept_by),
            tokens: Cow::Borrowed(&self.tokens),
            draft: Cow::Borrowed(&self.draft),
            report: Cow::Borrowed(&self.report),
            timing: self.timing,
        };
        let path = path.as_ref();
        let json = |source| lb_model::Error::Json { path: path.to_path_buf(), source };
        let note = serde_json::to_string(&stored).map_err(json)?;
        Ok(self.cache.save_with(path, Some((KEY, note)))?)
    }

    /// A briefing as [`save`](Self::save) wrote it, for the same model.
    ///
    /// # Errors
    /// [`Error::Stored`] for a file that is no briefing, contradicts itself, or is another model's; [`Error::Model`] for one that is
    /// damaged.
    pub fn load(worker: &Worker, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bad = |reason: String| Error::Stored { path: path.to_path_buf(), reason };
        let (cache, note) = KvCache::load_with(path, KEY, worker.config(), worker.model().device())?;
        let note = note.ok_or_else(|| bad("a cache without a briefing".to_owned()))?;
        let stored: Stored<'static> = serde_json::from_str(&note).map_err(|error| bad(error.to_string()))?;
        stored.check(worker, &cache).map_err(bad)?;
        if cache.dtype() != worker.dtype() {
            return Err(bad(format!(
                "its numbers are {:?}, the worker's {:?}",
                cache.dtype(),
                worker.dtype()
            )));
        }
        Ok(Self {
            cache,
            task: Task { slice: stored.slice, question: stored.question },
            kept_len: stored.kept_len,
            prefilled: stored.prefilled,
            kept_by: stored.kept_by.into_owned(),
            tokens: Arc::new(stored.tokens.into_owned()),
            reused: None,
            draft: stored.draft.into_owned(),
            report: stored.report.into_owned(),
            timing: stored.timing,
        })
    }
}

impl Stored<'_> {
    fn check(&self, worker: &Worker, cache: &KvCache) -> std::result::Result<(), String> {
        if self.format != FORMAT {
            return Err(format!("the format {} is not {FORMAT}", lb_io::shown::quoted(&self.format)));
        }
        let own = worker.fingerprint().map_err(|error| error.to_string())?;
        let pairs = [
            ("weights", &self.weights, &own.weights),
            ("tokenizer", &self.tokenizer, &own.tokenizer),
            ("chat template", &self.template, &own.template),
        ];
        if let Some((what, ..)) = pairs.iter().find(|(_, stored, own)| stored != own) {
            return Err(format!("it was made with another model: its {what} differ"));
        }
        let positions = cache.logical_len();
        if self.tokens.len() != positions
            || self.kept_by.len() != positions
            || self.report.seq_len != positions
        {
            let (tokens, kept) = (self.tokens.len(), self.kept_by.len());
            return Err(format!("{tokens} tokens and {kept} shares for {positions} positions"));
        }
        let vocab = worker.config().vocab_size;
        if self.tokens.iter().chain(&*self.draft).any(|id| *id as usize >= vocab) {
            return Err("it has tokens that the worker does not have".to_owned());
        }
        Ok(())
    }
}
