//! Sweeping: what has expired, and what killed processes left.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use object_store::path::Path as Name;

use crate::error::{Error, Result};
use crate::names::{Copy, MANIFESTS, OBJECTS, PROBES, TOMBSTONES, buried};
use crate::store::{LEAST_GRACE, Store, blocking};

/// What a sweep took away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Swept {
    /// Objects that had expired.
    pub expired: usize,
    /// Bodies whose manifest never came.
    pub orphans: usize,
    /// Records of removed journals.
    pub records: usize,
    /// Files that were never finished, and probes.
    pub unfinished: usize,
}

impl Store {
    /// Takes away objects that expired [`LEAST_GRACE`] ago, bodies without manifests and unfinished files that are older than
    /// the [grace](crate::StoreOptions::grace), and what is left of removed journals. `now` is in milliseconds after 1970;
    /// ages are told from it and the store's own times, so that clocks may differ by half the grace. Any number of processes
    /// may sweep at any time, killed ones included. Parts of uploads to a service that were never finished are not seen from
    /// here: a rule of the bucket has to take them.
    ///
    /// # Errors
    /// [`Error::Backend`] and [`Error::Io`]; what was not reached waits for the next sweep.
    pub async fn sweep(&self, now: u64) -> Result<Swept> {
        let mut swept = Swept::default();
        // Bodies are listed before manifests: what has a manifest by then is none of an unfinished put.
        let bodies = self.list(&Name::from(OBJECTS)).await?;
        let manifests = self.list(&Name::from(MANIFESTS)).await?;
        let mut known = HashSet::new();
        for copy in manifests.iter().filter_map(|file| Copy::of_manifest(&file.location)) {
            if copy.expires.saturating_add(millis(LEAST_GRACE)) <= now {
                self.withdraw(&copy).await?;
                swept.expired += 1;
            }
            known.insert(copy.body());
        }
        for body in bodies {
            let old = is_old(body.last_modified.timestamp_millis(), self.grace(), now);
            if !old || known.contains(&body.location) {
                continue;
            }
            let Some(copy) = Copy::of_body(&body.location) else { continue };
            // It may have come since.
            let manifests = self.list(&Copy::folder(copy.kind, &copy.tenant, &copy.id)).await?;
            let mut copies = manifests.iter().filter_map(|file| Copy::of_manifest(&file.location));
            if !copies.any(|known| known.nonce == copy.nonce) {
                self.delete(&body.location).await?;
                swept.orphans += 1;
            }
        }
        swept.records = self.sweep_journals(now).await?;
        for probe in self.list(&Name::from(PROBES)).await? {
            if is_old(probe.last_modified.timestamp_millis(), self.grace(), now) {
                self.delete(&probe.location).await?;
                swept.unfinished += 1;
            }
        }
        if let Some(folder) = self.folder().map(Path::to_owned) {
            let grace = self.grace();
            swept.unfinished += blocking(move || sweep_folder(&folder, grace, now)).await??;
        }
        Ok(swept)
    }

    async fn sweep_journals(&self, now: u64) -> Result<usize> {
        let mut removed = 0;
        for tombstone in self.list(&Name::from(TOMBSTONES)).await? {
            let Some(journal) = buried(&tombstone.location) else { continue };
            let records = self.clear(&journal).await?;
            removed += records;
            let old = is_old(tombstone.last_modified.timestamp_millis(), self.grace(), now);
            if records == 0 && old {
                self.delete(&tombstone.location).await?;
            }
        }
        Ok(removed)
    }
}

/// Files that a killed process was still writing in one of the store's folders: `NAME#1`.
fn sweep_folder(root: &Path, grace: Duration, now: u64) -> Result<usize> {
    let mut folders: Vec<_> =
        [OBJECTS, MANIFESTS, crate::names::JOURNALS, TOMBSTONES].map(|name| root.join(name)).into();
    let mut removed = 0;
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Error::io("list", &folder)(error)),
        };
        for entry in entries {
            let entry = entry.map_err(Error::io("list", &folder))?;
            // What was there a moment ago may be finished now.
            let (Ok(kind), path) = (entry.file_type(), entry.path()) else { continue };
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() && is_unfinished(&path) {
                let Ok(changed) = entry.metadata().and_then(|file| file.modified()) else { continue };
                let changed = changed.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                if is_old(i64::try_from(changed.as_millis()).unwrap_or(i64::MAX), grace, now) {
                    match fs::remove_file(&path) {
                        Err(error) if error.kind() != io::ErrorKind::NotFound => {
                            return Err(Error::io("remove", &path)(error));
                        }
                        _ => removed += 1,
                    }
                }
            }
        }
    }
    Ok(removed)
}

fn is_unfinished(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.rsplit_once('#'));
    name.is_some_and(|(_, digits)| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

fn is_old(changed: i64, grace: Duration, now: u64) -> bool {
    u64::try_from(changed).unwrap_or_default().saturating_add(millis(grace)) <= now
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
