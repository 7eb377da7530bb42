//! A session on disk: one file, the cache as [`KvCache::save`] writes it, and in its metadata all that stands behind it.
//!
//! A worker that starts anew takes its trajectory up where it was, without reading it again.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Tensor};
use lb_model::{KvCache, PrefillOptions, Worker};
use serde::{Deserialize, Serialize};

use super::{RoomReport, SessionConfig, WorkerSession};
use crate::context::{FullCache, Text};
use crate::{Error, Note, Result, Trajectory};

const KEY: &str = "latent_briefing_session";
const FORMAT: &str = "latent-briefing-session-1";

/// Tokens at the beginning that are read again, to see whether the cache is this model's.
const PROOF: usize = 8;
/// How far what the model makes of them may be from what is stored, of its size: sums in another order, and 16 bits of a number. Other
/// weights, even those of a fine-tune, are further away.
const NEAR: f64 = 0.02;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored<'a> {
    format: String,
    trajectory: Cow<'a, Trajectory>,
    notes: Cow<'a, [Note]>,
    rooms: Cow<'a, [RoomReport]>,
    /// Of all text that ever entered, and where each segment begins, with its label.
    text: Cow<'a, [u32]>,
    segments: Vec<(u32, String)>,
    /// Behind the cache, and where its head and its segments begin.
    tokens: Cow<'a, [u32]>,
    starts: Cow<'a, [u32]>,
}

impl WorkerSession {
    /// Writes the session to `path`, through a temporary file beside it: the cache, the trajectory, the notes. What calls have cost and
    /// what they were answered is not in it, nor is the configuration.
    ///
    /// # Errors
    /// [`Error::Model`] where the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let (full, text) = (&self.context.full, &self.context.text);
        let stored = Stored {
            format: FORMAT.to_string(),
            trajectory: Cow::Borrowed(&self.trajectory),
            notes: Cow::Borrowed(&self.context.notes),
            rooms: Cow::Borrowed(&self.rooms),
            text: Cow::Borrowed(&text.tokens),
            segments: text.segments.iter().map(|(start, label)| (*start, label.to_string())).collect(),
            tokens: Cow::Borrowed(&full.tokens),
            starts: Cow::Borrowed(&full.starts),
        };
        let path = path.as_ref();
        let json = |source| lb_model::Error::Json { path: path.to_path_buf(), source };
        let note = serde_json::to_string(&stored).map_err(json)?;
        Ok(full.cache.save_with(path, Some((KEY, note)))?)
    }

    /// A session as [`save`](Self::save) wrote it, for the same model; nothing of the trajectory is read again but its first tokens, to
    /// see that the cache is this model's. `config` should be that of the session that was saved: what stands in the cache stays as it
    /// is.
    ///
    /// # Errors
    /// Those of [`WorkerSession::with`], [`Error::Stored`] for a file that is no session, contradicts itself, or is another model's or
    /// another prompt format's, [`Error::Model`] for one that is damaged or for a model of another shape.
    pub fn load(worker: &Worker, config: SessionConfig, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bad = |reason: &str| Error::Stored { path: PathBuf::from(path), reason: reason.to_string() };
        let mut session = Self::with(worker, config)?;
        let (cache, note) = KvCache::load_with(path, KEY, worker.config(), worker.model().device())?;
        let note = note.ok_or_else(|| bad("a cache without a session"))?;
        let stored: Stored<'_> =
            serde_json::from_str(&note).map_err(|error| bad(&format!("its session: {error}")))?;
        let head = session.context.head();
        stored.check(&cache, head, worker.config().vocab_size).map_err(|reason| bad(&reason))?;
        let (stored_in, wanted) = (cache.layer_range(0, 0, 1)?.keys.dtype(), worker.model().dtype());
        if stored_in != wanted {
            return Err(bad(&format!("it is in {stored_in:?}, the worker in {wanted:?}")));
        }
        if !is_of(worker, &cache, head)? {
            return Err(bad("the model makes other keys of its first tokens: it was written by another one"));
        }
        let Stored { trajectory, notes, rooms, text, segments, tokens, starts, .. } = stored;
        let segments = segments.into_iter().map(|(start, label)| (start, Cow::Owned(label))).collect();
        let context = &mut session.context;
        context.full = FullCache::new(cache, tokens.into_owned(), starts.into_owned());
        context.text = Arc::new(Text { tokens: text.into_owned(), segments });
        context.notes = Arc::new(notes.into_owned());
        session.trajectory = trajectory.into_owned();
        session.rooms = rooms.into_owned();
        Ok(session)
    }
}

impl Stored<'_> {
    /// What is wrong with it.
    fn check(&self, cache: &KvCache, head: &[u32], vocab: usize) -> std::result::Result<(), String> {
        if self.format != FORMAT {
            return Err(format!("the format {} is not {FORMAT}", lb_io::shown::quoted(&self.format)));
        }
        if !self.tokens.starts_with(head) || !self.text.starts_with(head) {
            return Err("it begins with another prompt than this session's".to_string());
        }
        if self.tokens.len() != cache.logical_len() {
            return Err(format!("{} tokens for {} positions", self.tokens.len(), cache.logical_len()));
        }
        if self.text.iter().chain(&*self.tokens).any(|id| *id as usize >= vocab) {
            return Err("it has tokens that the worker does not have".to_string());
        }
        let ascending = |starts: &[u32], end: usize| {
            starts.windows(2).all(|pair| pair[0] <= pair[1])
                && starts.last().is_none_or(|last| *last as usize <= end)
        };
        let segments: Vec<u32> = self.segments.iter().map(|(start, _)| *start).collect();
        if !ascending(&self.starts, self.tokens.len()) || !ascending(&segments, self.text.len()) {
            return Err("its segments are not in order".to_string());
        }
        Ok(())
    }
}

/// Whether the model makes of the first tokens, which are the template's head, what the cache holds of them: in the last layer that keeps
/// them, which all before it lead to.
fn is_of(worker: &Worker, cache: &KvCache, head: &[u32]) -> Result<bool> {
    let model = worker.model();
    let head = &head[..head.len().min(PROOF)];
    let layers = worker.config().of_global_layers((0..cache.num_layers()).collect());
    let (Some(&last), false) = (layers.last(), head.is_empty()) else { return Ok(true) };
    let mut own = model.new_cache();
    model.prefill(head, &mut own, &PrefillOptions::default(), &mut |_, _| {})?;
    let (own, stored) = (own.layer_range(last, 0, head.len())?, cache.layer_range(last, 0, head.len())?);
    let far = |a: &Tensor, b: &Tensor| -> candle_core::Result<bool> {
        let (a, b) = (a.to_dtype(DType::F32)?, b.to_dtype(DType::F32)?);
        let size = f64::from(a.sqr()?.sum_all()?.to_scalar::<f32>()?);
        let apart = f64::from((a - b)?.sqr()?.sum_all()?.to_scalar::<f32>()?);
        Ok(apart > NEAR * NEAR * size)
    };
    let far = |a, b| far(a, b).map_err(lb_model::Error::from);
    Ok(!far(&own.keys, &stored.keys)? && !far(&own.values, &stored.values)?)
}
