//! Keys that this process knows, kept out of what it writes and shows.

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};

/// In place of a key.
pub const HIDDEN: &str = "[hidden]";
/// What is shorter may stand in any text.
const SHORTEST: usize = 12;

static KNOWN: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Keeps a key out of all that [`masked`] is asked for from now on; keys of fewer than 12 characters are not remembered.
pub fn remember(key: &str) {
    if key.len() < SHORTEST {
        return;
    }
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    // As JSON writes it, where that is not the same.
    let escaped = serde_json::to_string(key).unwrap_or_default().trim_matches('"').to_owned();
    for form in [key.to_owned(), escaped] {
        if form.len() >= SHORTEST && !known.contains(&form) {
            known.push(form);
        }
    }
}

/// A text without the keys that are known.
pub fn masked(text: &str) -> Cow<'_, str> {
    let known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut shown = Cow::Borrowed(text);
    for key in known.iter() {
        if shown.contains(key.as_str()) {
            shown = Cow::Owned(shown.replace(key.as_str(), HIDDEN));
        }
    }
    shown
}
