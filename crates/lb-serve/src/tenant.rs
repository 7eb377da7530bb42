//! Who asks.

use std::fmt;
use std::sync::Arc;

/// Whose request it is: what one has made no other sees, caches included.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tenant(Arc<str>);

impl Tenant {
    /// Everybody, where no keys are asked for.
    pub fn local() -> Self {
        Self("local".into())
    }

    /// The one of this name: letters, digits, `-` and `_`, at most 64.
    pub fn named(name: &str) -> Option<Self> {
        let fits = (1..=64).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        fits.then(|| Self(name.into()))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
