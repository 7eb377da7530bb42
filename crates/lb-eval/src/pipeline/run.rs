//! The one loop.

use std::collections::HashMap;
use std::path::Path;

use lb_session::CancelToken;

use super::folder::{Existing, Store};
use super::jobs::in_parallel;
use super::protocol::{Context, Protocol, Row};
use super::shard::Shard;
use crate::Result;

/// Where rows go, and how many items are worked on at once.
pub struct Settings<'a, R> {
    /// The folder; without one, rows are in memory alone.
    pub dir: Option<&'a Path>,
    /// What to do with a folder that holds rows.
    pub existing: Existing,
    /// Which of the items.
    pub shard: Shard,
    /// Items at the same time.
    pub jobs: usize,
    /// Ends the run in good order.
    pub cancel: &'a CancelToken,
    /// Hears every new row once it is written.
    pub on_row: &'a (dyn Fn(&R) + Sync),
    /// Whether it hears the rows of an earlier part as well, before the new ones.
    pub hear_earlier: bool,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Finished<R> {
    /// All rows, those of an earlier part first.
    pub rows: Vec<R>,
    /// How many of them were there before.
    pub resumed: usize,
    /// Whether it was called off; it can be gone on with.
    pub cancelled: bool,
}

/// Makes every row of `items` that is not there yet.
///
/// # Errors
/// [`Error::Config`](crate::Error::Config) for a folder in use, [`Error::PlanChanged`](crate::Error::PlanChanged) where its
/// plan is another, [`Error::Locked`](crate::Error::Locked) where another process has it; [`Error::Io`](crate::Error::Io),
/// [`Error::Json`](crate::Error::Json), [`Error::Row`](crate::Error::Row) and
/// [`Error::DuplicateRow`](crate::Error::DuplicateRow) for its files; what the protocol returns. Rows until then stay.
pub fn run<P: Protocol>(
    protocol: &P,
    items: &[P::Item],
    settings: &Settings<'_, P::Row>,
) -> Result<Finished<P::Row>> {
    let (store, earlier) = match settings.dir {
        Some(dir) => {
            let record = protocol.record(items)?;
            let opened = Store::open(dir, record.as_ref(), settings.existing, |rows| protocol.resume(rows))?;
            protocol.prepare(dir)?;
            opened
        }
        None => (Store::in_memory(), Vec::new()),
    };
    if settings.hear_earlier {
        earlier.iter().for_each(settings.on_row);
    }
    let resumed = earlier.len();
    let mut done: HashMap<String, Vec<P::Row>> = HashMap::new();
    for row in earlier {
        done.entry(row.item().to_owned()).or_default().push(row);
    }
    let push = |row| store.push(row, settings.on_row);
    let context = Context { done: &done, push: &push, cancel: settings.cancel };
    let numbers = settings.shard.numbers(items.len());
    in_parallel(numbers.len(), settings.jobs, settings.cancel, &|number| {
        protocol.rows(&items[numbers[number]], &context)
    })?;
    Ok(Finished { rows: store.rows(), resumed, cancelled: settings.cancel.is_cancelled() })
}
