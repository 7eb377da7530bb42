//! Answers on disk.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use lb_io::files::{read_at_most, write_whole};
use sha2::{Digest, Sha256};

use super::key::hex;
use super::{MemoConfig, MemoHit, MemoKey, MemoStats, RememberedAnswer, entry};
use crate::{Error, Result};

/// Bytes of one answer; longer ones are not kept.
const ANSWER_BYTES: u64 = 1 << 20;

type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// Remembered answers of one tenant; copies share them. Several processes may use the same folder.
#[derive(Clone)]
pub struct AnswerMemo {
    config: MemoConfig,
    folder: PathBuf,
    clock: Clock,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    stats: MemoStats,
    /// Bytes of the tenant's answers, as far as this process knows.
    bytes: u64,
}

impl std::fmt::Debug for AnswerMemo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let stats = self.stats();
        f.debug_struct("AnswerMemo")
            .field("config", &self.config)
            .field("stats", &stats)
            .finish_non_exhaustive()
    }
}

impl AnswerMemo {
    /// Opens the folder, which is made where it is missing.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field; [`Error::Memo`] naming the folder, where it cannot be made or read.
    pub fn open(config: MemoConfig) -> Result<Self> {
        Self::with_clock(config, SystemTime::now)
    }

    /// The same with another clock.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn with_clock(
        config: MemoConfig,
        clock: impl Fn() -> SystemTime + Send + Sync + 'static,
    ) -> Result<Self> {
        config.validate()?;
        // A tenant's name may be anything; a folder's may not.
        let name = hex(Sha256::digest(config.tenant.as_bytes()));
        let folder = config.dir.join(&name[..32]);
        let failed = |error: io::Error| Error::Memo { path: folder.clone(), reason: error.to_string() };
        fs::create_dir_all(&folder).map_err(failed)?;
        let bytes = files(&folder).map_err(failed)?.iter().map(|file| file.bytes).sum();
        let state = Arc::new(Mutex::new(State { bytes, ..State::default() }));
        Ok(Self { config, folder, clock: Arc::new(clock), state })
    }

    /// Whose answers they are.
    pub fn tenant(&self) -> &str {
        &self.config.tenant
    }

    /// What came of it so far.
    pub fn stats(&self) -> MemoStats {
        self.with(|state| state.stats)
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        // Counts that a panic left are counts.
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn path(&self, key: &MemoKey) -> PathBuf {
        self.folder.join(format!("{}.json", key.as_str()))
    }

    fn now(&self) -> u64 {
        (self.clock)().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
    }

    /// The answer of that key, if it is there, whole and not too old.
    pub fn get(&self, key: &MemoKey) -> Option<(RememberedAnswer, MemoHit)> {
        let path = self.path(key);
        let Ok(bytes) = read_at_most(&path, ANSWER_BYTES) else {
            self.with(|state| state.stats.misses += 1);
            return None;
        };
        let Some((created, answer)) = entry::read(key, &bytes) else {
            tracing::warn!(file = %path.display(), "a remembered answer is not what was written; it is taken away");
            self.forget(&path, bytes.len() as u64);
            self.with(|state| {
                (state.stats.misses, state.stats.corrupt) = (state.stats.misses + 1, state.stats.corrupt + 1);
            });
            return None;
        };
        let now = self.now();
        // One that comes from the future was written by another clock; it is as old as it can be known.
        let age_s = now.saturating_sub(created);
        if age_s >= self.config.time_to_live().as_secs() {
            self.forget(&path, bytes.len() as u64);
            self.with(|state| {
                (state.stats.misses, state.stats.expired) = (state.stats.misses + 1, state.stats.expired + 1);
            });
            return None;
        }
        // What was used is what stays; where that cannot be noted, it goes earlier.
        let _ = File::options().write(true).open(&path).and_then(|file| file.set_modified((self.clock)()));
        self.with(|state| state.stats.hits += 1);
        let hit = MemoHit { tokens: answer.tokens, seconds: answer.seconds, age_s };
        Some((answer, hit))
    }

    /// Remembers an answer. One that cannot be written is counted, and computed again the next time.
    pub fn put(&self, key: &MemoKey, answer: &RememberedAnswer) {
        let path = self.path(key);
        // A key that an answer repeats stays in memory.
        if matches!(lb_io::secrets::masked(&answer.response), std::borrow::Cow::Owned(_)) {
            self.with(|state| state.stats.unwritten += 1);
            return;
        }
        let written =
            entry::write(key, self.now(), answer).filter(|bytes| bytes.len() as u64 <= ANSWER_BYTES);
        let written = written.filter(|bytes| bytes.len() as u64 <= self.config.max_bytes);
        let Some(bytes) = written else {
            self.with(|state| state.stats.unwritten += 1);
            return;
        };
        let before = fs::metadata(&path).map_or(0, |meta| meta.len());
        if let Err(error) = write_whole(&path, &bytes) {
            tracing::warn!(file = %path.display(), %error, "an answer is not remembered");
            self.with(|state| state.stats.unwritten += 1);
            return;
        }
        let _ = File::options().write(true).open(&path).and_then(|file| file.set_modified((self.clock)()));
        let full = self.with(|state| {
            state.stats.stored += 1;
            state.bytes = (state.bytes + bytes.len() as u64).saturating_sub(before);
            state.bytes > self.config.max_bytes
        });
        if full {
            self.make_room();
        }
    }

    /// Counts calls that are not looked up.
    pub(crate) fn bypassed(&self, calls: usize) {
        self.with(|state| state.stats.bypassed += calls);
    }

    fn forget(&self, path: &Path, bytes: u64) {
        if fs::remove_file(path).is_ok() {
            self.with(|state| state.bytes = state.bytes.saturating_sub(bytes));
        }
    }

    /// Forgets what was not used for longest, until a tenth of the room is free.
    fn make_room(&self) {
        // Others may have written meanwhile.
        let Ok(mut all) = files(&self.folder) else { return };
        all.sort_by_key(|file| file.used);
        let mut bytes: u64 = all.iter().map(|file| file.bytes).sum();
        let goal = self.config.max_bytes / 10 * 9;
        let mut evicted = 0;
        for file in all {
            if bytes <= goal {
                break;
            }
            if fs::remove_file(&file.path).is_ok() {
                bytes -= file.bytes;
                evicted += 1;
            }
        }
        self.with(|state| {
            state.bytes = bytes;
            state.stats.evicted += evicted;
        });
    }
}

struct Kept {
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
}

/// The answers of a folder; a file that goes meanwhile is none.
fn files(folder: &Path) -> io::Result<Vec<Kept>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let is_answer = path.extension().is_some_and(|end| end == "json");
        if let Ok(meta) = entry.metadata()
            && meta.is_file()
            && is_answer
        {
            all.push(Kept { path, bytes: meta.len(), used: meta.modified().unwrap_or(UNIX_EPOCH) });
        }
    }
    Ok(all)
}
