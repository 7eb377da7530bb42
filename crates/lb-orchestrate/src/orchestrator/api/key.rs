//! Keys, which no text that leaves the client may show.

use std::env;
use std::fmt;

use ureq::http::HeaderValue;

use crate::{Error, Result};

/// In place of a key.
const HIDDEN: &str = "[hidden]";
/// So many characters of a key in a row are hidden too: servers repeat parts of the key that they refuse.
const PART: usize = 8;
/// Bytes of a text that are looked at, and kept.
const HIDE_BYTES: usize = 8 << 10;
const LONGEST: usize = 4096;

/// The key of an API. It is in no `Debug` or `Display` output, no error and no log, and cannot be serialised.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey([hidden])")
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl ApiKey {
    /// A key.
    ///
    /// # Errors
    /// [`Error::Config`] naming `key`, without its value, unless it is printable ASCII without spaces.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        Self::checked("key", text.into())
    }

    /// The key in an environment variable, `None` where it is not set.
    ///
    /// # Errors
    /// [`Error::Config`] naming the variable, without its value: it is empty, has a newline, or is otherwise no key.
    pub fn from_env(variable: &'static str) -> Result<Option<Self>> {
        match env::var(variable) {
            Ok(text) => Self::checked(variable, text).map(Some),
            Err(env::VarError::NotPresent) => Ok(None),
            Err(env::VarError::NotUnicode(_)) => Err(refused(variable, "printable ASCII is wanted")),
        }
    }

    fn checked(name: &'static str, text: String) -> Result<Self> {
        if text.is_empty() {
            return Err(Error::config(name, "(empty)", "a key is wanted; unset the variable to send none"));
        }
        if text.contains(['\n', '\r']) {
            return Err(refused(name, "it has a line break, perhaps from the file that it was read from"));
        }
        if !text.chars().all(|c| c.is_ascii_graphic()) {
            return Err(refused(name, "printable ASCII without spaces is wanted"));
        }
        if text.len() > LONGEST {
            return Err(refused(name, "it is longer than any key, 4,096 characters"));
        }
        lb_io::secrets::remember(&text);
        Ok(Self(text))
    }

    /// The value of a header that carries the key.
    pub(super) fn header(&self, prefix: &str) -> Result<HeaderValue> {
        let value = HeaderValue::try_from(format!("{prefix}{}", self.0));
        let mut value = value.map_err(|_| refused("key", "it does not fit a header"))?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// The text without the key or long parts of it.
    pub(super) fn hide(&self, text: &str) -> String {
        // The beginning says what is wrong; looking at all of a long one would take seconds.
        let text = &text[..text.floor_char_boundary(HIDE_BYTES)];
        let (key, bytes) = (self.0.as_bytes(), text.as_bytes());
        let least = PART.min(key.len());
        let mut out = String::with_capacity(text.len());
        let mut at = 0;
        while let Some(c) = text[at..].chars().next() {
            let matched = key
                .windows(least)
                .enumerate()
                .filter(|(_, part)| bytes[at..].starts_with(part))
                .map(|(start, _)| key[start..].iter().zip(&bytes[at..]).take_while(|(a, b)| a == b).count())
                .max();
            if let Some(length) = matched {
                out.push_str(HIDDEN);
                at += length;
            } else {
                out.push(c);
                at += c.len_utf8();
            }
        }
        out
    }
}

fn refused(name: &'static str, reason: &'static str) -> Error {
    Error::config(name, HIDDEN, reason)
}
