//! What can go wrong in generation, evaluation and reports.

use std::path::PathBuf;

use lb_io::shown::{explained, quoted};

/// Errors of `lb-eval`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A parameter is out of range.
    #[error("{field} = {}: {reason}", quoted(value))]
    Config {
        /// The parameter.
        field: &'static str,
        /// What it was.
        value: String,
        /// What is wanted.
        reason: &'static str,
    },
    /// The worker or its session failed.
    #[error(transparent)]
    Session(#[from] lb_session::Error),
    /// Several workers, or what they were told to do, failed.
    #[error(transparent)]
    Coordinate(Box<lb_coordinate::Error>),
    /// A run of the loop failed.
    #[cfg(feature = "loop")]
    #[error(transparent)]
    Run(#[from] lb_orchestrate::Error),
    /// A line is no JSON of the form it should have.
    #[error("{}, line {line_number}: {}", path.display(), explained(source))]
    Json {
        /// The file.
        path: std::path::PathBuf,
        /// From 1.
        line_number: usize,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A row of a benchmark has a value that cannot be.
    #[error("{}, line {line_number}: {field} = {}: {reason}", path.display(), quoted(value))]
    Row {
        /// The file.
        path: PathBuf,
        /// From 1.
        line_number: usize,
        /// The field.
        field: &'static str,
        /// What it was.
        value: String,
        /// What is wanted.
        reason: &'static str,
    },
    /// An item has two rows under one condition and repeat.
    #[error(
        "{}, line {second}: item {:?} under `{}`, repeat {repeat}, is already in line {first}",
        path.display(),
        quoted(item),
        quoted(condition)
    )]
    DuplicateRow {
        /// The file.
        path: PathBuf,
        /// Line of the first, from 1.
        first: usize,
        /// Line of the second.
        second: usize,
        /// The item.
        item: String,
        /// The condition.
        condition: String,
        /// The repeat.
        repeat: usize,
    },
    /// The page of a run could not be made.
    #[cfg(feature = "loop")]
    #[error(transparent)]
    Explain(#[from] lb_explain::Error),
    /// A page could not be made, which would be a bug of its template.
    #[cfg(feature = "loop")]
    #[error("page: {0}")]
    Page(Box<minijinja::Error>),
    /// A data set's file cannot be read, or not to its end.
    #[error("{}: {source}", path.display())]
    Dataset {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: crate::fault::FileFault,
    },
    /// A data set has a malformed item, and was to be read without any.
    #[error("{}, {}", path.display(), explained(source))]
    Item {
        /// The file.
        path: PathBuf,
        /// Which item, and what is wrong with it.
        source: Box<crate::fault::ItemFault>,
    },
    /// A folder holds rows of another plan.
    #[error("{}: `{field}` was {} and is {} now; resume with the same, or take another folder", path.display(), quoted(was), quoted(now))]
    PlanChanged {
        /// The plan's file.
        path: PathBuf,
        /// What differs.
        field: String,
        /// Its value in the file, as JSON.
        was: String,
        /// Its value now, as JSON.
        now: String,
    },
    /// A picture could not be drawn.
    #[error("plot: {reason}")]
    Plot {
        /// Why.
        reason: String,
    },
    /// Another process writes to it.
    #[error("{}: in use by {holder}; wait for it, or take another", path.display())]
    Locked {
        /// The file or folder.
        path: PathBuf,
        /// Who has it, as far as is known.
        holder: String,
    },
    /// A file could not be written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is no safetensors file, or was cut short.
    #[error("{}: not a whole safetensors file", file.display())]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: safetensors::SafeTensorError,
    },
    /// A file lacks a tensor.
    #[error("{}: there is no tensor `{tensor}`", file.display())]
    MissingTensor {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: &'static str,
    },
    /// A tensor of a file has another shape than is wanted.
    #[error("{}: `{tensor}` has the shape {got:?}, expected {expected}", file.display())]
    TensorShape {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: &'static str,
        /// What is wanted, with names for free dimensions.
        expected: String,
        /// What it has.
        got: Vec<usize>,
    },
    /// A tensor of a file has a dtype that cannot be used.
    #[error("{}: `{tensor}` is {got}, expected {expected}", file.display())]
    TensorDtype {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: &'static str,
        /// What would do.
        expected: String,
        /// What it is.
        got: String,
    },
    /// A tensor of a file holds NaN or an infinity.
    #[error("{}: `{tensor}` holds NaN or infinity at layer {layer}, head {head}", file.display())]
    NonFinite {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: &'static str,
        /// The layer.
        layer: usize,
        /// The KV head.
        head: usize,
    },
    /// A model could not be loaded or run.
    #[error(transparent)]
    Model(#[from] lb_model::Error),
    /// A compaction failed.
    #[error(transparent)]
    Compaction(#[from] lb_am::Error),
    /// A server that answers as a worker does not, or none of several does any more.
    #[cfg(feature = "servers")]
    #[error("{url}: {reason}")]
    Server {
        /// Its address.
        url: String,
        /// What it said, or what came in the place of an answer.
        reason: String,
    },
    /// A training failed.
    #[error(transparent)]
    Train(Box<lb_train::Error>),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl From<lb_coordinate::Error> for Error {
    fn from(error: lb_coordinate::Error) -> Self {
        Self::Coordinate(Box::new(error))
    }
}

impl From<lb_train::Error> for Error {
    fn from(error: lb_train::Error) -> Self {
        Self::Train(Box::new(error))
    }
}

impl Error {
    pub(crate) fn config(field: &'static str, value: impl std::fmt::Display, reason: &'static str) -> Self {
        Self::Config { field, value: value.to_string(), reason }
    }
}

/// An error and its causes on one line, none said twice.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| match cause.to_string() {
        said if text.ends_with(&said) => text,
        new => format!("{text}: {new}"),
    })
}

/// Results of `lb-eval`.
pub type Result<T> = std::result::Result<T, Error>;
