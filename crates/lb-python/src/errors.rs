//! What goes wrong, as the exceptions of `latent_briefing._errors`.

use std::error::Error as StdError;
use std::sync::Mutex;

use pyo3::prelude::*;
use pyo3::types::PyDict;

const MODULE: &str = "latent_briefing._errors";
/// Marks the place of a Python exception in the text of an error that cannot carry one.
const MARK: &str = "raised in Python, number ";

/// Exceptions on their way through code that knows nothing of Python.
static ON_THE_WAY: Mutex<Vec<(u64, PyErr)>> = Mutex::new(Vec::new());

/// The exception `class` with a message and attributes.
fn raise(class: &str, message: &str, fields: &[(&str, String)]) -> PyErr {
    Python::attach(|py| {
        let made = || -> PyResult<PyErr> {
            let named = PyDict::new(py);
            for (name, value) in fields {
                named.set_item(name, value)?;
            }
            let class = py.import(MODULE)?.getattr(class)?;
            Ok(PyErr::from_value(class.call((message,), Some(&named))?))
        };
        made().unwrap_or_else(|error| error)
    })
}

/// A tensor that cannot be read.
pub(crate) fn tensor(message: impl AsRef<str>) -> PyErr {
    raise("TensorError", message.as_ref(), &[])
}

/// An argument that is out of range.
pub(crate) fn config(field: &str, message: impl AsRef<str>) -> PyErr {
    raise("ConfigError", message.as_ref(), &[("field", field.to_owned())])
}

/// A session that cannot do what it is asked.
pub(crate) fn session_error(message: impl AsRef<str>) -> PyErr {
    raise("SessionError", message.as_ref(), &[])
}

/// Something that was called off without a signal.
pub(crate) fn cancelled() -> PyErr {
    raise("Cancelled", "called off", &[])
}

/// A text that stands for `error` until [`found`] takes it up.
pub(crate) fn sent_on(error: PyErr) -> String {
    let mut all = ON_THE_WAY.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let number = all.last().map_or(0, |(last, _)| last + 1);
    all.push((number, error));
    format!("{MARK}{number}.")
}

/// The exception that a text stands for.
fn found(text: &str) -> Option<PyErr> {
    let (_, rest) = text.split_once(MARK)?;
    let number: u64 = rest.split_once('.')?.0.parse().ok()?;
    let mut all = ON_THE_WAY.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let at = all.iter().position(|(other, _)| *other == number)?;
    Some(all.remove(at).1)
}

/// The text of an error and of all that led to it.
fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text
}

/// An error of one of the library's crates as an exception.
pub(crate) trait Raised {
    /// The exception.
    fn raised(self) -> PyErr;
}

/// Shorthand for results.
pub(crate) trait OrRaise<T> {
    /// The value, or the exception.
    fn or_raise(self) -> PyResult<T>;
}

impl<T, E: Raised> OrRaise<T> for Result<T, E> {
    fn or_raise(self) -> PyResult<T> {
        self.map_err(Raised::raised)
    }
}

impl Raised for lb_am::Error {
    fn raised(self) -> PyErr {
        use lb_am::Error as E;
        let text = chain(&self);
        if let Some(error) = found(&text) {
            return error;
        }
        let mut inner = &self;
        while let E::Layer { source, .. } = inner {
            inner = source;
        }
        match inner {
            E::Config { field, value, .. } => {
                raise("ConfigError", &text, &[("field", (*field).to_owned()), ("value", value.clone())])
            }
            E::UnknownSelector { name, .. } => {
                raise("ConfigError", &text, &[("field", "select".to_owned()), ("value", name.clone())])
            }
            E::SelectorKey { .. }
            | E::SelectorValue { .. }
            | E::SelectorText { .. }
            | E::SelectorTaken { .. }
            | E::Combination { .. } => config("select", text),
            E::Shape { .. } | E::Dtype { .. } | E::NonFinite { .. } | E::Empty { .. } => tensor(text),
            _ => raise("LatentBriefingError", &text, &[]),
        }
    }
}

impl Raised for candle_core::Error {
    fn raised(self) -> PyErr {
        let text = chain(&self);
        found(&text).unwrap_or_else(|| raise("LatentBriefingError", &text, &[]))
    }
}

impl Raised for lb_model::Error {
    fn raised(self) -> PyErr {
        use lb_model::Error as E;
        let text = chain(&self);
        if let Some(error) = found(&text) {
            return error;
        }
        match &self {
            E::Interrupted => cancelled(),
            E::Config { field, .. } => config(field, text),
            _ => raise("ModelError", &text, &[]),
        }
    }
}

impl Raised for lb_session::Error {
    fn raised(self) -> PyErr {
        use lb_session::Error as E;
        match self {
            E::Compaction(error) => error.raised(),
            E::Model(error) => error.raised(),
            E::Tensor(error) => error.raised(),
            E::Call { index, source } => {
                let error = source.raised();
                Python::attach(|py| error.value(py).setattr("call", index).ok());
                error
            }
            E::Cancelled => cancelled(),
            E::Timeout { .. } => raise("TimedOut", &chain(&self), &[]),
            E::Config { field, ref value, .. } => {
                raise("ConfigError", &chain(&self), &[("field", field.to_owned()), ("value", value.clone())])
            }
            E::Empty { arg } => config(arg, chain(&self)),
            other => session_error(chain(&other)),
        }
    }
}

impl Raised for lb_orchestrate::Error {
    fn raised(self) -> PyErr {
        use lb_orchestrate::Error as E;
        match self {
            E::Session(error) => error.raised(),
            E::Model(error) => error.raised(),
            E::Cancelled => cancelled(),
            E::Timeout { .. } => raise("TimedOut", &chain(&self), &[]),
            E::Config { field, ref value, .. } => {
                raise("ConfigError", &chain(&self), &[("field", field.to_owned()), ("value", value.clone())])
            }
            E::Empty { arg } => config(arg, chain(&self)),
            other => {
                let text = chain(&other);
                found(&text).unwrap_or_else(|| raise("LatentBriefingError", &text, &[]))
            }
        }
    }
}

impl Raised for Box<lb_orchestrate::Stopped> {
    fn raised(self) -> PyErr {
        let stopped = *self;
        let text = chain(&stopped);
        if let Some(error) = found(&text) {
            return error;
        }
        let mut fields = vec![("turns", stopped.turns.to_string())];
        if let Some(partial) = stopped.partial {
            fields.push(("partial", partial));
        }
        raise("RunStopped", &text, &fields)
    }
}

impl Raised for lb_serve::Error {
    fn raised(self) -> PyErr {
        match self {
            lb_serve::Error::Session(error) => error.raised(),
            lb_serve::Error::Config { field, .. } => config(field, chain(&self)),
            other => raise("ServeError", &chain(&other), &[]),
        }
    }
}

impl Raised for lb_explain::Error {
    fn raised(self) -> PyErr {
        raise("LatentBriefingError", &chain(&self), &[])
    }
}
