//! Trajectories as resources: who has which, and how much memory they take.

mod looked;
mod trajectory;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::keys::hex;
use crate::{Refusal, Tenant};

pub(crate) use looked::Looked;
pub(crate) use trajectory::{Described, Settings, Trajectory};

/// All trajectories of a server, by tenant and name.
pub(crate) struct Trajectories {
    of: RwLock<BTreeMap<(Tenant, String), Arc<Trajectory>>>,
    /// Where caches lie that are not in memory.
    folder: PathBuf,
    /// Bytes of the caches in memory.
    most: usize,
    /// Trajectories of a tenant.
    count: usize,
    /// Whether nobody else knows when one was used.
    alone: bool,
}

/// Seconds for which a server remembers what it could read again from its store.
const IDLE: u64 = 24 * 3600;

/// Whether nobody works with it. Asked under the lock of the map, so that nobody begins to.
fn is_idle(known: &Arc<Trajectory>) -> bool {
    Arc::strong_count(known) == 1
}

/// Its file goes as well; always true.
fn leaves(known: &Trajectory) -> bool {
    known.forget();
    true
}

/// Takes the tenant's least recently used one out of memory, of those that nobody works with; false where there is none.
fn make_room(of: &mut BTreeMap<(Tenant, String), Arc<Trajectory>>, tenant: &Tenant) -> bool {
    let idle = of.iter().filter(|((owner, _), known)| owner == tenant && is_idle(known));
    let Some(key) = idle.min_by_key(|(_, known)| known.used()).map(|(key, _)| key.clone()) else {
        return false;
    };
    of.remove(&key).is_some_and(|known| leaves(&known))
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

impl Trajectories {
    pub(crate) fn new(folder: &Path, most: usize, count: usize, alone: bool) -> Self {
        Self { of: RwLock::default(), folder: folder.to_path_buf(), most, count, alone }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<(Tenant, String), Arc<Trajectory>>> {
        self.of.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<(Tenant, String), Arc<Trajectory>>> {
        self.of.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new trajectory, not to be found before it is [`put`](Self::put).
    pub(crate) fn begin(
        &self,
        tenant: &Tenant,
        id: Option<&str>,
        settings: Settings,
    ) -> Result<Arc<Trajectory>, Refusal> {
        let id = match id {
            Some(id) => Tenant::named(id)
                .map(|name| name.name().to_owned())
                .ok_or_else(|| Refusal::field("id", "1 to 64 letters, digits, - and _"))?,
            None => format!("traj_{}", random_name()?),
        };
        Ok(Arc::new(Trajectory::new(tenant.clone(), id, settings, &self.folder)))
    }

    /// Makes it known.
    pub(crate) fn put(&self, trajectory: &Arc<Trajectory>) -> Result<(), Refusal> {
        let key = (trajectory.tenant.clone(), trajectory.id.clone());
        let mut of = self.write();
        if of.contains_key(&key) {
            return Err(Refusal::Conflict(format!("a trajectory {:?} is there already", key.1)));
        }
        let own = of.keys().filter(|(tenant, _)| *tenant == trajectory.tenant).count();
        if own >= self.count && (self.alone || !make_room(&mut of, &trajectory.tenant)) {
            let reason = format!("{} trajectories are there already, the most that one may have", self.count);
            return Err(Refusal::Conflict(reason));
        }
        of.insert(key, trajectory.clone());
        Ok(())
    }

    /// The tenant's own of this name.
    pub(crate) fn get(&self, tenant: &Tenant, id: &str) -> Result<Arc<Trajectory>, Refusal> {
        let found = self.read().get(&(tenant.clone(), id.to_owned())).cloned();
        let found = found.filter(|trajectory| !(self.alone && trajectory.is_expired(now())));
        found.ok_or_else(|| Refusal::Absent { what: "trajectory", name: id.to_owned() })
    }

    /// The tenant's own, by name.
    pub(crate) fn of(&self, tenant: &Tenant) -> Vec<Arc<Trajectory>> {
        let at = now();
        let own = |((owner, _), trajectory): (&(Tenant, String), &Arc<Trajectory>)| {
            (owner == tenant && !(self.alone && trajectory.is_expired(at))).then(|| trajectory.clone())
        };
        self.read().iter().filter_map(own).collect()
    }

    /// Forgets it; what is under way with it ends as it would.
    pub(crate) fn remove(&self, tenant: &Tenant, id: &str) -> Option<Arc<Trajectory>> {
        self.write().remove(&(tenant.clone(), id.to_owned()))
    }

    /// Those whose time is over, which are forgotten. What a store has and nobody used for [`IDLE`] leaves memory alone.
    pub(crate) fn sweep(&self) -> Vec<Arc<Trajectory>> {
        let at = now();
        let mut of = self.write();
        if !self.alone {
            of.retain(|_, known| {
                !(is_idle(known) && at.saturating_sub(known.used()) > IDLE && leaves(known))
            });
            return Vec::new();
        }
        let over: Vec<_> = of.iter().filter(|(_, t)| t.is_expired(at)).map(|(key, _)| key.clone()).collect();
        over.into_iter().filter_map(|key| of.remove(&key)).collect()
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Arc<Trajectory>> {
        self.read().values().cloned().collect()
    }

    /// Bytes of the caches in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.read().values().map(|trajectory| trajectory.bytes()).sum()
    }

    /// How many there are, of all tenants.
    pub(crate) fn len(&self) -> usize {
        self.read().len()
    }

    /// What was not used for longest and has to leave memory, until the rest fits.
    pub(crate) fn too_many(&self) -> Vec<Arc<Trajectory>> {
        let mut bytes = self.bytes();
        if bytes <= self.most {
            return Vec::new();
        }
        let mut live: Vec<_> = self.read().values().filter(|t| t.bytes() > 0).cloned().collect();
        live.sort_by_key(|trajectory| trajectory.used());
        // The last one stays: it is being worked with.
        live.pop();
        let mut leave = Vec::new();
        for trajectory in live {
            if bytes <= self.most {
                break;
            }
            bytes = bytes.saturating_sub(trajectory.bytes());
            leave.push(trajectory);
        }
        leave
    }
}

/// 128 bits by lot, in hexadecimal digits.
pub(crate) fn random_name() -> Result<String, Refusal> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Refusal::Internal(format!("no random numbers: {error}")))?;
    Ok(hex(&bytes))
}
