//! What can be wrong with one item of a file.

use std::fmt;

use lb_io::shown::{explained, quoted};
use serde::{Deserialize, Serialize};

/// What becomes of a file with malformed items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFault {
    /// They are left out and listed in [`Loaded::faults`](crate::datasets::Loaded::faults).
    #[default]
    Skip,
    /// The first one fails the load.
    Fail,
}

/// Why an item cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Fault {
    /// Bytes that are no UTF-8.
    #[error("invalid UTF-8 at byte {at} of the item")]
    NotUtf8 {
        /// Offset of the first bad byte, from the item's start.
        at: usize,
    },
    /// No JSON.
    #[error("malformed JSON: {}", explained(reason))]
    Json {
        /// What the parser said.
        reason: String,
    },
    /// The file ends within the item.
    #[error("the file ends within the item")]
    Truncated,
    /// JSON, but no object.
    #[error("expected an object, got {}", quoted(got))]
    NotAnObject {
        /// What it is.
        got: String,
    },
    /// A field is not there.
    #[error("field `{}` is missing", quoted(field))]
    Missing {
        /// The field.
        field: String,
    },
    /// A field has another type.
    #[error("field `{}` is {}, expected {expected}", quoted(field), quoted(got))]
    Type {
        /// The field.
        field: String,
        /// What is wanted.
        expected: String,
        /// What it is.
        got: String,
    },
    /// A field that needs content has none.
    #[error("field `{}` is empty", quoted(field))]
    Empty {
        /// The field.
        field: String,
    },
    /// A field has a value that it must not have.
    #[error("field `{}` is {:?}, expected {expected}", quoted(field), quoted(value))]
    Value {
        /// The field.
        field: String,
        /// Its value, cut short.
        value: String,
        /// What is wanted.
        expected: String,
    },
    /// More choices than the format has.
    #[error("field `{}`: there are more choices than {most}", quoted(field))]
    ExtraChoice {
        /// The first field too many.
        field: String,
        /// How many there may be.
        most: usize,
    },
    /// The item is larger than the limit; it was not read into memory.
    #[error("the item is larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// A log of no format that is known.
    #[error("no log that is known: {}", explained(got))]
    NotALog {
        /// What it is, with the fields of an object.
        got: String,
    },
    /// One of several files cannot be read at all.
    #[error("the file cannot be read: {}", explained(reason))]
    File {
        /// Why.
        reason: String,
    },
    /// Another item has the same id.
    #[error("an earlier item, on line {first_line}, has the same id")]
    DuplicateId {
        /// Where the first one stands; that one is kept.
        first_line: usize,
    },
}

/// A malformed item: which, where, why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemFault {
    /// Its id, where it has a readable one.
    pub id: Option<String>,
    /// The line on which it begins, from 1; in Parquet, the row.
    pub line: usize,
    /// What is wrong.
    pub fault: Fault,
}

impl fmt::Display for ItemFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.id {
            Some(id) => write!(f, "line {}, item `{}`: {}", self.line, quoted(id), self.fault),
            None => write!(f, "line {}: {}", self.line, self.fault),
        }
    }
}

impl std::error::Error for ItemFault {}

/// What is wrong with a file as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileFault {
    /// Neither JSON, JSON Lines nor Parquet.
    #[error("neither JSON, JSON Lines nor Parquet: it starts with {start:?}")]
    Unknown {
        /// Its first bytes.
        start: String,
    },
    /// Neither JSON nor JSON Lines, and nothing else is read here.
    #[error("neither JSON nor JSON Lines: it starts with {start:?}")]
    NotJson {
        /// Its first bytes.
        start: String,
    },
    /// UTF-16 that is none.
    #[error("its mark says UTF-16, which it is not")]
    NotUtf16,
    /// A folder without a file to read.
    #[error("no file in it ends in {wanted}")]
    NoFiles {
        /// The endings that are read.
        wanted: &'static str,
    },
    /// An archive or a compressed file.
    #[error("a {kind} file: unpack it first")]
    Packed {
        /// What it is.
        kind: &'static str,
    },
    /// Nothing in it.
    #[error("the file is empty")]
    Empty,
    /// JSON that another structure than the format's is built of.
    #[error("line {line}: expected {expected}")]
    Structure {
        /// Where, from 1.
        line: usize,
        /// What is wanted there.
        expected: &'static str,
    },
    /// Its first item has the fields of no format that is known.
    #[error("no known data set: the first item has the fields {fields:?}")]
    NoDataset {
        /// The fields it has.
        fields: Vec<String>,
    },
    /// A Parquet file that cannot be decoded.
    #[error("damaged Parquet: {reason}")]
    Parquet {
        /// What the decoder said.
        reason: String,
    },
    /// Parquet, but this build cannot read it.
    #[error("a Parquet file; this build lacks the feature `parquet`")]
    NoParquet,
}
