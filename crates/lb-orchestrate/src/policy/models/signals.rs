//! What a turn looks like before it is asked for.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Difficulty;
use crate::{ChatRequest, Role};

/// What the choice of a model goes by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Signals {
    /// The turn of the conversation, from 1.
    pub turn: usize,
    /// 0 is easy, 1 is hard; see [`Difficulty`].
    pub difficulty: f64,
    /// Share of the time until the deadline that is gone; 0 without one.
    pub urgency: f64,
    /// Share of the chain's budget that is left; 1 without one.
    pub budget_left: f64,
}

/// Tokens are guessed: the services count each in their own way, and this is before they are asked.
const CHARS_A_TOKEN: f64 = 4.0;

impl Signals {
    /// Of a request. `whole` is the longest time until a deadline that was seen, `budget_left` a share.
    pub(super) fn of(
        request: &ChatRequest<'_>,
        difficulty: &Difficulty,
        whole: Option<Duration>,
        budget_left: f64,
    ) -> Self {
        let turn = 1 + request.messages.iter().filter(|message| message.role == Role::Assistant).count();
        let chars: usize = request.messages.iter().map(|message| message.content.len()).sum();
        let outputs =
            request.messages.iter().rev().filter(|message| message.content.starts_with("REPL output"));
        let failed = |text: &str| {
            text.lines().any(|line| {
                let name = line.split(':').next().unwrap_or_default();
                name == "Error" || (name.ends_with("Error") && !name.contains(' '))
            })
        };
        let errors = outputs.take(3).filter(|message| failed(&message.content)).count();
        let sum = difficulty.base
            + difficulty.per_error * errors as f64
            + difficulty.per_thousand_tokens * chars as f64 / CHARS_A_TOKEN / 1e3
            + difficulty.per_turn * (turn - 1) as f64;
        let left = request.deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let urgency = match (left, whole) {
            (Some(left), Some(whole)) if !whole.is_zero() => 1.0 - left.as_secs_f64() / whole.as_secs_f64(),
            _ => 0.0,
        };
        let (difficulty, urgency) = (sum.clamp(0.0, 1.0), urgency.clamp(0.0, 1.0));
        Self { turn, difficulty, urgency, budget_left }
    }
}
