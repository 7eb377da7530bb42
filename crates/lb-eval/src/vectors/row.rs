//! One text in one number of vectors.

use serde::{Deserialize, Serialize};

use super::plan::Order;

/// One training: a line of `rows.jsonl`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct VectorsRow {
    /// The document, length, order and vectors: what is trained once.
    pub item: String,
    /// Whose text it is.
    pub document: String,
    /// As it stands, or shuffled.
    pub order: Order,
    /// Tokens of the text.
    pub tokens: usize,
    /// Vectors.
    pub vectors: usize,
    /// Negative log-likelihood of the text alone from its second token on, nats.
    pub surprise: f64,
    /// The same tokens behind the vectors.
    pub behind: f64,
    /// Tokens that the worker writes rightly behind the vectors and what stands before them.
    pub right: usize,
    /// Whether the vectors alone give the text back, token for token.
    pub exact: bool,
    /// Steps that were taken; fewer than the plan's where the text came back before.
    pub steps: usize,
    /// Milliseconds of all steps.
    pub train_ms: f64,
    /// Milliseconds to write the text back, token by token.
    pub read_back_ms: f64,
    /// Milliseconds to read the text itself in one pass.
    pub read_text_ms: f64,
    /// Bytes of vectors and exceptions, numbers in f32.
    pub bytes: usize,
    /// Bytes of the text in UTF-8.
    pub text_bytes: usize,
    /// Bytes that the text takes as keys and values in the worker's cache.
    pub cache_bytes: usize,
    /// The target behind the vectors that stand in the place of the text; where the item has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Behind>,
    /// Why nothing was trained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// The target's mean negative log-likelihood, nats a token, the task read behind what is named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Behind {
    /// The text.
    pub text: f64,
    /// Nothing.
    pub none: f64,
    /// The vectors.
    pub vectors: f64,
}

impl VectorsRow {
    /// What the vectors take of the surprise, nats.
    pub fn gain(&self) -> f64 {
        self.surprise - self.behind
    }
}
