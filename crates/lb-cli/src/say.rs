//! What is said to a person: nothing in it acts on the terminal, and keys that are known are masked.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use lb_io::shown::visible;
use lb_model::Warning;

use crate::output::is_json;

/// A line on stdout, which is silent where it is for JSON. A reader that has gone is no reason to fail.
pub fn say(text: &str) {
    if !is_json() {
        let _ = writeln!(std::io::stdout(), "{}", visible(text));
    }
}

/// The same in colours where stdout is a terminal that shows them; what is in `text` must be harmless already.
pub(crate) fn show(text: &str) {
    if !is_json() {
        let _ = writeln!(anstream::stdout(), "{text}");
    }
}

/// A line on stderr.
pub fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "{}", visible(text));
}

/// Writes warnings to stderr, each once.
pub fn tell(warnings: &[Warning]) {
    static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    for warning in warnings.iter().map(ToString::to_string) {
        if told.insert(warning.clone()) {
            complain(&format!("warning: {warning}"));
        }
    }
}

/// [`say`](say()) with the arguments of `println!`.
#[macro_export]
macro_rules! say {
    ($($arg:tt)*) => { $crate::say(&format!($($arg)*)) };
}

/// [`complain`](complain()) with the arguments of `eprintln!`.
#[macro_export]
macro_rules! complain {
    ($($arg:tt)*) => { $crate::complain(&format!($($arg)*)) };
}
