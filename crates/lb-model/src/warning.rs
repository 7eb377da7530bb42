//! What was accepted in a checkpoint although it may not be meant so.

use std::path::PathBuf;

use lb_io::shown::{explained, quoted};

/// Something about a checkpoint that its user should know. [`Worker::warnings`](crate::Worker::warnings) lists them,
/// [`Checkpoint::strict`](crate::Checkpoint::strict) refuses checkpoints with any.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// A field of config.json, or a key of a GGUF file, that this crate does not know. It has no effect.
    UnknownField {
        /// The file.
        file: PathBuf,
        /// The field, with the objects around it, or the key.
        field: String,
        /// Its value, as JSON.
        value: String,
    },
    /// A field of config.json that is known, whose value has no effect here.
    NoEffect {
        /// The file.
        file: PathBuf,
        /// The field, with the objects around it.
        field: String,
        /// Its value, as JSON.
        value: String,
        /// Why.
        reason: String,
    },
    /// The files say that the output head is the embedding, and hold a head that differs from it. That one is used.
    HeadOfItsOwn {
        /// The file, or the index of the shards.
        file: PathBuf,
    },
    /// Tensors that are no part of the decoder, and were left out.
    UnusedTensors {
        /// The file, or the index of the shards.
        file: PathBuf,
        /// Their names, sorted, at least one.
        names: Vec<String>,
    },
    /// A file without which the model is whole is no JSON, and was left out.
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Line, column and reason.
        reason: String,
    },
    /// There is no chat template: trajectory and task are put together as plain text.
    PlainText {
        /// The checkpoint.
        model: String,
    },
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::UnknownField { file, field, value } => {
                write!(
                    f,
                    "{}: `{}` = {} is not known here and has no effect",
                    file.display(),
                    quoted(field),
                    quoted(value)
                )
            }
            Self::NoEffect { file, field, value, reason } => {
                write!(
                    f,
                    "{}: `{}` = {} has no effect: {reason}",
                    file.display(),
                    quoted(field),
                    quoted(value)
                )
            }
            Self::HeadOfItsOwn { file } => write!(
                f,
                "{}: config.json says `tie_word_embeddings` = true, but `lm_head.weight` differs from the embedding; it \
                 is used as the head",
                file.display()
            ),
            Self::UnusedTensors { file, names } => write!(
                f,
                "{}: {} tensor(s) that are no part of the decoder are left out, the first is `{}`",
                file.display(),
                names.len(),
                names.first().map(|name| quoted(name)).unwrap_or_default()
            ),
            Self::Unreadable { file, reason } => {
                write!(f, "{}: left out, since it is not valid JSON: {}", file.display(), explained(reason))
            }
            Self::PlainText { model } => write!(
                f,
                "{model} has no chat template: trajectory and task reach it as plain text to be continued"
            ),
        }
    }
}
