//! What the programs of this repository share: a worker by name, and what its user should know of it.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use candle_core::DType;
use lb_io::shown::visible;
use lb_model::{Checkpoint, DeviceChoice, Result, Warning, Worker};
use lb_session::OpenSession;

/// The checkpoint of that name, or the built-in worker without one. A `strict` one is refused where it would be accepted with
/// a warning.
///
/// # Errors
/// Those of [`Checkpoint::open`].
pub fn checkpoint(name: Option<impl AsRef<Path>>, strict: bool) -> Result<Checkpoint> {
    let checkpoint = name.map_or_else(|| Ok(Checkpoint::embedded()), Checkpoint::open)?;
    Ok(if strict { checkpoint.strict() } else { checkpoint })
}

/// The worker of that name for sessions, or the built-in one without a name; says on stderr what its user should know.
///
/// # Errors
/// Those of [`Checkpoint::open`] and [`Checkpoint::load`].
pub fn worker(name: Option<impl AsRef<Path>>, strict: bool) -> Result<Worker> {
    worker_as(name, strict, None)
}

/// The same in a dtype of the caller's choice, as [`Checkpoint::load`] takes it.
///
/// # Errors
/// Those of [`worker`].
pub fn worker_as(name: Option<impl AsRef<Path>>, strict: bool, dtype: Option<DType>) -> Result<Worker> {
    let device = if name.is_some() { DeviceChoice::Auto } else { DeviceChoice::Cpu }.open()?;
    let worker = checkpoint(name, strict)?.load(&device, dtype)?;
    tell(&worker.session_warnings());
    Ok(worker)
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

/// A line on stdout. Nothing in it acts on the terminal, keys that are known are masked, and a reader that has gone is no
/// reason to fail.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{}", visible(text));
}

/// The same on stderr.
pub fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "{}", visible(text));
}

/// [`programs::say`](say) with the arguments of `println!`.
#[macro_export]
macro_rules! say {
    ($($arg:tt)*) => { $crate::programs::say(&format!($($arg)*)) };
}

/// [`programs::complain`](complain) with the arguments of `eprintln!`.
#[macro_export]
macro_rules! complain {
    ($($arg:tt)*) => { $crate::programs::complain(&format!($($arg)*)) };
}
