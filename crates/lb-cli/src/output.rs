//! Where results go.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use lb_io::files::write_whole;
use serde::Serialize;

use crate::{Exit, Result, say};

/// Whether stdout is for JSON alone.
static JSON: AtomicBool = AtomicBool::new(false);
/// Whether it has its document already.
static PRINTED: AtomicBool = AtomicBool::new(false);

pub(crate) fn is_json() -> bool {
    JSON.load(Ordering::Relaxed)
}

/// `--json` of commands with arguments that have no name.
#[derive(clap::Args)]
pub(crate) struct Json {
    /// Print the result as JSON and nothing else.
    #[arg(long)]
    json: bool,
}

/// `--json` of commands whose figures are often wanted beside what is printed.
#[derive(clap::Args)]
pub(crate) struct JsonTo {
    /// Print the result as JSON and nothing else; with FILE, write it there beside what is printed.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    json: Option<PathBuf>,
}

impl Json {
    /// From here on stdout is for the result alone, where that was asked.
    pub(crate) fn begin(&self) {
        JSON.store(self.json, Ordering::Relaxed);
    }

    pub(crate) fn end(&self, result: &impl Serialize) -> Result<()> {
        if self.json { print(result) } else { Ok(()) }
    }
}

impl JsonTo {
    /// The file that was named.
    #[cfg(feature = "full")]
    pub(crate) fn file(&self) -> Option<&Path> {
        self.json.as_deref().filter(|file| *file != Path::new("-"))
    }

    pub(crate) fn begin(&self) {
        JSON.store(self.json.as_deref() == Some(Path::new("-")), Ordering::Relaxed);
    }

    pub(crate) fn end(&self, result: &impl Serialize) -> Result<()> {
        match &self.json {
            None => Ok(()),
            Some(_) if is_json() => print(result),
            Some(file) => {
                write_file(file, format!("{}\n", serde_json::to_string_pretty(result)?).as_bytes())?;
                say(&format!("figures: {}", file.display()));
                Ok(())
            }
        }
    }
}

/// On stdout, where that was asked, whatever becomes of a file.
#[cfg(feature = "full")]
pub(crate) fn print_json(result: &impl Serialize) -> Result<()> {
    if is_json() { print(result) } else { Ok(()) }
}

/// On stdout: a document, keys that are known masked. A reader that has gone is no reason to fail.
fn print(result: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(result)?;
    PRINTED.store(true, Ordering::Relaxed);
    let text = lb_io::secrets::masked(&text);
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// The result of a command that has none, where JSON was asked for.
pub(crate) fn failed(why: &str, exit: Exit) {
    if is_json() && !PRINTED.load(Ordering::Relaxed) {
        // Nobody is left to be told that this failed as well.
        let _ = print(&serde_json::json!({ "error": why, "exit": exit as u8 }));
    }
}

/// Writes a whole file or nothing; the error names it.
///
/// # Errors
/// Why it cannot be written.
pub fn write_file(path: &Path, content: &[u8]) -> Result<()> {
    write_whole(path, content).map_err(|error| format!("{}: {error}", path.display()).into())
}
