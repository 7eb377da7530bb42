//! One run on several machines: each makes a part of the rows, and the parts are put together.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use lb_io::files::{SETTINGS, TEXT, read_at_most, write_whole};
use serde_json::Value;

use super::folder::hold;
use super::lines::ROWS;
use super::plan::{PLAN, same};
use crate::{Error, Result};

/// Which part of the items a machine works on: every `of`-th, from the one with this number. The plan that the folder names is that of
/// all items, so that the parts of one run know each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// From 0.
    pub index: usize,
    /// At least 1.
    pub of: usize,
}

impl Default for Shard {
    /// All items.
    fn default() -> Self {
        Self { index: 0, of: 1 }
    }
}

impl Shard {
    /// The numbers of its items among `count`.
    pub(super) fn numbers(self, count: usize) -> Vec<usize> {
        (self.index..count).step_by(self.of.max(1)).collect()
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index + 1, self.of)
    }
}

impl FromStr for Shard {
    type Err = Error;

    /// Parses `i/n`, i from 1 to n.
    fn from_str(text: &str) -> Result<Self> {
        let parsed = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match parsed {
            Some((i, of)) if (1..=of).contains(&i) => Ok(Self { index: i - 1, of }),
            _ => Err(Error::config("shard", format!("{text:?}"), "want i/n, i from 1 to n")),
        }
    }
}

/// Puts the rows of several folders of one run into another, which a command without a shard goes on with; how many there are. A row that
/// two have is taken once, from the first.
///
/// # Errors
/// [`Error::PlanChanged`] where a folder's plan is another than the first one's, [`Error::Config`] where `out` holds something already or
/// there is no folder, [`Error::Locked`], [`Error::Io`], [`Error::Json`].
pub fn merge(folders: &[impl AsRef<Path>], out: &Path) -> Result<usize> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Io { path, source }
    };
    let Some(first) = folders.first() else {
        return Err(Error::config("folders", 0, "want at least one folder of rows"));
    };
    let plan_of = |folder: &Path| -> Result<Value> {
        let path = folder.join(PLAN);
        let text = read_at_most(&path, SETTINGS).map_err(io(&path))?;
        serde_json::from_slice(&text).map_err(|source| Error::Json { path, line_number: 1, source })
    };
    let plan = plan_of(first.as_ref())?;
    std::fs::create_dir_all(out).map_err(io(out))?;
    let _out = hold(out)?;
    if out.join(PLAN).exists() || out.join(ROWS).exists() {
        return Err(Error::config("out", out.display(), "holds a benchmark already: take another folder"));
    }
    let (mut lines, mut seen) = (Vec::new(), HashSet::new());
    for folder in folders {
        let folder = folder.as_ref();
        let _held = hold(folder)?;
        same(&plan, &plan_of(folder)?, &folder.join(PLAN))?;
        let path = folder.join(ROWS);
        let text = match read_at_most(&path, TEXT) {
            Ok(text) => text,
            // A part that was stopped before its first row.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(source) => return Err(Error::Io { path, source }),
        };
        // A last line without an end was being written when its machine stopped.
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        for (number, line) in text[..whole].split(|byte| *byte == b'\n').enumerate() {
            if line.is_empty() {
                continue;
            }
            let row: Value = serde_json::from_slice(line).map_err(|source| Error::Json {
                path: path.clone(),
                line_number: number + 1,
                source,
            })?;
            let place = ["item", "condition", "repeat"].map(|field| row.get(field).map(Value::to_string));
            if seen.insert(place) {
                lines.extend_from_slice(line);
                lines.push(b'\n');
            }
        }
    }
    let json = |source| Error::Json { path: out.join(PLAN), line_number: 1, source };
    let text = serde_json::to_vec_pretty(&plan).map_err(json)?;
    write_whole(out.join(PLAN), &text).map_err(io(out))?;
    write_whole(out.join(ROWS), &lines).map_err(io(out))?;
    Ok(seen.len())
}
