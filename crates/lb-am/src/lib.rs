//! Attention Matching: KV cache compaction on plain tensors.
//!
//! A cache and the queries of a task go in; a shorter cache comes out that answers those queries like the whole one.
//! Positions that the task does not attend to are dropped, the rest is corrected by key biases and refitted values. This
//! crate knows no model, tokenizer, file or network.
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use lb_am::{Compaction, LayerKv, compact};
//!
//! let random = |dims| Tensor::randn(0f32, 1.0, dims, &Device::Cpu);
//! // Two layers of 2 KV heads, 100 positions, head width 16.
//! let layers = (0..2)
//!     .map(|_| LayerKv::new(random((2, 100, 16))?, random((2, 100, 16))?, None))
//!     .collect::<lb_am::Result<Vec<_>>>()?;
//! // 3 task tokens and 4 query heads per KV head: 12 queries.
//! let queries = vec![random((2, 12, 16))?, random((2, 12, 16))?];
//!
//! let compacted = compact(&layers, &queries, &Compaction::keep_ratio(0.1))?;
//! // A tenth of all slots; some heads keep more than others, and shorter ones are filled up with a bias of -inf.
//! assert!((compacted.report.keep_ratio - 0.1).abs() < 1e-9);
//! let longest = compacted.layers[0].kept.max_len();
//! assert_eq!(compacted.layers[0].keys.dims(), [2, longest, 16]);
//! assert_eq!(compacted.layers[0].bias.dims(), [2, longest]);
//!
//! let fit = compacted.report.beta.unwrap();
//! assert!(fit.mass_error_after < fit.mass_error_before);
//! # Ok::<(), lb_am::Error>(())
//! ```
//!
//! What is computed, step by step, is in this crate's `MATHEMATICS.md`.

pub mod backend;
mod bounded;
pub mod budgets;
mod cholesky;
mod compact;
mod compacted;
mod config;
mod cpu;
mod error;
mod error_target;
mod extra_queries;
mod fidelity;
mod fits;
mod fitted;
mod folding;
mod kept;
mod layout;
mod mask;
mod observed;
mod packing;
mod rank;
mod reference;
pub mod registry;
mod scene;
mod scores;
mod selected;
mod selection;
pub mod selectors;
mod sharing;
mod spans;

pub use backend::Backend;
pub use compact::{Compactor, compact, compact_at};
pub use compacted::{Compacted, CompactedLayer, Report, Timing};
pub use config::{
    BetaMethod, Budget, Compaction, Folding, HeadAgg, HeadBudgets, NnlsStart, Protected, RowWeighting,
    ScoreAgg, Sharing, Spans, Units, ValuesMethod,
};
pub use error::{Error, Result};
pub use error_target::ErrorTarget;
pub use fidelity::{Errors, Fidelity, Sizes};
pub use fits::{BetaFit, ValuesFit};
pub use kept::Kept;
pub use layout::{LayerKv, known_finite};
pub use mask::{CountLimit, MaskInfo, Ranking, Score};
pub use observed::Observed;
pub use packing::PackedLayer;
pub use rank::{LayerRanks, effective_rank, layer_ranks};
pub use scene::Scene;
pub use scores::{layer_position_scores, position_scores};
pub use selected::Selected;
pub use selection::Selection;
pub use selectors::{Omp, OmpPhase, Selector};

pub use lb_kernels::PackedBits;

/// The examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
