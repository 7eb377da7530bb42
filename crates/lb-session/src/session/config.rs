//! How a session behaves.

use lb_model::{GenerateOptions, PrefillOptions};

use super::policy::BoundaryPolicy;
use super::room::RoomPolicy;
use super::shared::SharedCaches;
use crate::{Error, PromptFormat, Result};

/// How a session behaves; see [`WorkerSession::with`](crate::WorkerSession::with).
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// Which segments enter the cache.
    pub policy: BoundaryPolicy,
    /// The wording around them.
    pub format: PromptFormat,
    /// How answers are generated. Default: greedy.
    pub generate: GenerateOptions,
    /// Whether answers are guessed from the trajectory's text as they are written ([`Lookup`](lb_model::Lookup)): the same answers, but for
    /// the order of summation, in fewer passes where they quote it. Default: true.
    pub lookup: bool,
    /// How long inputs are read.
    pub prefill: PrefillOptions,
    /// What happens when the trajectory comes near the model's position limit. Default: it is refused.
    pub room: RoomPolicy,
    /// Calls of a batch that have a cache at the same time, at least 1. Default: 16.
    pub max_batch: usize,
    /// Caches in common with other sessions of the same worker and configuration. Default: none.
    pub shared: Option<SharedCaches>,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            policy: BoundaryPolicy::default(),
            format: PromptFormat::default(),
            generate: GenerateOptions::default(),
            lookup: true,
            prefill: PrefillOptions::default(),
            room: RoomPolicy::default(),
            max_batch: 16,
            shared: None,
        }
    }
}

impl SessionConfig {
    /// Checks every range that does not depend on the worker.
    pub(super) fn validate(&self) -> Result<()> {
        self.policy.validate()?;
        self.generate.validate()?;
        if self.max_batch == 0 {
            return Err(Error::config("max_batch", 0, "want at least 1"));
        }
        Ok(())
    }
}
