//! The fields of a JSON object, taken out one by one, so that what is left at the end is unknown.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{Error, Result};

pub(super) struct Fields<'a> {
    pub(super) map: Map<String, Value>,
    pub(super) path: &'a Path,
}

impl Fields<'_> {
    /// Removes `field`; `None` where it is absent or null.
    pub(super) fn optional<T: DeserializeOwned>(&mut self, field: &str) -> Result<Option<T>> {
        self.map.remove(field).filter(|v| !v.is_null()).map(|v| typed(&v, self.path)).transpose()
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

    /// Removes `field` and checks it, where present, against the supported values.
    pub(super) fn require(&mut self, field: &str, supported: &[Value], reason: &str) -> Result<()> {
        match self.map.remove(field) {
            Some(value) if !supported.contains(&value) => Err(unsupported(field, &value, reason)),
            _ => Ok(()),
        }
    }

    pub(super) fn missing<T>(&self, field: &str) -> Result<T> {
        Err(Error::MissingField { path: self.path.to_path_buf(), field: field.to_string() })
    }
}

pub(super) fn typed<T: DeserializeOwned>(value: &Value, path: &Path) -> Result<T> {
    serde_json::from_value(value.clone()).map_err(|source| Error::Json { path: path.to_path_buf(), source })
}

pub(crate) fn unsupported(field: &str, value: &Value, reason: &str) -> Error {
    Error::UnsupportedConfig {
        field: field.to_string(),
        value: value.to_string(),
        reason: reason.to_string(),
    }
}
