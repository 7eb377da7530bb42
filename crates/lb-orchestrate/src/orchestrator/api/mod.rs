//! Clients of language models behind an API: chat completions as OpenAI has them, and Anthropic's messages.
//!
//! ```no_run
//! use lb_orchestrate::api::{Anthropic, AnthropicConfig, OpenAi, OpenAiConfig};
//!
//! let remote = Anthropic::new(AnthropicConfig::from_env("claude-opus-5-5")?)?; // ANTHROPIC_API_KEY
//! let local = OpenAi::new(OpenAiConfig::at("http://127.0.0.1:8000/v1", "Qwen/Qwen3-14B"))?; // vLLM, no key
//! # Ok::<(), lb_orchestrate::Error>(())
//! ```
//!
//! A request is one HTTP exchange on a connection of its own, and at most one is under way. It is repeated after a
//! pause where that can help ([`Failure::is_temporary`]); nothing of a broken reply reaches the caller. Redirects are
//! not followed, so a key goes to no host but that of the configured address. Cancelling or passing the deadline
//! closes the connection and returns within some hundredths of a second.
//!
//! Where a server refuses a part of the request by name, it is asked once more in another form, which is kept if it works: without
//! streaming, `stream_options`, a sampling setting, with the other field for the limit, or with the system text in the first
//! message of the user. The log says so (level `warn`), and [`OpenAi::adjustments`].
//!
//! Certificates and proxies are those of [`lb_io::http::configure`].
//!
//! No error, log or `Debug` output has a key. The HTTP library would dump requests at the log level `trace` (target
//! `ureq_proto`); where that is on, a request with a key is refused with [`Error::Config`](crate::Error::Config).

mod anthropic;
mod config;
mod dialect;
mod endpoint;
mod exchange;
mod failure;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod habits;
mod key;
mod openai;
mod refusal;
mod reply;
mod retry;
mod sse;

pub use anthropic::{Anthropic, AnthropicConfig, AnthropicThinking, PromptCache};
pub use config::{Connection, Effort, Retries, Streaming, Timeouts};
pub use failure::{Failure, Phase};
pub use key::ApiKey;
pub use openai::{OpenAi, OpenAiConfig, TokenLimit};
