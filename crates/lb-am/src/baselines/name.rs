//! The baselines by name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A method that selects slots, to compare with.
///
/// As text it is its [`name`](Self::name), with `random:7` for a seed of 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Baseline {
    /// Positions drawn by lot, the same ones in every layer and head.
    Random {
        /// Seed of the lot.
        seed: u64,
    },
    /// Attention sinks and the most recent positions (StreamingLLM, arXiv 2309.17453).
    Streaming,
    /// Heavy hitters of the context's own attention and the most recent positions (arXiv 2306.14048).
    H2o,
    /// What the end of the task looks at, pooled (arXiv 2404.14469).
    #[serde(rename = "snapkv")]
    SnapKv,
    /// SnapKV with budgets that fall from layer to layer (arXiv 2406.02069).
    #[serde(rename = "pyramidkv")]
    PyramidKv,
    /// Keys of the lowest norm (arXiv 2406.11430).
    KeyNorm,
    /// Attention expected of queries distributed like the context's own (arXiv 2510.00636).
    ExpectedAttention,
    /// What repeating the context needs (arXiv 2505.23416).
    #[serde(rename = "kvzip")]
    KvZip,
    /// What the last token looks at, one list per layer (arXiv 2401.06104).
    Tova,
}

/// The queries that a [`Baseline`] reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Needs {
    /// None.
    Nothing,
    /// Those of the task.
    Task,
    /// Those of the context's own prefill.
    Context,
    /// Those of the context being repeated.
    Repeat,
}

impl Baseline {
    /// All of them, the random one with a seed of 0.
    pub const ALL: [Self; 9] = [
        Self::Random { seed: 0 },
        Self::Streaming,
        Self::H2o,
        Self::SnapKv,
        Self::PyramidKv,
        Self::KeyNorm,
        Self::ExpectedAttention,
        Self::KvZip,
        Self::Tova,
    ];

    /// Its name, in small letters with hyphens.
    pub fn name(self) -> &'static str {
        match self {
            Self::Random { .. } => "random",
            Self::Streaming => "streaming",
            Self::H2o => "h2o",
            Self::SnapKv => "snapkv",
            Self::PyramidKv => "pyramidkv",
            Self::KeyNorm => "key-norm",
            Self::ExpectedAttention => "expected-attention",
            Self::KvZip => "kvzip",
            Self::Tova => "tova",
        }
    }

    /// Which queries it reads. Others may be left out of the [`Observation`](super::Observation).
    pub fn needs(self) -> Needs {
        match self {
            Self::Random { .. } | Self::Streaming | Self::KeyNorm => Needs::Nothing,
            Self::SnapKv | Self::PyramidKv | Self::Tova => Needs::Task,
            Self::H2o | Self::ExpectedAttention => Needs::Context,
            Self::KvZip => Needs::Repeat,
        }
    }
}

impl fmt::Display for Baseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Random { seed } => write!(f, "random:{seed}"),
            other => f.write_str(other.name()),
        }
    }
}

impl FromStr for Baseline {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let unknown = || Error::Config {
            field: "baseline",
            value: text.to_owned(),
            reason: "is none of random[:SEED], streaming, h2o, snapkv, pyramidkv, key-norm, expected-attention, \
                     kvzip, tova",
        };
        if let Some(seed) = text.strip_prefix("random:") {
            return seed.parse().map(|seed| Self::Random { seed }).map_err(|_| unknown());
        }
        Self::ALL.into_iter().find(|baseline| baseline.name() == text).ok_or_else(unknown)
    }
}
