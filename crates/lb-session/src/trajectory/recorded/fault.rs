//! Why something is no log.

use lb_io::shown::explained;
use serde_json::{Map, Value};

/// Why JSON cannot be read as a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogFault {
    /// Nothing that any format has.
    #[error("no log that is known: {}", explained(got))]
    Unknown {
        /// What it is, with the fields of an object.
        got: String,
    },
    /// Several logs where one is wanted.
    #[error("{logs} logs, where one is wanted")]
    Several {
        /// How many.
        logs: usize,
    },
    /// A field has another type.
    #[error("field `{field}` is {got}, expected {expected}")]
    Type {
        /// The field.
        field: String,
        /// What is wanted.
        expected: &'static str,
        /// What it is.
        got: &'static str,
    },
    /// No message of it holds text.
    #[error("field `{field}` holds no text")]
    Empty {
        /// The field of the messages.
        field: String,
    },
}

/// What kind of JSON a value is.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

pub(super) fn mistyped(field: impl Into<String>, expected: &'static str, got: &Value) -> LogFault {
    LogFault::Type { field: field.into(), expected, got: kind(got) }
}

/// What a value is that is no log: its first fields, cut short.
pub(super) fn unknown(map: &Map<String, Value>) -> LogFault {
    const SHOWN: usize = 12;
    let fields: Vec<String> = map.keys().take(SHOWN).map(|key| key.chars().take(40).collect()).collect();
    let more = if map.len() > SHOWN { ", …" } else { "" };
    LogFault::Unknown { got: format!("an object with the fields [{}{more}]", fields.join(", ")) }
}
