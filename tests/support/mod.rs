//! Shared helpers.
pub(crate) mod caches;
pub(crate) mod checkpoints;
pub(crate) mod compare;
pub(crate) mod gguf_bytes;
#[cfg(feature = "hub")]
pub(crate) mod hub_server;
pub(crate) mod naive_model;
pub(crate) mod oracle;
pub(crate) mod random_checkpoint;

use std::sync::OnceLock;

use latent_briefing::model::Worker;

/// The built-in worker, loaded once for all tests.
pub(crate) fn embedded() -> &'static Worker {
    static WORKER: OnceLock<Worker> = OnceLock::new();
    WORKER.get_or_init(|| Worker::embedded().expect("the built-in worker loads"))
}
