//! The fields of a JSON object, taken out one by one, so that what is left at the end has no effect.

use std::path::Path;

use serde::de::{DeserializeOwned, Error as _};
use serde_json::{Map, Number, Value};

use crate::{Error, Result, Warning};

/// Longer values are cut where they are named.
const MAX_SHOWN: usize = 80;

pub(super) struct Fields<'a> {
    pub(super) map: Map<String, Value>,
    pub(super) path: &'a Path,
    /// What of the fields has no effect although it may be meant to.
    pub(super) warnings: Vec<Warning>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(map: Map<String, Value>, path: &'a Path) -> Self {
        Self { map, path, warnings: Vec::new() }
    }

    /// Removes `field`; `None` where it is absent or null.
    pub(super) fn optional<T: DeserializeOwned>(&mut self, field: &str) -> Result<Option<T>> {
        self.said(field).map(|value| typed(field, &value, self.path)).transpose()
    }

    /// Removes `field` as it is; `None` where it is absent or null.
    pub(super) fn said(&mut self, field: &str) -> Option<Value> {
        self.map.remove(field).filter(|value| !value.is_null())
    }

    pub(super) fn take_or<T: DeserializeOwned>(&mut self, field: &str, default: T) -> Result<T> {
        Ok(self.optional(field)?.unwrap_or(default))
    }

    pub(super) fn take<T: DeserializeOwned>(&mut self, field: &str) -> Result<T> {
        match self.optional(field)? {
            Some(value) => Ok(value),
            None => self.missing(field),
        }
    }

    /// Like [`take`](Self::take), for an object that lies at `prefix`.
    pub(super) fn inner<T: DeserializeOwned>(&mut self, field: &str, prefix: &str) -> Result<T> {
        match self.optional(field)? {
            Some(value) => Ok(value),
            None => self.missing(&format!("{prefix}.{field}")),
        }
    }

    pub(super) fn missing<T>(&self, field: &str) -> Result<T> {
        Err(Error::MissingField { path: self.path.to_path_buf(), field: field.to_string() })
    }

    pub(super) fn unknown(&mut self, field: &str, value: &Value) {
        let (file, field) = (self.path.to_path_buf(), field.to_owned());
        self.warnings.push(Warning::UnknownField { file, field, value: shown(value) });
    }

    pub(super) fn no_effect(&mut self, field: &str, value: &Value, reason: &str) {
        let (file, field, reason) = (self.path.to_path_buf(), field.to_owned(), reason.to_owned());
        self.warnings.push(Warning::NoEffect { file, field, value: shown(value), reason });
    }
}

/// A value of the type that is wanted. Whole numbers may be written with a decimal point, as Python lets them be.
pub(super) fn typed<T: DeserializeOwned>(field: &str, value: &Value, path: &Path) -> Result<T> {
    let read = |value: Value| serde_json::from_value(value);
    read(value.clone()).or_else(|error| {
        let whole = value.as_f64().filter(|x| x.fract() == 0.0 && (0.0..9e15).contains(x));
        let again = whole.and_then(|x| read(Value::Number(Number::from(x as u64))).ok());
        let named = || serde_json::Error::custom(format!("`{field}`: {error}"));
        again.ok_or_else(|| Error::Json { path: path.to_path_buf(), source: named() })
    })
}

/// A value as errors and warnings name it.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

pub(crate) fn unsupported(field: &str, value: &Value, reason: &str) -> Error {
    Error::UnsupportedConfig { field: field.to_string(), value: shown(value), reason: reason.to_string() }
}
