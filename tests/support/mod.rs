//! Shared helpers.
pub(crate) mod apart;
#[cfg(feature = "api")]
pub(crate) mod api_server;
pub(crate) mod caches;
pub(crate) mod checkpoints;
pub(crate) mod compare;
#[cfg(any(feature = "api", feature = "hub"))]
pub(crate) mod front;
pub(crate) mod gguf_bytes;
#[cfg(feature = "hub")]
pub(crate) mod hub_server;
pub(crate) mod naive_model;
pub(crate) mod oracle;
pub(crate) mod orchestrators;
pub(crate) mod random_checkpoint;
pub(crate) mod recorded_run;
#[cfg(target_os = "linux")]
pub(crate) mod small_disk;

use std::sync::OnceLock;

use latent_briefing::model::Worker;

/// The built-in worker, loaded once for all tests.
pub(crate) fn embedded() -> &'static Worker {
    static WORKER: OnceLock<Worker> = OnceLock::new();
    WORKER.get_or_init(|| Worker::embedded().expect("the built-in worker loads"))
}

/// Asserts the variant and that the message names all of the words.
macro_rules! assert_error {
    ($error:expr, $pattern:pat, $($word:expr),* $(,)?) => {{
        let error = $error;
        assert!(matches!(error, $pattern), "{error:?}");
        let message = error.to_string();
        for word in [$($word),*] {
            assert!(message.contains(word), "{message:?} does not name {word:?}");
        }
    }};
}
pub(crate) use assert_error;
