//! What several agents did about one task: read from data, counted, and measured under every condition.
//!
//! An [`Episode`] is a task and the turns of its agents: who, what it was given, what it wrote, and how it ended. [`load`] reads them from
//! one line an episode, one line or one row of Parquet a turn, and from every log that [`logs`](crate::logs) reads:
//!
//! ```json
//! {"id": "7", "task": "Which city ..?", "outcome": {"score": 1.0, "answer": "Oslo"},
//!  "turns": [{"agent": "searcher", "phase": "search", "context": "Plan: ..", "instruction": "Find ..", "response": "The page says ..",
//!             "tokens": {"input": 812, "output": 60},
//!             "decisions": [{"name": "next", "opening": "next: ", "options": ["stop", "go on"], "chosen": "stop"}]}]}
//! {"episode": "8", "agent": "planner", "context": "..", "response": "..", "input_tokens": 700, "output_tokens": 40, "score": 0.0}
//! ```
//!
//! A context is a text, or a list of `{"source", "text", "name"}` or of messages (`{"role", "content"}`); where a turn has none, it is all
//! that was written before it. What is not known is left out and said.
//!
//! [`traffic`] counts what agents were sent, and what of it they had been sent before. [`items`] makes of each turn a recorded
//! continuation, whose likelihood and decisions [`retained`](crate::retained) measures behind every condition.

#[cfg(feature = "loop")]
pub mod debate;
mod decisions;
mod episode;
pub mod fidelity;
mod fields;
mod items;
mod load;
#[cfg(feature = "loop")]
pub mod sparse;
mod traffic;

pub use episode::{Episode, Given, Outcome, RecordedTokens, Turn};
pub use fidelity::{Fidelity, TokenPrice, fidelity};
pub use items::items;
pub use load::{Loaded, load};
pub use traffic::{PASSAGE, Sent, Traffic, traffic};
