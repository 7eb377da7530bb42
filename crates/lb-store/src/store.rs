//! The store: opening it, and the steps that everything in it is made of.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::path::Path as Name;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode};
use tokio::sync::OnceCell;

use crate::backend;
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, Result};

/// Clocks of machines that share a store may differ by half of this.
pub const LEAST_GRACE: Duration = Duration::from_mins(10);
/// A grace that an upload over a slow line does not outlast.
const USUAL_GRACE: Duration = Duration::from_hours(24);

/// How a store is opened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StoreOptions {
    /// How long a body may be without a manifest, and a file half written, before [`Store::sweep`] takes it for a killed
    /// writer's: a day unless said otherwise, at least [`LEAST_GRACE`]. A put may take half of it.
    pub grace: Duration,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    settings: Hidden,
}

/// Settings, which may be keys.
#[derive(Clone, Default)]
struct Hidden(BTreeMap<String, String>);

impl Default for StoreOptions {
    fn default() -> Self {
        Self { grace: USUAL_GRACE, clock: Arc::new(SystemClock), settings: Hidden::default() }
    }
}

impl StoreOptions {
    /// Sets what otherwise the environment says, by the name that `object_store` has for it: `aws_endpoint`, `aws_region`.
    #[must_use]
    pub fn with_setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.0.insert(name.into(), value.into());
        self
    }

    /// Sets the grace.
    #[must_use]
    pub fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Sets the clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Objects and journals at one place, which any number of processes and machines may share. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    backend: backend::Backend,
    grace: Duration,
    clock: Arc<dyn Clock>,
    /// Whether the service was seen to refuse what is there already.
    exclusive: OnceCell<()>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({})", self.inner.backend.shown)
    }
}

impl Store {
    /// Opens `memory:`, a folder by its path or as `file:///FOLDER`, `s3://BUCKET/FOLDER`, `gs://BUCKET/FOLDER` or
    /// `az://CONTAINER/FOLDER`. A folder is made where it is missing, a bucket is not. Keys are taken from the environment, by
    /// the names that `object_store` knows (`AWS_ACCESS_KEY_ID`).
    ///
    /// # Errors
    /// [`Error::Feature`] for a kind of store that this build does not have; [`Error::Field`] for an address, a setting or
    /// a grace that cannot be; [`Error::Io`] and [`Error::Backend`].
    pub fn open(address: &str, options: StoreOptions) -> Result<Self> {
        if options.grace < LEAST_GRACE {
            let reason = format!("at least {LEAST_GRACE:?}, as clocks differ");
            return Err(Error::field("grace", format!("{:?}", options.grace), reason));
        }
        let backend = backend::open(address, &options.settings.0)?;
        let (grace, clock) = (options.grace, options.clock);
        Ok(Self { inner: Arc::new(Inner { backend, grace, clock, exclusive: OnceCell::new() }) })
    }

    /// The folder, where the store is one: the place for an index that this machine alone uses.
    pub fn folder(&self) -> Option<&Path> {
        self.inner.backend.folder.as_deref()
    }

    pub(crate) fn files(&self) -> &dyn ObjectStore {
        &*self.inner.backend.files
    }

    pub(crate) fn now(&self) -> u64 {
        self.inner.clock.now()
    }

    pub(crate) fn grace(&self) -> Duration {
        self.inner.grace
    }

    /// The sizes and times of what is there; `None` for nothing.
    pub(crate) async fn head(&self, name: &Name) -> Result<Option<ObjectMeta>> {
        found(self.files().head(name).await).map_err(failed("look at", name))
    }

    /// A file of at most `most` bytes; `None` for nothing.
    pub(crate) async fn read(&self, name: &Name, most: u64) -> Result<Option<Bytes>> {
        let Some(file) = found(self.files().get(name).await).map_err(failed("read", name))? else {
            return Ok(None);
        };
        if file.meta.size > most {
            let reason = format!("{} bytes; at most {most} are read", file.meta.size);
            return Err(Error::damaged(name.as_ref(), reason));
        }
        // It may be taken away while it is read.
        found(file.bytes().await).map_err(failed("read", name))
    }

    /// Writes a file under a name that is this writer's own.
    pub(crate) async fn write(&self, name: &Name, bytes: impl Into<Bytes>) -> Result<()> {
        self.files().put(name, bytes.into().into()).await.map_err(failed("write", name))?;
        Ok(())
    }

    /// Writes a file unless there is one; whether it did.
    pub(crate) async fn write_new(&self, name: &Name, bytes: impl Into<Bytes>) -> Result<bool> {
        match self.files().put_opts(name, bytes.into().into(), PutMode::Create.into()).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(failed("write", name)(error)),
        }
    }

    /// Before what another writer left is acknowledged: it may have been killed after the name was there and before that was on
    /// the disk.
    pub(crate) async fn keep(&self, name: &Name) -> Result<()> {
        #[cfg(unix)]
        if let Some(root) = self.folder() {
            let path = root.join(name.as_ref());
            return blocking(move || {
                let folder = path.parent().unwrap_or(&path);
                match std::fs::File::open(folder).and_then(|folder| folder.sync_all()) {
                    // It was there, and was removed since.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
                    synced => synced.map_err(Error::io("write", folder)),
                }
            })
            .await?;
        }
        let _ = name;
        Ok(())
    }

    /// Takes a file away; one that is not there is none to take.
    pub(crate) async fn delete(&self, name: &Name) -> Result<()> {
        found(self.files().delete(name).await).map_err(failed("remove", name))?;
        Ok(())
    }

    pub(crate) async fn list(&self, under: &Name) -> Result<Vec<ObjectMeta>> {
        self.files().list(Some(under)).try_collect().await.map_err(failed("list", under))
    }

    /// Some services accept the condition that nothing is there, and write all the same. Journals are not safe there.
    pub(crate) async fn is_exclusive(&self) -> Result<()> {
        let probe = async {
            if self.inner.backend.folder.is_some() {
                return Ok(());
            }
            let name = Name::from_iter([crate::names::PROBES, &crate::names::nonce()?]);
            let first = self.write_new(&name, Bytes::from_static(b"1")).await?;
            let second = self.write_new(&name, Bytes::from_static(b"2")).await?;
            self.delete(&name).await?;
            if first && !second {
                return Ok(());
            }
            let reason = "the service does not heed `If-None-Match: *`, which journals need";
            Err(Error::backend("append to", &self.inner.backend.shown, &reason))
        };
        self.inner.exclusive.get_or_try_init(|| probe).await.copied()
    }
}

/// Nothing there is an answer.
fn found<T>(result: object_store::Result<T>) -> object_store::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(crate) fn failed(action: &'static str, name: &Name) -> impl FnOnce(object_store::Error) -> Error {
    move |error| Error::backend(action, name.as_ref(), &error)
}

/// Runs what waits for a disk where nothing else waits for it.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done),
        Err(failed) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
        Err(failed) => Err(Error::backend("finish", "a step", &failed)),
    }
}
