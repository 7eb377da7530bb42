//! Lists of conditions, as text.

use std::collections::BTreeSet;

use lb_am::registry;
use lb_session::HandoffKind;

use crate::{Error, Result};

/// The condition without a loop: the worker alone reads the prompt of the published protocol, cut in its middle.
pub const DIRECT: &str = "direct";

/// Conditions of one text: `;` between them, or `,` before a name, `full-kv,bm25:0.1,passage=40,snapkv:keep=0.1`.
pub fn split_conditions(text: &str) -> Vec<String> {
    let named = |piece: &str| {
        let name = piece.split_once(':').map_or(piece, |(name, _)| name).trim();
        name == DIRECT || name.parse::<HandoffKind>().is_ok() || registry::knows(name)
    };
    let mut conditions: Vec<String> = Vec::new();
    for part in text.split(';') {
        for (at, piece) in part.split(',').enumerate() {
            match conditions.last_mut().filter(|_| at > 0 && !named(piece)) {
                Some(last) => *last = format!("{last},{piece}"),
                None => conditions.push(piece.trim().to_owned()),
            }
        }
    }
    conditions
}

/// Each name with `keep=*` at every one of `sizes`, in their order.
///
/// # Errors
/// [`Error::Config`] where there is such a name and no size.
pub fn at_each_size(names: Vec<String>, sizes: &[f64]) -> Result<Vec<String>> {
    const ANY: &str = "keep=*";
    let mut all = Vec::new();
    for name in names {
        match sizes {
            _ if !name.contains(ANY) => all.push(name),
            [] => return Err(Error::config("keep", "none", "want sizes for keep=*, as in 0.1,0.05")),
            sizes => all.extend(sizes.iter().map(|size| name.replace(ANY, &format!("keep={size}")))),
        }
    }
    Ok(all)
}

/// Each of `names` with what `read` makes of it.
///
/// # Errors
/// [`Error::Config`] for none and for one that is there twice; what `read` returns.
pub(crate) fn each_once<T>(
    names: impl IntoIterator<Item = String>,
    read: impl Fn(String) -> Result<T>,
) -> Result<Vec<T>> {
    let mut seen = BTreeSet::new();
    let one = |name: String| {
        if seen.insert(name.clone()) {
            return read(name);
        }
        Err(Error::config("conditions", name, "is there twice"))
    };
    let all: Vec<T> = names.into_iter().map(one).collect::<Result<_>>()?;
    if all.is_empty() { Err(Error::config("conditions", "none", "want at least one")) } else { Ok(all) }
}
