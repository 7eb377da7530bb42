//! A model with its tokenizer and chat template.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device};

use crate::{ChatTemplate, Checkpoint, Error, ModelConfig, Qwen3, Result, Tokenizer};

/// Everything that is needed to turn text into text. Cloning shares the weights.
#[derive(Debug, Clone)]
pub struct Worker {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    model: Qwen3,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    name: String,
}

impl Worker {
    /// The built-in worker on the CPU.
    ///
    /// # Errors
    /// Those of [`Checkpoint::load`].
    #[cfg(feature = "embedded")]
    pub fn embedded() -> Result<Self> {
        Checkpoint::embedded().load(&Device::Cpu, None)
    }

    /// A checkpoint folder, or any file in it, on the device of [`device::auto`](crate::device::auto). What is no
    /// path but looks like `org/name` or `org/name@revision` is a repository of the Hugging Face hub (with the
    /// feature `hub`): see [`Checkpoint::hub`].
    ///
    /// # Errors
    /// Those of [`Checkpoint::load`], and of [`Checkpoint::hub`] for a repository.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        find(path.as_ref())?.load(&crate::device::auto()?, None)
    }

    pub(crate) fn assemble(model: Qwen3, tokenizer: Tokenizer, template: ChatTemplate, name: String) -> Self {
        Self { inner: Arc::new(Inner { model, tokenizer, template, name }) }
    }

    /// The decoder.
    pub fn model(&self) -> &Qwen3 {
        &self.inner.model
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.inner.tokenizer
    }

    /// The chat template.
    pub fn template(&self) -> &ChatTemplate {
        &self.inner.template
    }

    /// The model's shape.
    pub fn config(&self) -> &ModelConfig {
        self.inner.model.config()
    }

    /// The checkpoint's folder name, or `embedded`.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Where the model runs.
    pub fn device(&self) -> &Device {
        self.inner.model.device()
    }

    /// dtype of weights and cache.
    pub fn dtype(&self) -> DType {
        self.inner.model.dtype()
    }
}

/// A folder, else a repository of the hub.
fn find(path: &Path) -> Result<Checkpoint> {
    match Checkpoint::dir(path) {
        Err(Error::Io { path, source }) if source.kind() == ErrorKind::NotFound => from_hub(path),
        found => found,
    }
}

#[cfg(feature = "hub")]
fn from_hub(path: PathBuf) -> Result<Checkpoint> {
    match path.to_str().filter(|name| crate::hub::parse(name).is_ok()) {
        Some(name) => Checkpoint::hub(name),
        None => Err(not_found(path, "no such file or folder, and not a repository `org/name` of the hub")),
    }
}

#[cfg(not(feature = "hub"))]
fn from_hub(path: PathBuf) -> Result<Checkpoint> {
    Err(not_found(path, "no such file or folder; this build does not ask the hub (feature `hub`)"))
}

fn not_found(path: PathBuf, reason: &'static str) -> Error {
    Error::Io { path, source: std::io::Error::new(ErrorKind::NotFound, reason) }
}
