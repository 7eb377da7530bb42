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
mod fields;
mod gemma3;
mod generate;
mod gguf;
mod gguf_config;
mod gguf_faults;
mod gguf_parts;
mod gguf_tokenizers;
mod golden;
mod heads;
#[cfg(feature = "hub")]
mod hub;
#[cfg(feature = "hub")]
mod hub_environment;
#[cfg(feature = "hub")]
mod hub_faults;
#[cfg(feature = "hub")]
mod hub_gguf;
#[cfg(feature = "hub")]
mod hub_names;
#[cfg(feature = "hub")]
mod hub_patience;
mod io;
mod misfiled;
mod public_configs;
mod public_templates;
mod ragged;
mod real_files;
mod replacing;
mod system_role;
mod template_bounds;
mod templates;
mod text;
mod tokenizers;
