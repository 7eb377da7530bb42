//! The one error type of this crate.

use candle_core::DType;

/// Result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong in a compaction. No input makes this crate panic.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor or list has the wrong shape.
    #[error("{arg}: expected shape {expected}, got {got:?}")]
    Shape {
        /// The argument at fault.
        arg: &'static str,
        /// What was asked for, with names for free dimensions.
        expected: String,
        /// The shape that came in.
        got: Vec<usize>,
    },
    /// A tensor has a dtype which is not supported, or which does not fit the cache.
    #[error("{arg}: expected dtype {expected:?}, got {got:?}")]
    Dtype {
        /// The argument at fault.
        arg: &'static str,
        /// The dtypes that would do.
        expected: Vec<DType>,
        /// The dtype that came in.
        got: DType,
    },
    /// A setting is outside its range.
    #[error("{field} = {value}: {reason}")]
    Config {
        /// Path of the field inside the configuration.
        field: &'static str,
        /// The value that was refused.
        value: String,
        /// The range, or what the value contradicts.
        reason: &'static str,
    },
    /// Something went wrong at one layer.
    #[error("layer {index}")]
    Layer {
        /// Index into the layers that were passed in.
        index: usize,
        /// What went wrong there.
        source: Box<Error>,
    },
    /// NaN or infinity in an input, or in what an input leads to (logits beyond f32). A key bias may be −∞,
    /// which marks padding.
    #[error("{arg} of layer {layer} holds NaN or infinity")]
    NonFinite {
        /// The tensor at fault.
        arg: &'static str,
        /// Index into the layers that were passed in.
        layer: usize,
    },
    /// There is nothing to work on: no layer, no query, no position, or a head whose slots are all padding.
    #[error("{arg} is empty")]
    Empty {
        /// What is empty.
        arg: &'static str,
    },
    /// A system of a value fit could not be factorised even with its diagonal raised.
    #[error(
        "the {size} x {size} system of the value fit is not positive definite, even with jitter {jitter:e}"
    )]
    Singular {
        /// Rows of the system.
        size: usize,
        /// The largest jitter tried, relative to the mean diagonal.
        jitter: f64,
    },
    /// No selection has this name.
    #[error("no selection is called `{name}`; there are {}", known.join(", "))]
    UnknownSelector {
        /// The name that was given.
        name: String,
        /// The names that there are, the likeliest first.
        known: Vec<String>,
    },
    /// A selection has no such argument.
    #[error("the selection {selector} takes no `{key}`; {}", taken(known))]
    SelectorKey {
        /// The selection.
        selector: String,
        /// The key that was given.
        key: String,
        /// The keys that it takes, the likeliest first.
        known: Box<[String]>,
    },
    /// An argument of a selection has a value that will not do.
    #[error("{selector}: {argument}: want {wanted}")]
    SelectorValue {
        /// The selection.
        selector: String,
        /// The argument with its value, `key=value`.
        argument: String,
        /// What would do.
        wanted: &'static str,
    },
    /// A text is no selection.
    #[error("{text:?} {reason}; a selection is written name or name:key=value,key=value")]
    SelectorText {
        /// The text.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A selection was to be registered under a name that another one has.
    #[error("there is a selection called {name} already")]
    SelectorTaken {
        /// The name.
        name: String,
    },
    /// A selection does not go with another setting.
    #[error("the selection {selector} does not go with {setting}: {reason}")]
    Combination {
        /// The selection.
        selector: String,
        /// The other setting.
        setting: &'static str,
        /// Why not, and what would.
        reason: &'static str,
    },
    /// A tensor cannot be read as slices.
    #[error(transparent)]
    Kernel(#[from] lb_kernels::Error),
    /// A tensor operation failed, for example across devices.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// What a selection takes.
fn taken(keys: &[String]) -> String {
    if keys.is_empty() { "it takes no arguments".to_owned() } else { format!("it takes {}", keys.join(", ")) }
}

/// Adds the layer to an error that happened there.
pub(crate) trait AtLayer<T> {
    fn at_layer(self, index: usize) -> Result<T>;
}

impl<T> AtLayer<T> for Result<T> {
    fn at_layer(self, index: usize) -> Result<T> {
        self.map_err(|error| match error {
            // Already names its layer.
            Error::NonFinite { .. } => error,
            other => Error::Layer { index, source: Box::new(other) },
        })
    }
}
