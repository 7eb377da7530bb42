//! Tests of `lb-model`.

mod cache;
mod capture;
mod checkpoint;
mod compacted;
mod generate;
mod gguf;
mod golden;
mod io;
mod ragged;
mod replacing;
mod text;
