//! Prompts with variables, in versions.

mod library;
mod render;

pub use library::{PromptLibrary, PromptTemplate, PromptUsed, Rendered};
