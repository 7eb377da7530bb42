//! Who keeps what: one file for each way of selecting.
//!
//! A [`Selector`] sees a [`Scene`] and says which slots stay. It is one file here and one line in `factories`, or a type of
//! another crate and a call of [`registry::register`](crate::registry::register). Whatever it is, spans, budgets, biases,
//! values and query sources go with it.
//!
//! | Name | What stays | Reads |
//! |---|---|---|
//! | `shared` | what the queries look at, one mask for all layers and heads (Latent Briefing) | queries |
//! | `per-layer` | the same, one mask for each layer | queries |
//! | `per-head` | the same, one list for each KV head (AM, arXiv 2602.16284), as many as its scores deserve; the default | queries |
//! | `omp` | keys that together explain the attention mass, head by head (AM) | queries |
//! | `random` | positions drawn by lot | nothing |
//! | `recent` | the most recent positions | nothing |
//! | `streaming` | attention sinks and the most recent positions (arXiv 2309.17453) | nothing |
//! | `h2o` | heavy hitters of the context's own attention, and the most recent positions (arXiv 2306.14048) | context |
//! | `snapkv` | what the end of the task looks at, pooled (arXiv 2404.14469) | queries |
//! | `pyramidkv` | the same with budgets that fall from layer to layer (arXiv 2406.02069) | queries |
//! | `key-norm` | keys of the lowest norm (arXiv 2406.11430) | nothing |
//! | `expected-attention` | what queries like the context's own are expected to look at (arXiv 2510.00636) | context |
//! | `kvzip` | what repeating the context needs (arXiv 2505.23416) | repeat |
//! | `tova` | what the last token looks at, one list for each layer (arXiv 2401.06104) | queries |
//! | `critical-kv` | what the queries look at, then attention times the norm of the value (arXiv 2502.03805) | queries |
//! | `keydiff` | keys unlike the others (arXiv 2504.15364) | nothing |
//! | `finch` | what the whole task looks at, chunk by chunk (arXiv 2408.00167) | queries |
//!
//! From `random` on they are published methods to compare with. Each says what was simplified: methods that act while a
//! model reads or writes are asked once, for the cache as it is. A bias that the cache carries enters every attention.
//! Where NVIDIA's kvpress has the same method and does otherwise, that is said as well; `docs/real.md` has figures.

mod critical_kv;
mod expected_attention;
mod finch;
mod h2o;
mod key_norm;
mod keydiff;
mod kvzip;
mod lifted;
mod omp;
mod per_head;
mod per_layer;
mod picked;
mod pursuit;
mod pyramidkv;
mod random;
mod recent;
mod shared;
mod snapkv;
mod streaming_llm;
mod tova;

use std::fmt;

pub use critical_kv::CriticalKv;
pub use expected_attention::ExpectedAttention;
pub use finch::Finch;
pub use h2o::H2o;
pub use key_norm::KeyNorm;
pub use keydiff::KeyDiff;
pub use kvzip::KvZip;
pub use omp::{Omp, OmpPhase};
pub use per_head::PerHead;
pub use per_layer::PerLayer;
pub use picked::{HeadPick, Picked};
pub use pyramidkv::PyramidKv;
pub use random::{Random, random_positions};
pub use recent::{Recent, recent_positions};
pub use shared::Shared;
pub use snapkv::SnapKv;
pub use streaming_llm::StreamingLlm;
pub use tova::Tova;

use crate::config::Sharing;
use crate::error::Result;
use crate::registry::{Factory, Spec};
use crate::scene::Scene;
use crate::selection::Selection;

/// A way to choose which slots of a cache stay.
///
/// `examples/own_selector.rs` is one in forty lines.
pub trait Selector: fmt::Debug + Send + Sync {
    /// Its name and the arguments that are not as usual: what a [registry](crate::registry) reads back. Two selectors of
    /// the same text are taken for equal.
    fn spec(&self) -> Spec;

    /// What it reads, so that it is there.
    fn needs(&self) -> Needs;

    /// Which budgets it can fill.
    fn budgets(&self) -> Budgets;

    /// Whether it looks at all layers at once; others select layer by layer, and may be asked so.
    fn needs_all_layers(&self) -> bool {
        false
    }

    /// Who has a list of its own. Where the selection brings no importance along, values are held fast by the queries'
    /// attention aggregated likewise.
    fn lists(&self) -> Lists {
        Lists::PerHead
    }

    /// How what heads would keep is shared out among them where the configuration does not say; equally, as a rule. One that
    /// shares calls [`Scene::share_out`](crate::Scene::share_out) before it picks.
    fn sharing(&self) -> Sharing {
        Sharing::Equal
    }

    /// Checks the arguments.
    ///
    /// # Errors
    ///
    /// [`Error::Config`](crate::Error::Config) naming the first one that is out of its range.
    fn validate(&self) -> Result<()> {
        Ok(())
    }

    /// The slots that stay, layer by layer. The scene has pooled scores by spans, and picks by the budget: protected
    /// positions always, equal scores from the earlier position on.
    ///
    /// # Errors
    ///
    /// Those of the scene, and the selector's own.
    fn select(&self, scene: &Scene<'_>) -> Result<Picked>;
}

/// What a [`Selector`] reads besides keys and values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The queries of the compaction, or what they saw.
    pub queries: bool,
    /// The queries of the context's own prefill, one for each slot: [`Scene::context`].
    pub context: bool,
    /// The queries of the model while it repeats the context: [`Scene::repeat`].
    pub repeat: bool,
}

impl Needs {
    /// Keys and values are enough.
    pub const NOTHING: Self = Self { queries: false, context: false, repeat: false };
    /// The compaction's queries.
    pub const QUERIES: Self = Self { queries: true, ..Self::NOTHING };
    /// The queries of the context's own prefill.
    pub const CONTEXT: Self = Self { context: true, ..Self::NOTHING };
    /// The queries of the context being repeated.
    pub const REPEAT: Self = Self { repeat: true, ..Self::NOTHING };
}

/// Which budgets a [`Selector`] can fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budgets {
    /// All: its scores say something, so that a threshold can be put on them.
    Any,
    /// Ratios, lengths and error targets: it has an order of positions and no scores.
    Counts,
    /// The same, and it shares them out among layers and heads itself.
    OwnCounts,
}

/// Who has a list of slots of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lists {
    /// All layers and heads have the same one; layers must have one length.
    Shared,
    /// Each layer.
    PerLayer,
    /// Each KV head.
    PerHead,
}

/// The selections of this crate, in the order in which they are listed.
pub(crate) fn factories() -> Vec<Factory> {
    vec![
        shared::factory(),
        per_layer::factory(),
        per_head::factory(),
        omp::factory(),
        random::factory(),
        recent::factory(),
        streaming_llm::factory(),
        h2o::factory(),
        snapkv::factory(),
        pyramidkv::factory(),
        key_norm::factory(),
        expected_attention::factory(),
        kvzip::factory(),
        tova::factory(),
        critical_kv::factory(),
        keydiff::factory(),
        finch::factory(),
    ]
}

/// The twelve published methods with their usual arguments, to compare with.
pub fn published() -> Vec<Selection> {
    vec![
        Selection::new(Random::default()),
        Selection::new(StreamingLlm::default()),
        Selection::new(H2o::default()),
        Selection::new(SnapKv::default()),
        Selection::new(PyramidKv::default()),
        Selection::new(KeyNorm),
        Selection::new(ExpectedAttention),
        Selection::new(KvZip),
        Selection::new(Tova),
        Selection::new(CriticalKv::default()),
        Selection::new(KeyDiff),
        Selection::new(Finch::default()),
    ]
}
