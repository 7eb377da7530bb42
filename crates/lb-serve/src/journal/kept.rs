//! What a server keeps in its store, and how it finds it there again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lb_session::Segment;
use lb_store::ObjectKind;

use super::{Record, Storage, refused};
use crate::http::App;
use crate::trajectories::{Trajectory, random_name};
use crate::{Refusal, Tenant};

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
