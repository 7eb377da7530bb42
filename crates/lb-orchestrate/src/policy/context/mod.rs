//! What of a long history is shown again, within a budget of tokens.
//!
//! A history is a list of [`Item`]s: messages of a conversation, segments of a trajectory. Each has a kind, told by
//! [`ItemKind::of`], and a ladder of forms: whole; as a difference to the state before it, or as an excerpt; as a pointer,
//! which names what a program can fetch; not at all. [`plan`] steps items down their ladders, those that matter least
//! first, until everything fits. Whatever is not whole is a [`LeftOut`]: nothing is shortened silently.

mod config;
mod conversation;
mod forms;
mod kind;
mod plan;
mod state;
mod stream;

pub use config::ManagerConfig;
pub(crate) use conversation::Conversation;
pub use conversation::{PromptView, View};
pub use forms::Form;
pub use kind::{Item, ItemKind};
pub use plan::{Kept, LeftOut, Managed, plan};
pub use stream::{Admitted, TrajectoryManager};

/// Counts the tokens of a text.
pub(crate) type Count<'a> = &'a dyn Fn(&str) -> usize;
