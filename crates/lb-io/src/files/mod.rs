//! Files of this process and others: written whole or not at all, held by one process at a time, read within bounds.

mod bounded;
mod lock;
mod output;

pub use bounded::{open_regular, read_at_most, read_text_at_most};
pub use lock::{Held, Lock};
pub use output::{Output, write_whole};

/// Bytes of a file of settings: config.json, an index of shards, a plan.
pub const SETTINGS: u64 = 32 << 20;
/// Bytes of a tokenizer.json; the largest published ones have 35 MB.
pub const VOCABULARY: u64 = 64 << 20;
/// Bytes of a safetensors file's header, which takes twenty times as much memory; real ones have a hundred bytes a tensor.
pub const HEADER: u64 = 16 << 20;
/// Bytes of a text: a document, a log.
pub const TEXT: u64 = 1 << 30;
/// Bytes of a file that holds a word or a key.
pub const WORD: u64 = 64 << 10;
