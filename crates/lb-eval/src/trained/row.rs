//! One trajectory, and every briefing on its way.

use serde::{Deserialize, Serialize};

/// One trajectory: a line of `rows.jsonl`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrainedRow {
    /// The id of the item for whose task briefings are cut.
    pub item: String,
    /// Its document.
    pub document: String,
    /// Positions of the trajectory, template head counted in.
    pub seq_len: usize,
    /// Targets of other tasks about the same trajectory.
    pub others: usize,
    /// Nats a token of the own target over the full cache, and without the trajectory.
    pub own: [f64; 2],
    /// The same of the other targets, means.
    pub other: [f64; 2],
    /// By briefing, in the order of the plan, how it stands after each number of steps.
    pub briefings: Vec<Vec<Stage>>,
    /// Why nothing was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// A briefing after some steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stage {
    /// Steps that were taken.
    pub steps: usize,
    /// Nats a token of the target of the task that it was cut for.
    pub own: f64,
    /// Of the other targets, mean.
    pub other: f64,
    /// KL from the full cache on the lessons, nats a token.
    pub lessons: f64,
    /// Kept / original positions.
    pub kept: f64,
    /// Milliseconds of the steps so far, lessons not counted in.
    pub train_ms: f64,
    /// Milliseconds to make the lessons.
    pub lessons_ms: f64,
    /// Milliseconds to make the briefing in closed form.
    pub brief_ms: f64,
}
