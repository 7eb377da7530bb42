//! Journals: records under numbers, each written once.

use bytes::Bytes;
use futures_util::future::{join, try_join};
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{GetOptions, GetRange};

use crate::error::{Error, Result};
use crate::names::{JOURNALS, JournalId, LAST_RECORD, Tenant, record_number};
use crate::record::{self, HEADER, LARGEST_RECORD};
use crate::store::{Store, failed};

/// Records that are fetched at a time.
const AT_A_TIME: usize = 8;
/// Answers of a service that contradict each other, before it is believed to be broken.
const CONTRADICTIONS: usize = 5;

impl Store {
    /// Appends a record. The first has number 0, and each other needs the one before it. Once this has returned, the record is
    /// there for good. The same record under the same number again is no error: the first answer may have been lost.
    ///
    /// # Errors
    /// [`Error::Taken`] where another record has the number, [`Error::Gap`] where the one before is missing,
    /// [`Error::Fenced`] where that one was written with a token, [`Error::Removed`], [`Error::Damaged`] for a record that is
    /// there, [`Error::Field`] for a record or number that is too large, [`Error::Backend`].
    pub async fn append(&self, journal: &JournalId, number: u64, record: &[u8]) -> Result<()> {
        self.append_fenced(journal, number, record, 0).await
    }

    /// Like [`append`](Self::append), with the token of a [lease](crate::Lease): whoever held the lease before the writer of
    /// the record before writes no more.
    ///
    /// # Errors
    /// Those of [`append`](Self::append).
    pub async fn append_fenced(
        &self,
        journal: &JournalId,
        number: u64,
        record: &[u8],
        token: u64,
    ) -> Result<()> {
        if number > LAST_RECORD {
            return Err(Error::field("number", number.to_string(), format!("at most {LAST_RECORD}")));
        }
        if record.len() as u64 > LARGEST_RECORD {
            let reason = format!("a record has at most {LARGEST_RECORD} bytes");
            return Err(Error::field("record", format!("{} bytes", record.len()), reason));
        }
        self.is_exclusive().await?;
        let (open, follows) = join(self.is_open(journal), self.may_follow(journal, number, token)).await;
        open?;
        follows?;
        let name = journal.record(number);
        let encoded = record::encode(journal, number, token, record);
        for _ in 0..CONTRADICTIONS {
            if self.write_new(&name, encoded.clone()).await? {
                return Ok(());
            }
            // Some services refuse where two write at once, and neither is there yet.
            if let Some(found) = self.read(&name, HEADER as u64 + LARGEST_RECORD).await? {
                if record::decode(journal, number, &found)? == record {
                    return self.keep(&name).await;
                }
                return Err(Error::Taken { journal: journal.clone(), number });
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        let reason = "the service says that it is there, and that it is not";
        Err(Error::backend("append", name.as_ref(), &reason))
    }

    /// The records from a number on, in order. `from` may be one behind the last.
    ///
    /// # Errors
    /// [`Error::Absent`] for a journal without records, [`Error::Gap`] where one is missing, [`Error::Damaged`],
    /// [`Error::Removed`], [`Error::Backend`].
    pub async fn read_journal(&self, journal: &JournalId, from: u64) -> Result<Vec<Bytes>> {
        self.is_open(journal).await?;
        let names = self.list(&journal.folder()).await?;
        let mut numbers: Vec<u64> = names.iter().filter_map(|file| record_number(&file.location)).collect();
        numbers.sort_unstable();
        let missing = |number| Err(Error::Gap { journal: journal.clone(), number });
        let read = match (0..).zip(&numbers).find(|(expected, found)| expected != *found) {
            _ if numbers.is_empty() => Err(Error::Absent { name: journal.to_string() }),
            Some((number, _)) => missing(number),
            None if from > numbers.len() as u64 => missing(numbers.len() as u64),
            None => {
                stream::iter(from..numbers.len() as u64)
                    .map(|number| self.record(journal, number))
                    .buffered(AT_A_TIME)
                    .try_collect()
                    .await
            }
        };
        // Who removes it buries it first: then what is missing is no fault, and what is left is not served.
        self.is_open(journal).await?;
        read
    }

    /// The journals of a tenant.
    ///
    /// # Errors
    /// [`Error::Backend`].
    pub async fn journals(&self, tenant: &Tenant) -> Result<Vec<JournalId>> {
        let folder = Path::from_iter([JOURNALS, tenant.as_str()]);
        let listed =
            self.files().list_with_delimiter(Some(&folder)).await.map_err(failed("list", &folder))?;
        let names = listed.common_prefixes.iter().filter_map(|path| path.filename());
        let journals = names.filter_map(|name| JournalId::new(tenant.clone(), name).ok());
        // A folder may be what is left of a writer that was killed.
        let found: Vec<Option<JournalId>> = stream::iter(journals.collect::<Vec<_>>())
            .map(|journal| async move {
                let (first, grave) = (journal.record(0), journal.tombstone());
                let (first, grave) = try_join(self.head(&first), self.head(&grave)).await?;
                Ok::<_, Error>((first.is_some() && grave.is_none()).then_some(journal))
            })
            .buffered(AT_A_TIME)
            .try_collect()
            .await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Removes a journal. From the first step on it is neither served nor written to; what this leaves where it is stopped,
    /// the next [sweep](Store::sweep) removes. Its name is free again once a sweep has found it empty after the
    /// [grace](crate::StoreOptions::grace).
    ///
    /// # Errors
    /// [`Error::Backend`].
    pub async fn remove_journal(&self, journal: &JournalId) -> Result<()> {
        self.write(&journal.tombstone(), Bytes::from_static(b"removed")).await?;
        self.clear(journal).await.map(drop)
    }

    /// Removes the records of a journal that has a tombstone, the first one first; how many there were.
    pub(crate) async fn clear(&self, journal: &JournalId) -> Result<usize> {
        let mut records = self.list(&journal.folder()).await?;
        records.sort_by(|a, b| a.location.cmp(&b.location));
        for record in &records {
            self.delete(&record.location).await?;
        }
        Ok(records.len())
    }

    async fn record(&self, journal: &JournalId, number: u64) -> Result<Bytes> {
        let read = self.read(&journal.record(number), HEADER as u64 + LARGEST_RECORD).await?;
        let bytes = read.ok_or_else(|| Error::Gap { journal: journal.clone(), number })?;
        record::decode(journal, number, &bytes)
    }

    async fn is_open(&self, journal: &JournalId) -> Result<()> {
        match self.head(&journal.tombstone()).await? {
            Some(_) => Err(Error::Removed { journal: journal.clone() }),
            None => Ok(()),
        }
    }

    /// Whether a record may have this number: there is one before it, and no later holder of the lease wrote that.
    async fn may_follow(&self, journal: &JournalId, number: u64, token: u64) -> Result<()> {
        let Some(before) = number.checked_sub(1) else { return Ok(()) };
        let name = journal.record(before);
        let Some(meta) = self.head(&name).await? else {
            return Err(Error::Gap { journal: journal.clone(), number: before });
        };
        let header = if meta.size < HEADER as u64 {
            Bytes::new()
        } else {
            let range = GetOptions { range: Some(GetRange::Bounded(0..HEADER as u64)), ..Default::default() };
            let read = async { self.files().get_opts(&name, range).await?.bytes().await };
            read.await.map_err(failed("read", &name))?
        };
        let newer = record::header(journal, before, &header)?.token;
        if newer > token {
            return Err(Error::Fenced { journal: journal.clone(), number: before, token, newer });
        }
        Ok(())
    }
}
