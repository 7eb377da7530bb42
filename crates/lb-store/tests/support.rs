//! What the tests share.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use lb_store::{About, Clock, Fingerprint, JournalId, Store, StoreOptions, Tenant};
use tempfile::TempDir;

pub(crate) const HOUR: u64 = 3_600_000;
pub(crate) const DAY: u64 = 24 * HOUR;

/// A clock that a test sets.
#[derive(Debug)]
pub(crate) struct SetClock(AtomicU64);

impl SetClock {
    pub(crate) fn at(now: u64) -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(now)))
    }

    pub(crate) fn set(&self, now: u64) {
        self.0.store(now, Ordering::SeqCst);
    }
}

impl Clock for SetClock {
    fn now(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64
}

pub(crate) fn tenant() -> Tenant {
    Tenant::new("acme").unwrap()
}

pub(crate) fn journal(name: &str) -> JournalId {
    JournalId::new(tenant(), name).unwrap()
}

pub(crate) fn fingerprint() -> Fingerprint {
    Fingerprint {
        weights: "w1".into(),
        tokenizer: "t1".into(),
        template: "c1".into(),
        dtype: "bf16".into(),
        rope_base: 1_000_000.0,
        layers: 36,
        kv_heads: 8,
        head_dim: 128,
        bits: 16,
    }
}

pub(crate) fn about() -> About {
    About {
        tenant: tenant(),
        fingerprint: fingerprint(),
        logical_len: 12_345,
        method: "attention-matching".into(),
        method_version: "1".into(),
        kept: None,
        task: Some("why did the build break?".into()),
        expires: None,
    }
}

pub(crate) fn until(expires: u64) -> About {
    About { expires: Some(expires), ..about() }
}

/// Bytes that a seed decides.
pub(crate) fn body(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(len);
    out
}

/// A store in a folder, and another folder to fetch into.
pub(crate) struct Local {
    pub(crate) store: Store,
    pub(crate) root: TempDir,
    pub(crate) into: TempDir,
}

impl Local {
    pub(crate) fn new() -> Self {
        let (root, into) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let store = open(root.path());
        Self { store, root, into }
    }

    /// The only file below a folder of the store.
    pub(crate) fn only(&self, under: &str) -> PathBuf {
        let files = files(&self.root.path().join(under));
        assert_eq!(files.len(), 1, "{files:?}");
        files.into_iter().next().unwrap()
    }
}

pub(crate) fn open(root: &Path) -> Store {
    Store::open(root.to_str().unwrap(), StoreOptions::default()).unwrap()
}

/// All files below a folder, in order.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}
