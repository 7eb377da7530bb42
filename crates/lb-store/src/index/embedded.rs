//! The index of one process: a file, or memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redb::backends::InMemoryBackend;
use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction,
};

use super::{Acquired, Entry, Index, Lease, check, millis};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::store::blocking;

/// Owner, token, end.
type Held = (&'static str, u64, u64);
/// Last use, end or [`u64::MAX`], bytes.
type Noted = (u64, u64, u64);
type ByTime = TableDefinition<'static, (u64, &'static str), ()>;

const LEASES: TableDefinition<&str, Held> = TableDefinition::new("leases");
const ENDS: ByTime = TableDefinition::new("leases by end");
const TOKENS: TableDefinition<(), u64> = TableDefinition::new("last token");
const ENTRIES: TableDefinition<&str, Noted> = TableDefinition::new("entries");
const USES: ByTime = TableDefinition::new("entries by use");
const EXPIRIES: ByTime = TableDefinition::new("entries by end");
/// Leases that nobody released, taken away with each new one.
const CLEARED_AT_ONCE: usize = 16;

/// An index in a file that one process has open, every change of it on disk before it is acknowledged.
#[derive(Clone)]
pub struct EmbeddedIndex {
    database: Arc<Database>,
    clock: Arc<dyn Clock>,
    shown: String,
}

impl std::fmt::Debug for EmbeddedIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EmbeddedIndex({})", self.shown)
    }
}

impl EmbeddedIndex {
    /// Opens a file, or makes it and its folder.
    ///
    /// # Errors
    /// [`Error::InUse`] where another process has it; [`Error::Io`], [`Error::Backend`].
    pub async fn open(path: &Path, clock: Arc<dyn Clock>) -> Result<Self> {
        let path = path.to_owned();
        blocking(move || {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder).map_err(Error::io("make", folder))?;
            }
            let shown = path.display().to_string();
            let database = Database::create(&path).map_err(|error| opening(path, &error))?;
            Self::of(database, clock, shown)
        })
        .await?
    }

    /// An index that ends with the process.
    ///
    /// # Errors
    /// [`Error::Backend`].
    pub fn in_memory(clock: Arc<dyn Clock>) -> Result<Self> {
        let database = Database::builder().create_with_backend(InMemoryBackend::new());
        let database = database.map_err(|error| Error::backend("open", "an index in memory", &error))?;
        Self::of(database, clock, "memory".to_owned())
    }

    fn of(database: Database, clock: Arc<dyn Clock>, shown: String) -> Result<Self> {
        let index = Self { database: Arc::new(database), clock, shown };
        // Reading needs the tables.
        index.now_write(|writing, _| {
            writing.open_table(LEASES)?;
            writing.open_table(ENDS)?;
            writing.open_table(TOKENS)?;
            writing.open_table(ENTRIES)?;
            writing.open_table(USES)?;
            writing.open_table(EXPIRIES)?;
            Ok(())
        })?;
        Ok(index)
    }

    async fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&WriteTransaction, u64) -> Step<T> + Send + 'static,
    ) -> Result<T> {
        let index = self.clone();
        blocking(move || index.now_write(change)).await?
    }

    fn now_write<T>(&self, change: impl FnOnce(&WriteTransaction, u64) -> Step<T>) -> Result<T> {
        let done = || {
            let writing = self.database.begin_write()?;
            // By the time that the turn of this change has come.
            let done = change(&writing, self.clock.now())?;
            writing.commit()?;
            Ok(done)
        };
        done().map_err(|error: redb::Error| Error::backend("write", &self.shown, &error))
    }

    async fn list(&self, order: ByTime, most: usize, until: impl Fn(u64) -> u64) -> Result<Vec<Entry>> {
        let (index, until) = (self.clone(), until(self.clock.now()));
        let read = move || {
            let reading = index.database.begin_read()?;
            let (order, entries) = (reading.open_table(order)?, reading.open_table(ENTRIES)?);
            let mut found = Vec::new();
            for row in order.iter()?.take(most) {
                let (row, _) = row?;
                let (time, key) = row.value();
                if time > until {
                    break;
                }
                if let Some(entry) = entries.get(key)? {
                    let (used, expires, bytes) = entry.value();
                    let expires = (expires != u64::MAX).then_some(expires);
                    found.push(Entry { key: key.to_owned(), used, expires, bytes });
                }
            }
            Ok(found)
        };
        let shown = self.shown.clone();
        blocking(move || read().map_err(|error: redb::Error| Error::backend("read", shown, &error))).await?
    }
}

type Step<T> = std::result::Result<T, redb::Error>;

fn opening(path: PathBuf, error: &DatabaseError) -> Error {
    match error {
        DatabaseError::DatabaseAlreadyOpen => Error::InUse { path },
        error => Error::backend("open", path.display().to_string(), error),
    }
}

#[async_trait]
impl Index for EmbeddedIndex {
    async fn acquire(&self, key: &str, owner: &str, time: Duration) -> Result<Acquired> {
        check("key", key)?;
        check("owner", owner)?;
        let time = millis("time", time)?;
        let (key, owner) = (key.to_owned(), owner.to_owned());
        self.write(move |writing, now| {
            let mut leases = writing.open_table(LEASES)?;
            let mut ends = writing.open_table(ENDS)?;
            let mut tokens = writing.open_table(TOKENS)?;
            clear(&mut leases, &mut ends, now)?;
            let held = leases.get(&*key)?.map(|held| (held.value().0 == owner, held.value().2));
            match held {
                Some((false, until)) if until > now => {
                    return Ok(Acquired::Held { until, wait: Duration::from_millis(until - now) });
                }
                Some((_, until)) => drop(ends.remove((until, &*key))?),
                None => {}
            }
            // Should the file be lost, the next tokens are larger all the same.
            let token = tokens.get(())?.map_or(0, |last| last.value()).saturating_add(1).max(now);
            tokens.insert((), token)?;
            let until = now.saturating_add(time);
            leases.insert(&*key, (&*owner, token, until))?;
            ends.insert((until, &*key), ())?;
            drop((leases, ends, tokens));
            Ok(Acquired::Lease(Lease { key, owner, token, until }))
        })
        .await
    }

    async fn renew(&self, lease: &Lease, time: Duration) -> Result<Lease> {
        let (mut renewed, time) = (lease.clone(), millis("time", time)?);
        let done = self.write(move |writing, now| {
            let mut leases = writing.open_table(LEASES)?;
            let mut ends = writing.open_table(ENDS)?;
            let Some(until) = still_holds(&leases, &renewed, now)? else { return Ok(None) };
            ends.remove((until, &*renewed.key))?;
            renewed.until = now.saturating_add(time);
            leases.insert(&*renewed.key, (&*renewed.owner, renewed.token, renewed.until))?;
            ends.insert((renewed.until, &*renewed.key), ())?;
            Ok(Some(renewed))
        });
        done.await?.ok_or_else(|| lost(lease))
    }

    async fn release(&self, lease: &Lease) -> Result<()> {
        let released = lease.clone();
        let done = self.write(move |writing, now| {
            let mut leases = writing.open_table(LEASES)?;
            let mut ends = writing.open_table(ENDS)?;
            let Some(until) = still_holds(&leases, &released, now)? else { return Ok(None) };
            ends.remove((until, &*released.key))?;
            leases.remove(&*released.key)?;
            Ok(Some(()))
        });
        done.await?.ok_or_else(|| lost(lease))
    }

    async fn touch(&self, key: &str, bytes: u64, keep: Option<Duration>) -> Result<()> {
        check("key", key)?;
        let keep = keep.map(|keep| millis("keep", keep)).transpose()?;
        let key = key.to_owned();
        self.write(move |writing, now| {
            let mut entries = writing.open_table(ENTRIES)?;
            let mut uses = writing.open_table(USES)?;
            let mut expiries = writing.open_table(EXPIRIES)?;
            take(&mut entries, &mut uses, &mut expiries, &key)?;
            // A clock that was set back does not make what is used now look older than the rest.
            let used = uses.last()?.map_or(0, |(last, _)| last.value().0).max(now);
            let expires = keep.map_or(u64::MAX, |keep| now.saturating_add(keep));
            entries.insert(&*key, (used, expires, bytes))?;
            uses.insert((used, &*key), ())?;
            if expires != u64::MAX {
                expiries.insert((expires, &*key), ())?;
            }
            Ok(())
        })
        .await
    }

    async fn least_recent(&self, most: usize) -> Result<Vec<Entry>> {
        self.list(USES, most, |_| u64::MAX).await
    }

    async fn expired(&self, most: usize) -> Result<Vec<Entry>> {
        self.list(EXPIRIES, most, |now| now).await
    }

    async fn forget(&self, key: &str) -> Result<()> {
        check("key", key)?;
        let key = key.to_owned();
        self.write(move |writing, _| {
            let mut entries = writing.open_table(ENTRIES)?;
            let mut uses = writing.open_table(USES)?;
            let mut expiries = writing.open_table(EXPIRIES)?;
            take(&mut entries, &mut uses, &mut expiries, &key)
        })
        .await
    }
}

fn lost(lease: &Lease) -> Error {
    Error::Lost { key: lease.key.clone(), token: lease.token }
}

type Times<'a> = Table<'a, (u64, &'static str), ()>;

/// The end of a lease that counts; `None` for one that does not.
fn still_holds(leases: &Table<&str, Held>, lease: &Lease, now: u64) -> Step<Option<u64>> {
    let held = leases.get(&*lease.key)?.map(|held| (held.value().1, held.value().2));
    Ok(held.filter(|(token, until)| *token == lease.token && *until > now).map(|(_, until)| until))
}

fn clear(leases: &mut Table<&'static str, Held>, ends: &mut Times, now: u64) -> Step<()> {
    for _ in 0..CLEARED_AT_ONCE {
        let Some((until, key)) = ends.first()?.map(|(end, _)| (end.value().0, end.value().1.to_owned()))
        else {
            break;
        };
        if until > now {
            break;
        }
        ends.remove((until, &*key))?;
        leases.remove(&*key)?;
    }
    Ok(())
}

fn take(
    entries: &mut Table<&'static str, Noted>,
    uses: &mut Times,
    expiries: &mut Times,
    key: &str,
) -> Step<()> {
    if let Some((used, expires, _)) = entries.remove(key)?.map(|entry| entry.value()) {
        uses.remove((used, key))?;
        expiries.remove((expires, key))?;
    }
    Ok(())
}
