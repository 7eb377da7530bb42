//! A model with its tokenizer and chat template.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use candle_core::{DType, Device};

use crate::checkpoint::Files;
use crate::{
    ChatTemplate, Checkpoint, Decoder, Error, Fingerprint, Message, ModelConfig, RenderOptions, Result,
    Tokenizer, Warning,
};

/// Everything that is needed to turn text into text. Cloning shares the weights.
#[derive(Debug, Clone)]
pub struct Worker {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    model: Decoder,
    tokenizer: Tokenizer,
    /// Or where none was found.
    template: std::result::Result<ChatTemplate, PathBuf>,
    name: String,
    warnings: Vec<Warning>,
    files: Files,
    fingerprint: OnceLock<Fingerprint>,
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

    /// What [`Checkpoint::open`] finds under this name, on the device of [`device::auto`](crate::device::auto).
    ///
    /// # Errors
    /// Those of [`Checkpoint::open`] and [`Checkpoint::load`].
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        Checkpoint::open(path)?.load(&crate::device::auto()?, None)
    }

    pub(crate) fn assemble(
        (model, tokenizer, template): (Decoder, Tokenizer, std::result::Result<ChatTemplate, PathBuf>),
        name: String,
        warnings: Vec<Warning>,
        files: Files,
    ) -> Self {
        let fingerprint = OnceLock::new();
        Self { inner: Arc::new(Inner { model, tokenizer, template, name, warnings, files, fingerprint }) }
    }

    /// Where it comes from.
    pub(crate) fn files(&self) -> &Files {
        &self.inner.files
    }

    /// Once it was asked for.
    pub(crate) fn known_fingerprint(&self) -> &OnceLock<Fingerprint> {
        &self.inner.fingerprint
    }

    /// The decoder.
    pub fn model(&self) -> &Decoder {
        &self.inner.model
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.inner.tokenizer
    }

    /// The chat template.
    ///
    /// # Errors
    /// [`Error::NoChatTemplate`] for a checkpoint without one, as those of base models are.
    pub fn template(&self) -> Result<&ChatTemplate> {
        self.inner.template.as_ref().map_err(|path| Error::NoChatTemplate { path: path.clone() })
    }

    /// What was accepted in the checkpoint although it may not be meant so. Programs print these once.
    pub fn warnings(&self) -> &[Warning] {
        &self.inner.warnings
    }

    /// A conversation as a prompt: [`ChatTemplate::encode_conversation`] with this worker's tokenizer.
    ///
    /// # Errors
    /// Those of [`template`](Self::template) and [`ChatTemplate::encode_conversation`].
    pub fn encode_conversation(&self, messages: &[Message], options: &RenderOptions) -> Result<Vec<u32>> {
        self.template()?.encode_conversation(messages, options, self.tokenizer())
    }

    /// The same within bounds; see [`ChatTemplate::encode_conversation_within`].
    ///
    /// # Errors
    /// Those of [`template`](Self::template) and [`ChatTemplate::encode_conversation_within`].
    pub fn encode_conversation_within(
        &self,
        messages: &[Message],
        options: &RenderOptions,
        most: usize,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<u32>> {
        self.template()?.encode_conversation_within(messages, options, self.tokenizer(), most, go_on)
    }

    /// The model's shape.
    pub fn config(&self) -> &ModelConfig {
        self.inner.model.config()
    }

    /// The checkpoint's folder name, `org/name` for one of the hub, or `embedded`.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Where the model runs.
    pub fn device(&self) -> &Device {
        self.inner.model.device()
    }

    /// dtype of the cache.
    pub fn dtype(&self) -> DType {
        self.inner.model.dtype()
    }
}
