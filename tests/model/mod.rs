//! Tests of `lb-model`.

mod cache;
mod capture;
mod checkpoint;
mod compacted;
mod corrupt;
mod families;
mod generate;
mod golden;
mod io;
mod ragged;
mod replacing;
mod text;
