//! What a worker has of a trajectory at one moment: the full cache, the tokens behind it, the text, the notes.

mod earlier;
mod reader;
mod units;

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lb_am::{LayerKv, known_finite};
use lb_model::{Decoder, GenerateOptions, InputVectors, KvCache, PrefillOptions, Worker};

use crate::handoff::Last;
use crate::prompt::PromptEncoder;
use crate::{Error, Note, Result};

pub(crate) use earlier::Earlier;
pub(crate) use reader::Reader;
pub(crate) use units::{sentence_starts, unit_starts};

/// What a worker has of a trajectory. [`fork`](Self::fork) costs next to nothing: only what changes later is copied then.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) settings: Arc<Settings>,
    pub(crate) full: FullCache,
    pub(crate) text: Arc<Text>,
    pub(crate) notes: Arc<Vec<Note>>,
    /// What the session has answered.
    pub(crate) earlier: Arc<Earlier>,
}

/// What stays as it is however the trajectory grows.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) worker: Worker,
    pub(crate) prompt: PromptEncoder,
    pub(crate) generate: GenerateOptions,
    /// Whether answers are guessed from the text.
    pub(crate) lookup: bool,
    pub(crate) prefill: PrefillOptions,
    /// Calls of a batch that have a cache at the same time.
    pub(crate) max_batch: usize,
    /// Vectors in the place of answers, by the file they lie in.
    pub(crate) vectors: Last<PathBuf, Arc<InputVectors>>,
}

/// The full cache. Slots, positions and tokens are the same in number.
#[derive(Debug)]
pub(crate) struct FullCache {
    pub(crate) cache: KvCache,
    /// The tokens behind `cache`, template head first.
    pub(crate) tokens: Arc<Vec<u32>>,
    /// Where the template's head, and then each segment in the cache, begins.
    pub(crate) starts: Arc<Vec<u32>>,
    /// How many positions were looked at and hold finite numbers alone.
    finite: AtomicUsize,
}

/// All text that ever entered, as it was read.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    /// Template head first.
    pub(crate) tokens: Vec<u32>,
    /// Where each segment begins, and its label.
    pub(crate) segments: Vec<(u32, Cow<'static, str>)>,
}

impl FullCache {
    pub(crate) fn new(cache: KvCache, tokens: Vec<u32>, starts: Vec<u32>) -> Self {
        Self { cache, tokens: Arc::new(tokens), starts: Arc::new(starts), finite: AtomicUsize::new(0) }
    }

    /// The same without copying the cache.
    pub(crate) fn fork(&self) -> Self {
        let finite = AtomicUsize::new(0);
        Self { cache: self.cache.fork(), tokens: self.tokens.clone(), starts: self.starts.clone(), finite }
    }

    /// Another cache of the same and maybe more tokens.
    pub(crate) fn replace(&mut self, cache: KvCache, tokens: Arc<Vec<u32>>) {
        (self.cache, self.tokens, self.finite) = (cache, tokens, AtomicUsize::new(0));
    }
}

impl Context {
    /// Nothing read yet, not even the template's head.
    pub(crate) fn new(settings: Settings) -> Self {
        let cache = settings.worker.model().new_cache();
        let text = Text { tokens: settings.prompt.head.clone(), segments: Vec::new() };
        Self {
            settings: Arc::new(settings),
            full: FullCache::new(cache, Vec::new(), vec![0]),
            text: Arc::new(text),
            notes: Arc::default(),
            earlier: Arc::default(),
        }
    }

    /// The same without copying the cache or the text.
    pub(crate) fn fork(&self) -> Self {
        Self {
            settings: self.settings.clone(),
            full: self.full.fork(),
            text: self.text.clone(),
            notes: self.notes.clone(),
            earlier: Arc::new(self.earlier.copy()),
        }
    }

    pub(crate) fn worker(&self) -> &Worker {
        &self.settings.worker
    }

    pub(crate) fn model(&self) -> &Decoder {
        self.settings.worker.model()
    }

    /// The template's head.
    pub(crate) fn head(&self) -> &[u32] {
        &self.settings.prompt.head
    }

    /// What answers may be guessed from; nothing where they are not.
    pub(crate) fn texts(&self) -> Vec<&[u32]> {
        if self.settings.lookup { vec![&self.text.tokens] } else { Vec::new() }
    }

    /// Positions of the full cache, template head counted in.
    pub(crate) fn seq_len(&self) -> usize {
        self.full.tokens.len()
    }

    /// Whether the cache holds nothing of the trajectory.
    pub(crate) fn is_empty(&self) -> bool {
        self.seq_len() <= self.head().len()
    }

    /// The positions `from..to` of the layers that attend to everything. Their numbers are looked at once, where the whole is
    /// asked for: a briefing asks for it several times.
    pub(crate) fn layers(&self, from: usize, to: usize) -> Result<Vec<LayerKv>> {
        let layers = self.worker().config().of_global_layers(self.full.cache.layer_views(from, to)?);
        if self.full.finite.load(Ordering::Relaxed) >= to {
            return Ok(layers.into_iter().map(|layer| LayerKv { finite: true, ..layer }).collect());
        }
        if from > 0 || to < self.seq_len() {
            return Ok(layers);
        }
        let layers = known_finite(layers)?;
        self.full.finite.store(to, Ordering::Relaxed);
        Ok(layers)
    }

    pub(crate) fn check_trajectory(&self) -> Result<()> {
        if self.is_empty() { Err(Error::Empty { arg: "trajectory" }) } else { Ok(()) }
    }
}
