//! Values and biases of a briefing, trained by gradient from the closed form on (in the manner of Eyuboglu and others, 2025,
//! *Cartridges: Lightweight and general-purpose long context representations via self-study*, arXiv 2506.06266).
//!
//! Keys stay where the briefing chose them. What is trained is how far values and biases move from those that were fitted in closed
//! form, so that the next token's chances behind the briefing come near those behind the full cache (KL) on lessons: texts about the
//! trajectory, given or made up by the worker itself.

mod lesson;
mod training;

pub use lesson::Lesson;
pub use training::{Learning, TrainedBriefing};
