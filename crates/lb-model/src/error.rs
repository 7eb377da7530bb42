//! What can go wrong between a checkpoint on disk and a generated token.

use std::path::PathBuf;

use lb_io::shown::{explained, quoted};

/// Result of everything in this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure, with what is needed to act on it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A JSON file is malformed, or a field has the wrong type.
    #[error("{}: not valid JSON for this use: {}", path.display(), explained(source))]
    Json {
        /// The file.
        path: PathBuf,
        /// Line, column and reason.
        source: serde_json::Error,
    },
    /// A required field is missing from a JSON file.
    #[error("{}: the field `{}` is missing", path.display(), quoted(field))]
    MissingField {
        /// The file.
        path: PathBuf,
        /// The field.
        field: String,
    },
    /// A value in a file has the wrong type.
    #[error("{}: `{}` is {}, expected {expected}", path.display(), quoted(field), quoted(got))]
    FieldType {
        /// The file.
        path: PathBuf,
        /// The key.
        field: String,
        /// What it should be.
        expected: &'static str,
        /// What it is.
        got: &'static str,
    },
    /// The checkpoint asks for something this crate does not implement.
    #[error("unsupported `{}` = {}: {}", quoted(field), quoted(value), explained(reason))]
    UnsupportedConfig {
        /// The field in config.json or tokenizer.json, or the key in a GGUF file.
        field: String,
        /// Its value, as JSON.
        value: String,
        /// What is supported instead.
        reason: String,
    },
    /// A setting is out of its range.
    #[error("invalid `{field}` = {}: {reason}", quoted(value))]
    Config {
        /// The setting.
        field: &'static str,
        /// Its value.
        value: String,
        /// The accepted range.
        reason: String,
    },
    /// A safetensors or GGUF file is truncated or inconsistent.
    #[error("{}: corrupt file: {}", path.display(), explained(reason))]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// A file is not what its name says: a pointer to it, a page that says why it cannot be had, another format.
    #[error("{}: {found}; {fix}", path.display())]
    Misfiled {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: String,
        /// What helps.
        fix: &'static str,
    },
    /// A folder lacks a file without which there is no model.
    #[error("{}: {missing} is missing; {found}", folder.display())]
    Incomplete {
        /// The folder.
        folder: PathBuf,
        /// The file, or the kind of file.
        missing: String,
        /// What lies there instead, and what helps.
        found: String,
    },
    /// A conversation needs a chat template, which base models have none of.
    #[error(
        "{}: the checkpoint has no chat template, which a conversation needs: no chat_template.jinja, and no \
         `chat_template` in tokenizer_config.json; base models continue a prompt, the template of the tuned model turns \
         them into one that answers", path.display()
    )]
    NoChatTemplate {
        /// The folder, or the GGUF file.
        path: PathBuf,
    },
    /// A checkpoint was accepted with warnings, and none were wanted.
    #[error("strict: {}{}", .warnings.first().map(ToString::to_string).unwrap_or_default(), more(.warnings.len()))]
    Strict {
        /// Every warning, at least one.
        warnings: Vec<crate::Warning>,
    },
    /// Parts of a GGUF file in several parts are not beside it.
    #[error("{}: one of the {count} parts of a model; not beside it: {}", path.display(), missing.join(", "))]
    MissingParts {
        /// The part that was opened.
        path: PathBuf,
        /// Names of the files that are missing.
        missing: Vec<String>,
        /// How many parts there are.
        count: usize,
    },
    /// The model needs a tensor that no file holds.
    #[error("{}: the tensor `{}` is missing{}", file.display(), quoted(name), hint(name))]
    MissingTensor {
        /// The tensor.
        name: String,
        /// The file, or the folder of the shards, that was searched.
        file: PathBuf,
    },
    /// The files hold tensors that the model has no place for.
    #[error("{}: {} tensor(s) the model has no place for, the first is `{}`", file.display(), names.len(), quoted(&names[0]))]
    UnexpectedTensors {
        /// The tensors, sorted, at least one.
        names: Vec<String>,
        /// The file, or the folder of the shards.
        file: PathBuf,
    },
    /// The weights are packed in a way that is not read.
    #[error(
        "{}: `{name}` is packed by {how}; read are safetensors in bf16, f16 and f32, and GGUF files: take the model that \
         this one was made of, or a GGUF of it", file.display()
    )]
    PackedTensors {
        /// The first such tensor.
        name: String,
        /// The file that holds it.
        file: PathBuf,
        /// What packs so.
        how: &'static str,
    },
    /// A tensor has the wrong shape.
    #[error("{}: the tensor `{}` has shape {got:?}, expected {expected:?}", file.display(), quoted(name))]
    TensorShape {
        /// The tensor.
        name: String,
        /// The file that holds it.
        file: PathBuf,
        /// What the configuration implies.
        expected: Vec<usize>,
        /// What the file says.
        got: Vec<usize>,
    },
    /// A tensor is stored in a dtype that this crate does not read.
    #[error("{}: the tensor `{}` has dtype {got}, which is not read here", file.display(), quoted(name))]
    TensorDtype {
        /// The tensor.
        name: String,
        /// The file that holds it.
        file: PathBuf,
        /// The dtype as written in the file.
        got: String,
    },
    /// A tensor holds NaN or an infinity.
    #[error("{}: `{tensor}` holds a value that is not finite", file.display())]
    NonFinite {
        /// The tensor, `logits` for a forward pass.
        tensor: String,
        /// The file that holds it; empty for a computed tensor.
        file: PathBuf,
    },
    /// Vectors were trained for another model.
    #[error("{}: `{field}` is of another model, these vectors were trained for {}", path.display(), quoted(trained_for))]
    OtherModel {
        /// The file.
        path: PathBuf,
        /// What the models are told apart by.
        field: &'static str,
        /// Whom they were trained for, as the file says.
        trained_for: String,
    },
    /// A text has a token that the model has no embedding for.
    #[error("the token `{}` has id {id}, the model has {vocab_size} embeddings", quoted(token))]
    TokenizerMismatch {
        /// The token.
        token: String,
        /// Its id in the tokenizer.
        id: u32,
        /// Rows of the model's embedding.
        vocab_size: usize,
    },
    /// The tokenizer file could not be read or used.
    #[error("tokenizer: {}", explained(reason))]
    Tokenizer {
        /// What the tokenizer library said.
        reason: String,
    },
    /// The chat template could not be parsed, rendered or split.
    #[error("chat template: {}", explained(reason))]
    Template {
        /// What went wrong.
        reason: String,
    },
    /// A conversation is malformed or does not fit the call.
    #[error("conversation: `{}`: {}", quoted(field), explained(reason))]
    Conversation {
        /// Where, such as `messages[2].content[0].text`.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A token id beyond the vocabulary.
    #[error("token {id} is beyond the vocabulary of {vocab_size}")]
    TokenRange {
        /// The id.
        id: u32,
        /// The size of the vocabulary.
        vocab_size: usize,
    },
    /// More positions than the model was made for. The cache is as it was before the call.
    #[error("{positions} positions are more than the model's {limit}")]
    ContextOverflow {
        /// Positions after the call, had it been carried out.
        positions: usize,
        /// See [`ModelConfig::position_limit`](crate::ModelConfig::position_limit).
        limit: usize,
    },
    /// An argument has the wrong shape.
    #[error("`{arg}` has shape {got:?}, expected {expected}")]
    Shape {
        /// The argument.
        arg: &'static str,
        /// What was expected, in words.
        expected: String,
        /// What came.
        got: Vec<usize>,
    },
    /// An argument that must not be empty is.
    #[error("`{arg}` is empty")]
    Empty {
        /// The argument.
        arg: &'static str,
    },
    /// The cache cannot do what is asked of it.
    #[error("cache: {reason}")]
    Cache {
        /// What does not fit.
        reason: String,
    },
    /// One of the sequences of a batch is at fault.
    #[error("sequence {index}: {source}")]
    Sequence {
        /// Which one, from 0.
        index: usize,
        /// What is wrong with it.
        source: Box<Error>,
    },
    /// A text is longer than there is room for; it was not encoded to its end.
    #[error("a text of {bytes} bytes has more than {most} tokens, as many as there are positions for it")]
    TooManyTokens {
        /// Of the text.
        bytes: usize,
        /// Tokens at most.
        most: usize,
    },
    /// Reading was broken off by who asked for it. The caches are as before.
    #[error("broken off")]
    Interrupted,
    /// The device cannot be used.
    #[error("device {device}: {reason}")]
    Device {
        /// The device asked for.
        device: String,
        /// Why not.
        reason: String,
    },
    /// A file of the Hugging Face hub cannot be had.
    #[cfg(feature = "hub")]
    #[error("{repo} (revision {revision}), {file}: {failure}")]
    Hub {
        /// The repository, `org/name`, or `datasets/org/name`.
        repo: String,
        /// The branch, tag or commit that was asked for.
        revision: String,
        /// The file in the repository.
        file: String,
        /// Why.
        failure: Box<crate::hub::Failure>,
    },
    /// A failure in the compaction crate.
    #[error(transparent)]
    Am(#[from] lb_am::Error),
    /// A tensor cannot be read as the kernels read it.
    #[error(transparent)]
    Kernel(#[from] lb_kernels::Error),
    /// A failure in a tensor operation.
    #[error("tensor operation: {0}")]
    Tensor(#[from] candle_core::Error),
}

/// What may be meant where a tensor is missing.
fn hint(tensor: &str) -> &'static str {
    if tensor == "lm_head.weight" {
        "; with `tie_word_embeddings` = true in config.json the embedding is the head"
    } else {
        ""
    }
}

/// How many warnings stand behind the one that is told.
fn more(count: usize) -> String {
    if count > 1 { format!(" (and {} more)", count - 1) } else { String::new() }
}

impl Error {
    pub(crate) fn cache(reason: impl Into<String>) -> Self {
        Self::Cache { reason: reason.into() }
    }

    pub(crate) fn in_sequence(self, index: usize) -> Self {
        Self::Sequence { index, source: Box::new(self) }
    }

    pub(crate) fn template(source: &impl std::fmt::Display) -> Self {
        Self::Template { reason: source.to_string() }
    }
}

impl From<lb_io::Error> for Error {
    fn from(error: lb_io::Error) -> Self {
        match error {
            lb_io::Error::Config { field, value, reason } => Self::Config { field, value, reason },
            other => Self::Config { field: "environment", value: String::new(), reason: other.to_string() },
        }
    }
}
