//! What is written down of trajectories, before anybody is told that it is there; and how it comes back.
//!
//! A trajectory is a journal: its settings, then its segments as they were appended, and now and then the name of a session, a cache that
//! spares reading the text up to there. Any server that shares the store may append: whoever is second to write a record has read too
//! little, and reads on.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lb_model::Worker;
use lb_session::Segment;
use lb_store::index::{self, Index};
use lb_store::{About, Fingerprint, JournalId, ObjectId, ObjectKind, Store, StoreOptions, SystemClock};
use serde::{Deserialize, Serialize};

use crate::http::App;
use crate::trajectories::{Settings, Trajectory, random_name};
use crate::{Error, Refusal, Result, Tenant};

/// Of the way in which sessions and briefings are made; another version's are not taken.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// How long an object that spares reading is kept without being needed.
const KEPT: Duration = Duration::from_hours(24 * 30);

/// The store of a server.
pub(crate) struct Storage {
    pub(crate) store: Store,
    index: Arc<dyn Index>,
    pub(crate) fingerprint: Fingerprint,
    /// Whether this server alone knows what it uses, beside others that have the store's index.
    blind: bool,
    /// Held while a trajectory is opened: the second to ask finds it open.
    opening: tokio::sync::Mutex<()>,
}

/// A line of a journal.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum Record {
    /// It begins.
    Trajectory {
        by: String,
        created: u64,
        #[serde(flatten)]
        settings: Settings,
    },
    /// It goes on. `by` is drawn for each append, so that two servers which write the same are told apart.
    Segments { by: String, segments: Vec<Segment> },
    /// The cache of so many segments is an object.
    Session { object: String, segments: usize },
}

/// What a journal says.
pub(crate) struct Read {
    settings: Settings,
    created: u64,
    segments: Vec<Segment>,
    session: Option<(String, usize)>,
    records: u64,
}

fn refused(error: &lb_store::Error) -> Refusal {
    Refusal::Store(error.to_string())
}

impl Storage {
    /// Opens it. The weights are read once, to know whose caches may be taken.
    pub(crate) async fn open(address: &str, index_at: Option<&str>, worker: &Worker) -> Result<Self> {
        let failed = |error: lb_store::Error| Error::Store { reason: error.to_string() };
        let store = Store::open(address, StoreOptions::default()).map_err(failed)?;
        let clock = Arc::new(SystemClock);
        let mut blind = false;
        let index = match (index_at, store.folder()) {
            (Some(address), _) => index::open(address, clock).await,
            (None, Some(folder)) => {
                let own = index::open(&folder.join("index.redb").to_string_lossy(), clock.clone()).await;
                match own {
                    Err(lb_store::Error::InUse { .. }) => {
                        blind = true;
                        tracing::warn!(
                            "another server has the store's index: trajectories with a time to live are not served"
                        );
                        index::open("memory:", clock).await
                    }
                    own => own,
                }
            }
            // Nobody tells this server who else uses a bucket.
            (None, None) => {
                blind = true;
                index::open("memory:", clock).await
            }
        };
        let (index, fingerprint) = (index.map_err(failed)?, fingerprint(worker)?);
        Ok(Self { store, index, fingerprint, blind, opening: tokio::sync::Mutex::default() })
    }

    fn journal(trajectory: &Trajectory) -> std::result::Result<JournalId, Refusal> {
        Self::named(&trajectory.tenant, &trajectory.id)
    }

    fn named(tenant: &Tenant, id: &str) -> std::result::Result<JournalId, Refusal> {
        let tenant = lb_store::Tenant::new(tenant.name()).map_err(|error| refused(&error))?;
        JournalId::new(tenant, id).map_err(|error| refused(&error))
    }

    async fn write(
        &self,
        trajectory: &Trajectory,
        number: u64,
        record: &Record,
    ) -> std::result::Result<(), Refusal> {
        let journal = Self::journal(trajectory)?;
        let bytes = serde_json::to_vec(record).map_err(|error| Refusal::Internal(error.to_string()))?;
        self.store.append(&journal, number, &bytes).await.map_err(|error| match error {
            lb_store::Error::Taken { .. } if number == 0 => {
                Refusal::Conflict(format!("a trajectory {:?} is there already", trajectory.id))
            }
            lb_store::Error::Taken { .. } => Refusal::Conflict(
                "another server has appended to it; ask what is there and try again".to_owned(),
            ),
            lb_store::Error::Removed { .. } if number == 0 => Refusal::Conflict(format!(
                "a trajectory {:?} was deleted; its name is free in a day",
                trajectory.id
            )),
            lb_store::Error::Removed { .. } => {
                Refusal::Absent { what: "trajectory", name: trajectory.id.clone() }
            }
            other => refused(&other),
        })
    }

    /// Everything from a record on; nothing where there is no such trajectory.
    async fn read(
        &self,
        tenant: &Tenant,
        id: &str,
        from: u64,
    ) -> std::result::Result<Option<Vec<Record>>, Refusal> {
        let journal = Self::named(tenant, id)?;
        let records = match self.store.read_journal(&journal, from).await {
            Ok(records) => records,
            Err(lb_store::Error::Absent { .. } | lb_store::Error::Removed { .. }) => return Ok(None),
            Err(error) => return Err(refused(&error)),
        };
        let record = |bytes| {
            let damaged = |error: serde_json::Error| Refusal::Store(format!("{journal}: {error}"));
            serde_json::from_slice(bytes).map_err(damaged)
        };
        records.iter().map(|bytes| record(bytes)).collect::<std::result::Result<_, _>>().map(Some)
    }

    async fn whole(&self, tenant: &Tenant, id: &str) -> std::result::Result<Option<Read>, Refusal> {
        let Some(records) = self.read(tenant, id, 0).await? else { return Ok(None) };
        let mut read = Read {
            settings: Settings::default(),
            created: 0,
            segments: Vec::new(),
            session: None,
            records: 0,
        };
        for record in records {
            read.records += 1;
            match record {
                Record::Trajectory { created, settings, .. } => {
                    (read.created, read.settings) = (created, settings);
                }
                Record::Segments { segments, .. } => read.segments.extend(segments),
                Record::Session { object, segments } => read.session = Some((object, segments)),
            }
        }
        Ok(Some(read))
    }

    fn about(
        &self,
        tenant: &Tenant,
        method: &str,
        (logical_len, task): (usize, Option<String>),
    ) -> std::result::Result<About, Refusal> {
        let tenant = lb_store::Tenant::new(tenant.name()).map_err(|error| refused(&error))?;
        let until = Duration::from_secs(crate::trajectories::now()) + KEPT;
        Ok(About {
            tenant,
            fingerprint: self.fingerprint.clone(),
            logical_len: logical_len as u64,
            method: method.to_owned(),
            method_version: VERSION.to_owned(),
            kept: None,
            task,
            expires: Some(until.as_millis() as u64),
        })
    }

    /// Puts a file; its name among the objects.
    pub(crate) async fn put(
        &self,
        kind: ObjectKind,
        tenant: &Tenant,
        method: &str,
        about: (usize, Option<String>),
        file: PathBuf,
    ) -> std::result::Result<String, Refusal> {
        let about = self.about(tenant, method, about)?;
        let id = self.store.put(kind, &about, file).await.map_err(|error| refused(&error))?;
        Ok(id.as_str().to_owned())
    }

    /// Fetches an object, for exactly this worker; why not, where it is not to be had.
    pub(crate) async fn get(
        &self,
        kind: ObjectKind,
        tenant: &Tenant,
        id: &str,
        into: &Path,
    ) -> std::result::Result<PathBuf, lb_store::Error> {
        let id: ObjectId = id.parse()?;
        let tenant = lb_store::Tenant::new(tenant.name())?;
        let fetched = self.store.get(kind, &tenant, &id, &self.fingerprint, into).await?;
        Ok(fetched.path)
    }
}

fn fingerprint(worker: &Worker) -> Result<Fingerprint> {
    let own = worker.fingerprint().map_err(lb_session::Error::from)?;
    let config = worker.config();
    Ok(Fingerprint {
        weights: own.weights.clone(),
        tokenizer: own.tokenizer.clone(),
        template: own.template.clone(),
        dtype: worker.dtype().as_str().to_owned(),
        rope_base: config.rope_theta,
        layers: config.num_hidden_layers as u32,
        kv_heads: config.num_key_value_heads as u32,
        head_dim: config.head_dim as u32,
        bits: 8 * worker.dtype().size_in_bytes() as u32,
    })
}

impl App {
    /// Whether times to live can be kept.
    pub(crate) fn keeps_time(&self) -> bool {
        self.storage.as_ref().is_none_or(|storage| !storage.blind)
    }

    /// Whether a name is free, here and where things are written down.
    pub(crate) async fn is_free(&self, tenant: &Tenant, id: &str) -> std::result::Result<(), Refusal> {
        let taken = match &self.storage {
            Some(storage) => storage.read(tenant, id, 0).await?.is_some(),
            None => self.trajectories.get(tenant, id).is_ok(),
        };
        if taken { Err(Refusal::Conflict(format!("a trajectory {id:?} is there already"))) } else { Ok(()) }
    }

    /// A tenant's trajectory, as far as it is written down by now: also what other servers appended, and what this one had before it was
    /// started anew.
    pub(crate) async fn trajectory(
        &self,
        tenant: &Tenant,
        id: &str,
    ) -> std::result::Result<Arc<Trajectory>, Refusal> {
        self.found(tenant, id, true).await
    }

    /// The same for who only looks: while it is being appended to, what was there before.
    pub(crate) async fn known(
        &self,
        tenant: &Tenant,
        id: &str,
    ) -> std::result::Result<Arc<Trajectory>, Refusal> {
        self.found(tenant, id, false).await
    }

    async fn found(
        &self,
        tenant: &Tenant,
        id: &str,
        patient: bool,
    ) -> std::result::Result<Arc<Trajectory>, Refusal> {
        let absent = || Refusal::Absent { what: "trajectory", name: lb_io::shown::quoted(id) };
        let Some(storage) = &self.storage else { return self.trajectories.get(tenant, id) };
        if Tenant::named(id).is_none() {
            return Err(absent());
        }
        if let Ok(known) = self.trajectories.get(tenant, id) {
            return self.refreshed(storage, &known, patient).await;
        }
        let _opening = storage.opening.lock().await;
        if let Ok(known) = self.trajectories.get(tenant, id) {
            return Ok(known);
        }
        let Some(read) = storage.whole(tenant, id).await? else { return Err(absent()) };
        if storage.blind && read.settings.ttl_seconds.is_some() {
            let reason = "it has a time to live, and another server keeps this store's times; they need an index in Redis (--index)";
            return Err(Refusal::Conflict(reason.to_owned()));
        }
        let trajectory = self.trajectories.begin(tenant, Some(id), read.settings)?;
        trajectory.came_back(read.created, read.segments);
        if let Some((object, segments)) = read.session.filter(|(_, segments)| *segments <= trajectory.len()) {
            match storage.get(ObjectKind::Session, tenant, &object, &self.folder).await {
                Ok(file) => trajectory.rests_in(file, segments),
                Err(error) => {
                    tracing::warn!(trajectory = id, segments, %error, "its cache is not taken; its text is read again");
                    self.metrics.replays.inc();
                }
            }
        }
        *trajectory.order.lock().await = read.records;
        self.trajectories.put(&trajectory)?;
        if patient {
            self.used(&trajectory).await;
        }
        Ok(trajectory)
    }

    /// With what other servers have appended meanwhile.
    async fn refreshed(
        &self,
        storage: &Storage,
        known: &Arc<Trajectory>,
        patient: bool,
    ) -> std::result::Result<Arc<Trajectory>, Refusal> {
        let held = if patient { Some(known.order.lock().await) } else { known.order.try_lock().ok() };
        let Some(mut written) = held else { return Ok(known.clone()) };
        let (tenant, id) = (&known.tenant, &known.id);
        let Some(records) = storage.read(tenant, id, *written).await? else {
            self.trajectories.remove(tenant, id);
            known.forget();
            return Err(Refusal::Absent { what: "trajectory", name: id.clone() });
        };
        for record in records {
            *written += 1;
            if let Record::Segments { segments, .. } = record {
                known.acknowledge(segments);
            }
        }
        drop(written);
        // Looking is no use.
        if patient {
            self.used(known).await;
        }
        Ok(known.clone())
    }

    /// The names of a tenant's trajectories, those that this server has not opened yet counted in; nothing without a store.
    pub(crate) async fn stored(&self, tenant: &Tenant) -> std::result::Result<Option<Vec<String>>, Refusal> {
        let Some(storage) = &self.storage else { return Ok(None) };
        let owner = lb_store::Tenant::new(tenant.name()).map_err(|error| refused(&error))?;
        let journals = storage.store.journals(&owner).await.map_err(|error| refused(&error))?;
        Ok(Some(journals.iter().map(|journal| journal.name().to_owned()).collect()))
    }

    /// Notes a use, from which times to live are counted.
    async fn used(&self, trajectory: &Trajectory) {
        let Some(storage) = &self.storage else { return };
        let keep = trajectory.settings.ttl_seconds.filter(|ttl| *ttl > 0).map(Duration::from_secs);
        let key = format!("{}/{}", trajectory.tenant, trajectory.id);
        if let Err(error) = storage.index.touch(&key, trajectory.bytes() as u64, keep).await {
            tracing::warn!(%error, "a use is not noted");
        }
    }

    /// Writes down that a trajectory begins, and with what; how many records that are. What is left of one that cannot be written whole is
    /// removed.
    pub(crate) async fn write_whole(
        &self,
        trajectory: &Trajectory,
        segments: &[Segment],
    ) -> std::result::Result<u64, Refusal> {
        let Some(storage) = &self.storage else { return Ok(0) };
        let (by, settings) = (random_name()?, trajectory.settings.clone());
        storage
            .write(trajectory, 0, &Record::Trajectory { by, created: trajectory.created(), settings })
            .await?;
        if !segments.is_empty()
            && let Err(refusal) = self.write_segments(trajectory, 1, segments).await
        {
            // The first record was this call's own.
            let _ = storage.store.remove_journal(&Storage::journal(trajectory)?).await;
            return Err(refusal);
        }
        self.used(trajectory).await;
        Ok(1 + u64::from(!segments.is_empty()))
    }

    /// Writes segments down as the record `number`.
    pub(crate) async fn write_segments(
        &self,
        trajectory: &Trajectory,
        number: u64,
        segments: &[Segment],
    ) -> std::result::Result<(), Refusal> {
        let Some(storage) = &self.storage else { return Ok(()) };
        let record = Record::Segments { by: random_name()?, segments: segments.to_vec() };
        storage.write(trajectory, number, &record).await
    }

    /// Puts the cache of a trajectory, which lies in a file, where any server finds it.
    pub(crate) async fn write_session(
        &self,
        trajectory: &Trajectory,
        (file, segments, positions): (PathBuf, usize, usize),
    ) -> std::result::Result<(), Refusal> {
        let Some(storage) = &self.storage else { return Ok(()) };
        let tenant = &trajectory.tenant;
        let object = storage.put(ObjectKind::Session, tenant, "session", (positions, None), file).await?;
        let mut written = trajectory.order.lock().await;
        storage.write(trajectory, *written, &Record::Session { object, segments }).await?;
        *written += 1;
        Ok(())
    }

    /// Forgets a trajectory, here and where it is written down.
    pub(crate) async fn forget(&self, tenant: &Tenant, id: &str) -> std::result::Result<(), Refusal> {
        if let Some(trajectory) = self.trajectories.remove(tenant, id) {
            trajectory.forget();
        }
        let Some(storage) = &self.storage else { return Ok(()) };
        let journal = Storage::named(tenant, id)?;
        storage.store.remove_journal(&journal).await.map_err(|error| refused(&error))?;
        let _ = storage.index.forget(&format!("{tenant}/{id}")).await;
        Ok(())
    }

    /// Forgets what was not used for longer than it is to be kept, and sweeps what was left behind.
    pub(crate) async fn forget_old(&self) {
        for over in self.trajectories.sweep() {
            let _ = self.forget(&over.tenant, &over.id).await;
        }
        let Some(storage) = self.storage.as_ref().filter(|storage| !storage.blind) else { return };
        let Ok(expired) = storage.index.expired(64).await else { return };
        for entry in expired {
            if let Some((tenant, id)) = entry.key.split_once('/')
                && let Some(tenant) = Tenant::named(tenant)
            {
                let _ = self.forget(&tenant, id).await;
            }
        }
    }

    /// Takes away from the store what nobody needs any more.
    pub(crate) async fn sweep(&self) {
        let Some(storage) = &self.storage else { return };
        let now = Duration::from_secs(crate::trajectories::now()).as_millis() as u64;
        if let Err(error) = storage.store.sweep(now).await {
            tracing::warn!(%error, "the store is not swept");
        }
    }
}
