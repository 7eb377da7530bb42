//! What a session accepts as names and limits.

use std::time::Duration;

use super::ReplLimits;
use crate::{Error, Result};

/// Names that a session gives a meaning of its own.
const RESERVED: [&str; 9] = [
    "answer",
    "llm_query",
    "llm_query_batched",
    "rlm_query",
    "rlm_query_batched",
    "note",
    "SHOW_VARS",
    "FINAL_VAR",
    "FINAL",
];
const KEYWORDS: [&str; 35] = [
    "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue", "def",
    "del", "elif", "else", "except", "finally", "for", "from", "global", "if", "import", "in", "is",
    "lambda", "nonlocal", "not", "or", "pass", "raise", "return", "try", "while", "with", "yield",
];
/// The longest that a block may be allowed to run.
const DAY: Duration = Duration::from_hours(24);
/// Characters that a block's output or the texts of all variables may have.
const MANY_CHARS: usize = 10_000_000;

/// Whether Python would take it for a name.
pub(crate) fn is_name(name: &str) -> bool {
    let mut chars = name.chars();
    name.len() <= 200
        && chars.next().is_some_and(|c| c == '_' || c.is_alphabetic())
        && chars.all(|c| c == '_' || c.is_alphanumeric())
        && !KEYWORDS.contains(&name)
}

/// Refuses what cannot be set.
pub(crate) fn check_name(name: &str) -> Result<()> {
    if !is_name(name) || name.starts_with("__") {
        return Err(Error::config("name", name, "is no name of a variable"));
    }
    if RESERVED.contains(&name) {
        return Err(Error::config("name", name, "means something else in a session"));
    }
    Ok(())
}

/// Refuses limits that no process can be started with.
pub(crate) fn check_limits(limits: &ReplLimits) -> Result<()> {
    if limits.time.is_zero() || limits.time > DAY {
        return Err(Error::config(
            "time",
            format!("{:?}", limits.time),
            "must be more than nothing and at most a day",
        ));
    }
    if !(8 << 20..=1 << 40).contains(&limits.memory) {
        return Err(Error::config("memory", limits.memory, "must be between 8 MiB and 1 TiB"));
    }
    if !(10..=1000).contains(&limits.recursion) {
        return Err(Error::config("recursion", limits.recursion, "must be between 10 and 1,000"));
    }
    if limits.output_chars > MANY_CHARS {
        return Err(Error::config("output_chars", limits.output_chars, "must be at most 10,000,000"));
    }
    if limits.local_chars.saturating_mul(limits.locals) > MANY_CHARS {
        let value = limits.local_chars.saturating_mul(limits.locals);
        return Err(Error::config("local_chars * locals", value, "must be at most 10,000,000"));
    }
    Ok(())
}
