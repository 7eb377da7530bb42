//! What is to be crammed.

use lb_train::Cramming;
use serde::{Deserialize, Serialize};

use crate::pipeline::Shard;
use crate::{Error, Result};

/// In which order the tokens of a text stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// As they are.
    #[default]
    Text,
    /// In a random one, the same for a seed.
    Shuffled,
}

/// What is to be crammed into how many vectors, and how long it is tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VectorsPlan {
    /// Numbers of vectors, each 1 to 256. Default: 1, 2, 4.
    pub vectors: Vec<usize>,
    /// Lengths of texts in tokens, each 2 to 4096. Default: 32, 64, 128.
    pub tokens: Vec<usize>,
    /// Steps of a training at most. Default: 1000.
    pub steps: usize,
    /// Of AdamW. Default: 0.01.
    pub learning_rate: f64,
    /// Of the first vectors and of shuffled texts.
    pub seed: u64,
    /// Whether each text is crammed with its tokens in a random order as well.
    pub shuffled: bool,
    /// Tokens of the target that are read behind the vectors, at most; 0 for none. Default: 32.
    pub target_tokens: usize,
    /// Which part of the items; where one run is on several machines. Default: all.
    #[serde(skip)]
    pub shard: Shard,
}

impl Default for VectorsPlan {
    fn default() -> Self {
        Self {
            vectors: vec![1, 2, 4],
            tokens: vec![32, 64, 128],
            steps: 1000,
            learning_rate: 0.01,
            seed: 0,
            shuffled: false,
            target_tokens: 32,
            shard: Shard::default(),
        }
    }
}

impl VectorsPlan {
    /// Checks every range.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field, [`Error::Train`].
    pub fn validate(&self) -> Result<()> {
        if self.vectors.is_empty() {
            return Err(Error::config("vectors", "none", "want at least one number"));
        }
        if self.tokens.is_empty() || self.tokens.iter().any(|tokens| !(2..=4096).contains(tokens)) {
            return Err(Error::config("tokens", format!("{:?}", self.tokens), "want lengths of 2 to 4096"));
        }
        if self.target_tokens > 4096 {
            return Err(Error::config("target_tokens", self.target_tokens, "want at most 4096"));
        }
        Ok(self.vectors.iter().try_for_each(|vectors| self.cramming(*vectors).validate())?)
    }

    pub(super) fn cramming(&self, vectors: usize) -> Cramming {
        Cramming { vectors, steps: self.steps, learning_rate: self.learning_rate, seed: self.seed }
    }

    pub(super) fn orders(&self) -> &'static [Order] {
        if self.shuffled { &[Order::Text, Order::Shuffled] } else { &[Order::Text] }
    }
}
