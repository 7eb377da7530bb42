//! One trajectory: its session while it is in memory, its text always.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use lb_model::Worker;
use lb_session::{Briefing, PromptFormat, Segment, SessionConfig, WorkerSession};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Looked, now};
use crate::engine::Usage;
use crate::{Refusal, Tenant};

/// Positions from which on a cache is worth its bytes in the store.
const WORTH: usize = 256;
/// Calls that can be looked at.
const LOOKED: usize = 3;

/// What a trajectory is made with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// Seconds without use after which it is forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ttl_seconds: Option<u64>,
    /// The worker's system message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) system: Option<String>,
}

/// What is there of it.
enum State {
    Live(Box<WorkerSession>),
    /// The cache as a file, where there is one; else the text is read again.
    Resting(Option<PathBuf>),
}

pub(crate) struct Trajectory {
    pub(crate) tenant: Tenant,
    pub(crate) id: String,
    pub(crate) settings: Settings,
    created: AtomicU64,
    /// Held while segments are appended, so that what is written down has the order of what is read. Within: records written.
    pub(crate) order: tokio::sync::Mutex<u64>,
    /// What was acknowledged.
    segments: Mutex<Vec<Segment>>,
    state: Mutex<State>,
    looked: Mutex<Vec<Looked>>,
    folder: PathBuf,
    /// Segments that the last cache in the store has.
    stored: AtomicUsize,
    used: AtomicU64,
    calls: AtomicU64,
    saved: AtomicU64,
    positions: AtomicUsize,
    bytes: AtomicUsize,
    /// Forgotten: nothing of it is written any more.
    gone: AtomicBool,
    /// The session may have read more than was acknowledged.
    unsure: AtomicBool,
}

/// A trajectory as it is told of.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Described {
    id: String,
    /// Always `trajectory`.
    object: &'static str,
    /// Seconds since 1970.
    created: u64,
    /// Of the last use.
    used: u64,
    ttl_seconds: Option<u64>,
    segments: usize,
    /// Positions in the worker's cache, template head counted in; 0 while it is not in memory.
    positions: usize,
    /// Bytes of that cache in memory.
    cache_bytes: usize,
    /// Answers given over it.
    calls: u64,
    /// Tokens that these calls neither read nor attended to, beside reading its whole text each time.
    tokens_saved: u64,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Trajectory {
    pub(super) fn new(tenant: Tenant, id: String, settings: Settings, folder: &Path) -> Self {
        Self {
            tenant,
            id,
            settings,
            created: AtomicU64::new(now()),
            order: tokio::sync::Mutex::new(0),
            segments: Mutex::default(),
            state: Mutex::new(State::Resting(None)),
            looked: Mutex::default(),
            folder: folder.to_path_buf(),
            stored: AtomicUsize::new(0),
            used: AtomicU64::new(now()),
            calls: AtomicU64::new(0),
            saved: AtomicU64::new(0),
            positions: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            gone: AtomicBool::new(false),
            unsure: AtomicBool::new(false),
        }
    }

    fn config(&self) -> SessionConfig {
        let format = PromptFormat { system: self.settings.system.clone(), ..PromptFormat::default() };
        SessionConfig { format, ..SessionConfig::default() }
    }

    /// Works with its session, which is made first where it is not in memory: from its file, or where that is not to be trusted from its
    /// text. `goes_on` is asked after each pass.
    pub(crate) fn with<T>(
        &self,
        worker: &Worker,
        goes_on: &mut dyn FnMut() -> bool,
        work: impl FnOnce(&WorkerSession) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        self.used.store(now(), Ordering::Relaxed);
        let mut state = held(&self.state);
        if self.unsure.swap(false, Ordering::SeqCst) {
            self.clear(&mut state);
        }
        if let State::Resting(file) = &*state {
            let session = self.opened(worker, file.as_deref())?;
            if let Some(file) = file {
                let _ = std::fs::remove_file(file);
            }
            self.measure(&session);
            *state = State::Live(Box::new(session));
        }
        match &mut *state {
            State::Live(session) => {
                self.catch_up(session, goes_on)?;
                work(session)
            }
            State::Resting(_) => Err(Refusal::Internal("a trajectory without a session".to_owned())),
        }
    }

    fn opened(&self, worker: &Worker, file: Option<&Path>) -> Result<WorkerSession, Refusal> {
        let segments = held(&self.segments).clone();
        if let Some(file) = file {
            match WorkerSession::load(worker, self.config(), file) {
                Ok(session) if segments.starts_with(session.trajectory().segments()) => return Ok(session),
                Ok(_) => tracing::warn!(
                    trajectory = self.id,
                    "its file has other segments; its text is read again"
                ),
                Err(error) => tracing::warn!(trajectory = self.id, %error, "its text is read again"),
            }
        }
        Ok(WorkerSession::with(worker, self.config())?)
    }

    /// Reads what was acknowledged and the session has not read yet: after it was made anew, or where another server appended.
    fn catch_up(
        &self,
        session: &mut WorkerSession,
        goes_on: &mut dyn FnMut() -> bool,
    ) -> Result<(), Refusal> {
        let behind = {
            let segments = held(&self.segments);
            // More than was acknowledged is just being written down.
            segments.get(session.trajectory().len()..).map(<[Segment]>::to_vec).unwrap_or_default()
        };
        if !behind.is_empty() {
            session.extend_while(behind, &mut |_, _| goes_on())?;
            self.measure(session);
        }
        Ok(())
    }

    /// Begins it with what is written down of it.
    pub(crate) fn came_back(&self, created: u64, segments: Vec<Segment>) {
        self.created.store(created, Ordering::Relaxed);
        *held(&self.segments) = segments;
    }

    /// A file has the cache of so many of its segments.
    pub(crate) fn rests_in(&self, file: PathBuf, segments: usize) {
        *held(&self.state) = State::Resting(Some(file));
        self.is_stored(segments);
    }

    /// Whether its cache should be in the store: it is not yet, and is not quickly read.
    pub(crate) fn is_worth_storing(&self) -> bool {
        self.positions() >= WORTH && self.len() > self.stored.load(Ordering::Relaxed)
    }

    /// The file in which it rests, after [`rest`](Self::rest).
    pub(crate) fn resting_file(&self) -> Option<PathBuf> {
        match &*held(&self.state) {
            State::Resting(file) => file.clone(),
            State::Live(_) => None,
        }
    }

    /// The store has a cache of so many segments.
    pub(crate) fn is_stored(&self, segments: usize) {
        self.stored.store(segments, Ordering::Relaxed);
    }

    pub(crate) fn created(&self) -> u64 {
        self.created.load(Ordering::Relaxed)
    }

    pub(crate) fn positions(&self) -> usize {
        self.positions.load(Ordering::Relaxed)
    }

    /// Reads segments behind it; tokens that entered and that were left out, of each. It must be in memory.
    pub(crate) fn extend(
        &self,
        segments: Vec<Segment>,
        goes_on: &mut dyn FnMut() -> bool,
    ) -> lb_session::Result<Vec<(usize, usize)>> {
        let mut state = held(&self.state);
        let State::Live(session) = &mut *state else { return Err(lb_session::Error::Cancelled) };
        let extended = session.extend_while(segments, &mut |_, _| goes_on())?;
        self.measure(session);
        Ok(extended.segments.iter().map(|segment| (segment.entered, segment.left_out)).collect())
    }

    /// Begins it with a session that is there.
    pub(crate) fn put(&self, session: WorkerSession) {
        *held(&self.segments) = session.trajectory().segments().to_vec();
        self.measure(&session);
        *held(&self.state) = State::Live(Box::new(session));
    }

    /// Counts segments as acknowledged.
    pub(crate) fn acknowledge(&self, segments: Vec<Segment>) {
        held(&self.segments).extend(segments);
    }

    /// Says that more may have been read than was acknowledged: the session is made anew from the text when it is next needed.
    pub(crate) fn distrust(&self) {
        self.unsure.store(true, Ordering::SeqCst);
    }

    /// What was acknowledged.
    pub(crate) fn segments(&self) -> Vec<Segment> {
        held(&self.segments).clone()
    }

    pub(crate) fn len(&self) -> usize {
        held(&self.segments).len()
    }

    /// Writes its cache to a file and takes it out of memory.
    pub(crate) fn rest(&self) -> Result<(), Refusal> {
        let mut state = held(&self.state);
        if self.unsure.swap(false, Ordering::SeqCst) {
            self.clear(&mut state);
        }
        let State::Live(session) = &*state else { return Ok(()) };
        // Another of this name may have a file as well.
        let name = super::random_name()?;
        let file = self.folder.join(format!("{name}.session"));
        let saved = if self.gone.load(Ordering::SeqCst) { None } else { Some(session.save(&file)) };
        let file = match saved {
            Some(Ok(())) => Some(file),
            Some(Err(error)) => {
                tracing::warn!(trajectory = self.id, %error, "its cache cannot be written down; its text will be read again");
                None
            }
            None => None,
        };
        *state = State::Resting(file);
        self.measured(0, 0);
        Ok(())
    }

    /// Its text alone is left.
    fn clear(&self, state: &mut State) {
        if let State::Resting(Some(file)) = state {
            let _ = std::fs::remove_file(file);
        }
        *state = State::Resting(None);
        self.measured(0, 0);
    }

    /// Nothing of it is needed any more.
    pub(crate) fn forget(&self) {
        self.gone.store(true, Ordering::SeqCst);
        // Whoever works with it still has it; the last one clears up.
        if let Ok(mut state) = self.state.try_lock() {
            self.clear(&mut state);
        }
    }

    /// A call was answered over it.
    pub(crate) fn called(&self, usage: &Usage, briefing: Option<&Briefing>, task: &str, tokens: &[u32]) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let saved = usage.seq_len.saturating_sub(usage.kept);
        self.saved.fetch_add(saved as u64, Ordering::Relaxed);
        if let Some(briefing) = briefing {
            let mut looked = held(&self.looked);
            if looked.len() == LOOKED {
                looked.remove(0);
            }
            looked.push(Looked::of(briefing, tokens, task, usage));
        }
    }

    pub(crate) fn looked(&self) -> Vec<Looked> {
        held(&self.looked).clone()
    }

    pub(crate) fn describe(&self) -> Described {
        Described {
            id: self.id.clone(),
            object: "trajectory",
            created: self.created(),
            used: self.used(),
            ttl_seconds: self.settings.ttl_seconds,
            segments: self.len(),
            positions: self.positions.load(Ordering::Relaxed),
            cache_bytes: self.bytes(),
            calls: self.calls.load(Ordering::Relaxed),
            tokens_saved: self.saved.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn is_expired(&self, at: u64) -> bool {
        self.settings.ttl_seconds.is_some_and(|ttl| at >= self.used().saturating_add(ttl))
    }

    fn measure(&self, session: &WorkerSession) {
        self.measured(session.seq_len(), session.cache().bytes());
    }

    fn measured(&self, positions: usize, bytes: usize) {
        self.positions.store(positions, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }
}

impl Drop for Trajectory {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let State::Resting(Some(file)) = state {
            let _ = std::fs::remove_file(file);
        }
    }
}
