//! What stands behind a selector's name, taken one by one.

use std::str::FromStr;

use super::spec::Spec;
use crate::error::{Error, Result};

/// Arguments of a [`Spec`], for a factory to take.
#[derive(Debug)]
pub struct Arguments<'a> {
    spec: &'a Spec,
}

impl<'a> Arguments<'a> {
    pub(super) fn of(spec: &'a Spec) -> Self {
        Self { spec }
    }

    /// The value of `key`, where it was given. `wanted` says in a few words what it has to be.
    ///
    /// # Errors
    ///
    /// [`Error::SelectorValue`] for a value that is no `T`.
    pub fn get<T: FromStr>(&self, key: &str, wanted: &'static str) -> Result<Option<T>> {
        let Some((_, value)) = self.spec.arguments().iter().find(|(other, _)| other == key) else {
            return Ok(None);
        };
        value.parse().map(Some).map_err(|_| self.wrong(key, wanted))
    }

    /// The same, and `usual` where it was not given.
    ///
    /// # Errors
    ///
    /// [`Error::SelectorValue`] for a value that is no `T`.
    pub fn get_or<T: FromStr>(&self, key: &str, wanted: &'static str, usual: T) -> Result<T> {
        Ok(self.get(key, wanted)?.unwrap_or(usual))
    }

    /// The error that `key` has a value that will not do.
    pub fn wrong(&self, key: &str, wanted: &'static str) -> Error {
        let given = self.spec.arguments().iter().find(|(other, _)| other == key);
        Error::SelectorValue {
            selector: self.spec.name().to_owned(),
            argument: given.map_or_else(|| key.to_owned(), |(key, value)| format!("{key}={value}")),
            wanted,
        }
    }
}
