//! What a protocol says: what a row is, and how one item gives its rows.

use std::collections::HashMap;
use std::path::Path;

use lb_session::CancelToken;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::PlanRecord;
use crate::Result;

/// A line of `rows.jsonl`.
pub trait Row: Clone + Serialize + DeserializeOwned + Send + Sync {
    /// The id of its item.
    fn item(&self) -> &str;

    /// Condition and repeat, of which an item may have one row each. `None`: how many rows an item has is not checked.
    fn place(&self) -> Option<(&str, usize)> {
        None
    }

    /// The first value without which no figure would be right: field, value, what is wanted.
    fn impossible(&self) -> Option<(&'static str, String, &'static str)> {
        None
    }
}

/// How items give rows.
pub trait Protocol: Sync {
    /// What one thread works on at a time: an item, or several that share what is read.
    type Item: Sync;
    /// What comes of it.
    type Row: Row;

    /// What `plan.json` says. `None`: the folder has none, and whatever is there counts.
    ///
    /// # Errors
    /// [`Error::Json`](crate::Error::Json) for a plan that cannot be written as JSON.
    fn record(&self, items: &[Self::Item]) -> Result<Option<PlanRecord>>;

    /// Which rows of an earlier part count; the others are made again. All of them, unless the protocol says otherwise.
    fn resume(&self, rows: Vec<Self::Row>) -> Vec<Self::Row> {
        rows
    }

    /// Makes what it needs in the folder, once that is its own.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) names the file.
    fn prepare(&self, _dir: &Path) -> Result<()> {
        Ok(())
    }

    /// Gives each row of `item` that is not there yet to `context`, as soon as it is made.
    ///
    /// # Errors
    /// What ends the whole run. What an item alone is to blame for is a row with its failure.
    fn rows(&self, item: &Self::Item, context: &Context<'_, Self::Row>) -> Result<()>;
}

/// What a protocol may look at while it works on an item.
pub struct Context<'a, R> {
    pub(super) done: &'a HashMap<String, Vec<R>>,
    pub(super) push: &'a (dyn Fn(R) -> Result<()> + Sync),
    pub(super) cancel: &'a CancelToken,
}

impl<R> Context<'_, R> {
    /// The rows of an item that were there before.
    pub fn done(&self, item: &str) -> &[R] {
        self.done.get(item).map_or(&[], Vec::as_slice)
    }

    /// Writes a row; whoever listens hears it then.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) where it cannot be written.
    pub fn push(&self, row: R) -> Result<()> {
        (self.push)(row)
    }

    /// Whether the run is called off.
    pub fn cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }
}
