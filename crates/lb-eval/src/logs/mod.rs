//! Recorded work of real orchestrators: a trajectory, what is asked about it, and what was written next.
//!
//! Any format that [`RecordedLog`](lb_session::RecordedLog) knows, told by content: chats of OpenAI and Anthropic,
//! Magentic-One and AutoGen (the files of Who&When), SWE-agent's `.traj`, logs of ours, ShareGPT, and the plain
//! `{"id", "trajectory": [{"role", "content"}], "task", "target", "answers"}`. One JSON document, an array of them, JSON
//! Lines of logs or of one log's messages, or a folder of such files.
//!
//! A log that says apart from its messages what was asked and what was written next has them in [`LogItem::task`] and
//! [`LogItem::target`]; with any other those are empty and the whole of it is trajectory, unless
//! [`Continuation::LastMessage`] is asked for. What cannot be used is listed by id and line, what did not enter a
//! trajectory as it stood there is noted.
//!
//! ```no_run
//! use lb_eval::logs::{self, Continuation, LoadOptions};
//!
//! let options = LoadOptions { continuation: Continuation::LastMessage, ..LoadOptions::default() };
//! let loaded = logs::load("runs/".as_ref(), &options)?;
//! for fault in &loaded.faults {
//!     eprintln!("{fault}");
//! }
//! # Ok::<(), lb_eval::Error>(())
//! ```

mod file;
mod folder;
mod generated;
mod item;
mod items;

use std::collections::BTreeMap;
use std::path::Path;

use lb_session::{LogFormat, LogNote};

pub use generated::{GENERATED_WORDS, generated};
pub use item::{Decision, LogItem};

use crate::Result;
use crate::datasets::{ItemFault, MAX_ITEM_BYTES, OnFault};

/// What becomes the target of a log that does not say what was written next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Continuation {
    /// Nothing: task and target are as the log gives them, empty where it does not.
    #[default]
    AsGiven,
    /// The last text that the model under orchestration wrote; the last request before it is the task, where the log gives
    /// none, and leaves the trajectory.
    LastMessage,
}

/// How to read logs and what of them to keep.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// What becomes of malformed logs; skipped if not said.
    pub on_fault: OnFault,
    /// Logs above this size are faults; [`MAX_ITEM_BYTES`] if not said.
    pub max_item_bytes: usize,
    /// Stops after so many items; none if not said.
    pub limit: Option<usize>,
    /// What becomes the target where a log gives none.
    pub continuation: Continuation,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            on_fault: OnFault::default(),
            max_item_bytes: MAX_ITEM_BYTES,
            limit: None,
            continuation: Continuation::default(),
        }
    }
}

/// What a file or a folder holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadedLogs {
    /// The logs, in the order of the file; of a folder, file by file in the order of their paths.
    pub items: Vec<LogItem>,
    /// Everything that is none, up to the limit.
    pub faults: Vec<ItemFault>,
    /// What did not enter a trajectory as it stood in the log, over all items.
    pub notes: Vec<LogNote>,
    /// How many items there are of each format.
    pub formats: BTreeMap<LogFormat, usize>,
}

/// Reads a file or a folder. Of a folder, files that end in `.json`, `.jsonl`, `.ndjson` or `.traj` are read, those in
/// folders below it as well; a file that cannot be read is a fault there.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io); [`Error::Dataset`](crate::Error::Dataset) for a file that cannot be read on, or a
/// folder without any; [`Error::Item`](crate::Error::Item) for the first malformed log with [`OnFault::Fail`].
pub fn load(path: &Path, options: &LoadOptions) -> Result<LoadedLogs> {
    let mut items = items::Items::new(options);
    if path.is_dir() {
        folder::read(path, &mut items)?;
    } else {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        file::read(path, &stem, &mut items)?;
    }
    Ok(items.loaded)
}
