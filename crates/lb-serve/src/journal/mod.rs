//! What is written down of trajectories, before anybody is told that it is there; and how it comes back.
//!
//! A trajectory is a journal: its settings, then its segments as they were appended, and now and then the name of a session, a cache that
//! spares reading the text up to there. Any server that shares the store may append: whoever is second to write a record has read too
//! little, and reads on.

mod kept;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lb_model::Worker;
use lb_session::Segment;
use lb_store::index::{self, Index};
use lb_store::{About, Fingerprint, JournalId, ObjectId, ObjectKind, Store, StoreOptions, SystemClock};
use serde::{Deserialize, Serialize};

use crate::trajectories::{Settings, Trajectory};
use crate::{Error, Refusal, Result, Tenant};

/// Of the way in which sessions and briefings are made; another version's are not taken.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// How long an object that spares reading is kept without being needed.
const KEPT: Duration = Duration::from_hours(24 * 30);

/// The store of a server.
pub(crate) struct Storage {
    store: Store,
    index: Arc<dyn Index>,
    fingerprint: Fingerprint,
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
