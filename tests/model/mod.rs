//! Tests of `lb-model`.

mod batch;
mod cache;
mod capture;
mod checkpoint;
mod compacted;
mod corrupt;
#[cfg(feature = "cuda")]
mod cuda;
mod families;
mod generate;
mod gguf;
mod gguf_config;
mod gguf_faults;
mod gguf_parts;
mod gguf_tokenizers;
mod golden;
#[cfg(feature = "hub")]
mod hub;
#[cfg(feature = "hub")]
mod hub_faults;
mod io;
mod public_templates;
mod ragged;
mod real_files;
mod replacing;
mod system_role;
mod templates;
mod text;
mod tokenizers;
