//! Qwen3-class decoders on candle with an explicit, compactable KV cache.
//!
//! The usual model libraries hide their key/value cache and leave no place for a bias on a cached key. Both are
//! what this crate is for: [`KvCache`] is a plain value that can be read layer by layer, forked without a copy,
//! truncated, saved, loaded and replaced by a compacted one ([`KvCache::from_compacted`]), and the attention of
//! [`Decoder`] adds the cache's biases to its scores.
//!
//! ```text
//! Checkpoint -> Worker { Tokenizer, ChatTemplate, Decoder }
//! text -> tokens -> Decoder::prefill -> KvCache -> Decoder::prefill_capturing -> task queries and logits
//! ```
//!
//! ```
//! # #[cfg(feature = "embedded")] {
//! use lb_model::{GenerateOptions, Worker};
//!
//! let worker = Worker::embedded()?;
//! let parts = worker.template()?.split(None, false)?;
//! let mut prompt = worker.tokenizer().encode_template(&parts.head)?;
//! prompt.extend(worker.tokenizer().encode_text("Who keeps the Oslo ledger?")?); // control tokens stay plain text
//! prompt.extend(worker.tokenizer().encode_template(&parts.tail)?);
//!
//! let mut cache = worker.model().new_cache();
//! let answer = worker.generate(&mut cache, &prompt, &GenerateOptions::greedy(8), &mut |_, _| true)?;
//! assert!(answer.tokens.len() <= 8);
//! assert!(cache.logical_len() >= prompt.len());
//! # }
//! # Ok::<(), lb_model::Error>(())
//! ```
//!
//! A conversation becomes a prompt the same way, with the tokens that transformers would give it:
//!
//! ```
//! # #[cfg(feature = "embedded")] {
//! use lb_model::{Conversation, Worker};
//!
//! let worker = Worker::embedded()?;
//! let json = br#"{"messages": [{"role": "user", "content": "Who keeps it?<|im_end|>"}], "enable_thinking": false}"#;
//! let conversation = Conversation::from_json(json)?;
//! let prompt = worker.encode_conversation(&conversation.messages, &conversation.options())?;
//! let end = worker.tokenizer().token_id("<|im_end|>").unwrap();
//! assert_eq!(prompt.iter().filter(|id| **id == end).count(), 1); // the template's own, not the user's
//! # }
//! # Ok::<(), lb_model::Error>(())
//! ```
//!
//! Positions are logical: the next token's position is [`KvCache::logical_len`], however few slots are left.

mod attend;
mod attention;
mod batch;
mod buffers;
mod cache;
mod checkpoint;
mod config;
pub mod device;
mod differentiable;
#[cfg(feature = "embedded")]
mod embedded;
mod error;
mod fingerprint;
#[cfg(any(test, feature = "flash-attn"))]
mod flash;
mod folder;
mod generate;
mod generate_batch;
mod gguf;
mod heads;
#[cfg(feature = "hub")]
pub mod hub;
mod layer;
mod lookup;
mod matrix;
mod misfiled;
mod mlp;
mod model;
mod norm;
mod observing;
mod pass;
mod plain;
mod queries;
mod replacing;
mod rerotate;
mod residual;
mod rope;
mod safefile;
mod sample;
mod sequences;
mod template;
mod tokenizer;
mod vectors;
mod warning;
mod weights;
mod worker;

pub use cache::KvCache;
pub use checkpoint::Checkpoint;
pub use config::{Biases, Experts, Family, LocalAttention, ModelConfig, RopeScaling};
pub use device::DeviceChoice;
pub use differentiable::{Differentiable, Past};
pub use error::{Error, Result};
pub use fingerprint::Fingerprint;
pub use generate::{Generation, StopReason};
pub use gguf::GgufFormat;
pub use lookup::Lookup;
pub use model::{Captured, Decoder, PrefillOptions};
pub use observing::Observing;
pub use replacing::Replaced;
pub use sample::{GenerateOptions, Sampler};
pub use sequences::{Chosen, Ended, SequenceId, Sequences};
pub use template::{
    ChatTemplate, Content, Conversation, Message, PartKind, PromptEnd, RenderOptions, RenderedPiece,
    SpecialTokens, TemplateParts, TextPart,
};
pub use tokenizer::{TextStream, Tokenizer};
pub use vectors::InputVectors;
pub use warning::Warning;
pub use worker::Worker;

/// The example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
