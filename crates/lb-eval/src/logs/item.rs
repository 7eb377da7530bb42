//! One step of a recorded log.

use lb_session::Segment;
use serde::{Deserialize, Serialize};

/// A trajectory as far as it went, a task about it, and what is known of the right continuation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogItem {
    /// Unique within its file.
    pub id: String,
    /// Items of one document are drawn together in a bootstrap: the id up to its first `#`.
    pub document: String,
    /// The messages so far, oldest first.
    pub trajectory: Vec<Segment>,
    /// What is asked.
    pub task: String,
    /// What was written next; empty where the file does not say.
    pub target: String,
    /// Short right answers, where the file has them.
    pub answers: Vec<String>,
}
