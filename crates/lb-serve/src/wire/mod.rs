//! Requests and answers as JSON.

pub(crate) mod anthropic;
pub(crate) mod briefing;
pub(crate) mod calls;
pub(crate) mod openai;
pub(crate) mod openapi;
pub(crate) mod sampling;
