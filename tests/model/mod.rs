//! Tests of `lb-model`.

mod batch;
mod cache;
mod capture;
mod checkpoint;
mod compacted;
mod generate;
mod golden;
mod io;
mod ragged;
mod replacing;
mod text;
