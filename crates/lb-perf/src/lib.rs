//! What a compaction costs: against the original order, the prefill it saves, and what the machine can do.
//!
//! | | |
//! |---|---|
//! | [`Shape`], [`SceneConfig`] | a model's sizes; a random cache of them and a task's queries |
//! | [`compact_serially`] | the baseline: one (layer, KV head) after another |
//! | [`time_prefill`], [`RandomCheckpoint`] | reading the same trajectory with random weights |
//! | [`Peak`], [`peak_extra`], [`peak_mib`], [`head_flops`] | the machine's matrix product, peak memory, operations counted |
//! | [`measure`], [`OverheadReport`] | all of it in one run |
//!
//! The example `overhead` of the workspace and the benches here are made of these; the example `throughput` here compares the
//! speed of a whole checkpoint with candle-transformers.

mod checkpoint;
mod error;
mod flops;
mod measure;
mod memory;
mod noise;
mod peak;
mod prefill;
mod report;
mod scene;
mod serial;
mod shape;
mod tensors;

pub use checkpoint::{RandomCheckpoint, VOCAB};
pub use error::{Error, Result};
pub use flops::head_flops;
pub use measure::{OverheadConfig, measure};
pub use memory::{peak_extra, peak_mib};
pub use peak::Peak;
pub use prefill::{PrefillEffort, PrefillTime, time_prefill};
pub use report::{Baseline, Batched, OverheadReport, Scaling, Stats, Steps};
pub use scene::{Scene, SceneConfig};
pub use serial::{Serial, SerialFit, SerialHead, compact_serially};
pub use shape::Shape;
pub use tensors::write_tensors;
