//! What tests share, and nothing that a user builds.
//!
//! | feature | |
//! |---|---|
//! | | `oracle`, the mathematics of `lb-am` in f64; `caches` to compact, and settings (`layered`); `compare`; parts of tests in processes of their own, `apart` |
//! | `model` | the golden `checkpoints` and spoilt copies, `random_checkpoint`, a `naive_model` in f64, `gguf_bytes`, a `small_disk`, the built-in worker (`embedded`) |
//! | `servers` | servers on loopback that break on demand: `hub_server`, `api_server`, TLS and a proxy before them (`front`) |
//! | `orchestrate` | `orchestrators` whose turns are written out |
//! | `recorded` | a `recorded_run` of the loop |
//!
//! `lb-am` tests itself with the first line alone.

pub mod apart;
#[cfg(feature = "servers")]
pub mod api_server;
pub mod caches;
#[cfg(feature = "model")]
pub mod checkpoints;
pub mod compare;
#[cfg(feature = "servers")]
pub mod front;
#[cfg(feature = "model")]
pub mod gguf_bytes;
#[cfg(feature = "servers")]
pub mod hub_server;
pub mod layered;
#[cfg(feature = "model")]
pub mod naive_model;
pub mod oracle;
#[cfg(feature = "orchestrate")]
pub mod orchestrators;
#[cfg(feature = "model")]
pub mod random_checkpoint;
#[cfg(feature = "recorded")]
pub mod recorded_run;
#[cfg(all(feature = "model", target_os = "linux"))]
pub mod small_disk;

/// The built-in worker, loaded once for all tests.
#[cfg(feature = "model")]
pub fn embedded() -> &'static lb_model::Worker {
    static WORKER: std::sync::OnceLock<lb_model::Worker> = std::sync::OnceLock::new();
    WORKER.get_or_init(|| lb_model::Worker::embedded().expect("the built-in worker loads"))
}

/// Asserts the variant and that the message names all of the words.
#[macro_export]
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
