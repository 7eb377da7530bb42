//! A server from its beginning to its end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lb_model::Worker;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::engine::{Bounds, Engine, Job, Work};
use crate::http::{App, router};
use crate::journal::Storage;
use crate::keys::Keys;
use crate::metrics::{Metrics, count};
use crate::trajectories::{Trajectories, Trajectory, now};
use crate::{Error, Result, ServeConfig, Tenant, listen};

/// How often times to live and memory are looked after.
const HOUSEKEEPING: Duration = Duration::from_millis(500);

/// How often the store is swept.
const SWEEP: Duration = Duration::from_hours(1);

/// A server that listens. It serves until it is told to [`stop`](Running::stop), or until the process is asked to end where
/// [`Running::wait`] heeds that.
pub struct Server;

/// One that is under way.
pub struct Running {
    address: SocketAddr,
    app: Arc<App>,
    stop: watch::Sender<bool>,
    runtime: Option<Runtime>,
    serving: Option<tokio::task::JoinHandle<()>>,
    engine: Option<JoinHandle<()>>,
    /// Of what is not in memory; goes with the server.
    _folder: tempfile::TempDir,
}

impl Server {
    /// Begins to serve.
    ///
    /// # Errors
    /// [`Error::Open`] for an address beyond this machine without keys, [`Error::Config`] for what is out of range, [`Error::Keys`],
    /// [`Error::Listen`], [`Error::Io`].
    pub fn start(worker: &Worker, config: ServeConfig) -> Result<Running> {
        config.validate()?;
        let keys = config.keys.as_deref().map(Keys::read).transpose()?;
        // Two threads talk to clients; the engine's own pool computes.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let listen_to = config.listen;
        let listener = runtime.block_on(TcpListener::bind(listen_to));
        let listener = listener.map_err(|source| Error::Listen { address: listen_to, source })?;
        let address = listener.local_addr()?;
        let folder = tempfile::Builder::new().prefix("latent-briefing-").tempdir()?;
        let storage = match &config.store {
            Some(address) => {
                let index = config.index.as_deref();
                let opened = Storage::open(address, index, worker);
                Some(runtime.block_on(opened)?)
            }
            None => None,
        };
        let metrics = Arc::new(Metrics::new());
        let bounds = Bounds {
            parallel: config.parallel,
            waiting: config.queue,
            // One tenant leaves room for the others.
            of_one: if keys.is_some() { config.queue.div_ceil(2) } else { config.queue },
            prefix_bytes: config.prefixes,
        };
        let (engine, thread) = Engine::start(worker.clone(), bounds, metrics.clone())?;
        let trajectories =
            Arc::new(Trajectories::new(folder.path(), config.memory, config.trajectories, storage.is_none()));
        let app = Arc::new(App {
            worker: worker.clone(),
            engine,
            trajectories,
            keys,
            metrics,
            config,
            draining: AtomicBool::new(false),
            storage,
            folder: folder.path().to_owned(),
            begun: now(),
        });
        let (stop, stopped) = watch::channel(false);
        runtime.spawn(keep_house(app.clone()));
        let serving = runtime.spawn(listen::serve(listener, router(app.clone()), app.clone(), stopped));
        Ok(Running {
            address,
            app,
            stop,
            runtime: Some(runtime),
            serving: Some(serving),
            engine: Some(thread),
            _folder: folder,
        })
    }
}

impl Running {
    /// Where it listens; the port that was chosen where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until SIGTERM or Ctrl-C, then ends in good order: nothing new is taken, and what is under way has
    /// [`drain_time`](ServeConfig::drain_time).
    ///
    /// # Errors
    /// [`Error::Io`] where signals cannot be heard.
    pub fn wait(mut self) -> Result<()> {
        if let Some(runtime) = &self.runtime {
            runtime.block_on(asked_to_end())?;
        }
        self.end();
        Ok(())
    }

    /// Ends in good order, as on SIGTERM.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        self.app.draining.store(true, Ordering::SeqCst);
        let _ = self.stop.send(true);
        if let Some(serving) = self.serving.take() {
            let _ = runtime.block_on(serving);
        }
        // What is not done by now has nobody who listens: the caches of trajectories come first.
        self.app.engine.abandon();
        let time = self.app.config.drain_time;
        let _ = runtime.block_on(async { tokio::time::timeout(time, store_sessions(&self.app)).await });
        self.app.engine.drain();
        // What is still under way has nobody who listens, and ends with its next token.
        runtime.shutdown_timeout(Duration::from_secs(1));
        if let Some(engine) = self.engine.take() {
            let _ = engine.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(unix)]
async fn asked_to_end() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

#[cfg(not(unix))]
async fn asked_to_end() -> Result<()> {
    Ok(tokio::signal::ctrl_c().await?)
}

/// Leaves the caches of long trajectories in the store, so that whoever serves next need not read them again.
async fn store_sessions(app: &App) {
    if app.storage.is_none() {
        return;
    }
    for trajectory in app.trajectories.all() {
        if !trajectory.is_worth_storing() {
            continue;
        }
        let (segments, positions) = (trajectory.len(), trajectory.positions());
        rested(app, &trajectory).await;
        let Some(file) = trajectory.resting_file() else { continue };
        match app.write_session(&trajectory, (file, segments, positions)).await {
            Ok(()) => trajectory.is_stored(segments),
            Err(error) => tracing::warn!(trajectory = trajectory.id, %error, "its cache is not stored"),
        }
    }
}

/// Takes a trajectory out of memory, before whatever else waits.
async fn rested(app: &App, trajectory: &Arc<Trajectory>) {
    let work = Work::Rest { trajectory: trajectory.clone() };
    let (job, mut listening) = Job::new(Tenant::local(), work, app.config.request_time);
    app.engine.submit_first(job);
    listening.events.recv().await;
}

/// Forgets what is over its time, and takes out of memory what does not fit.
async fn keep_house(app: Arc<App>) {
    let (mut tick, mut swept) = (tokio::time::interval(HOUSEKEEPING), Instant::now());
    loop {
        tick.tick().await;
        app.engine.prune();
        app.forget_old().await;
        if swept.elapsed() > SWEEP {
            app.sweep().await;
            swept = Instant::now();
        }
        for trajectory in app.trajectories.too_many() {
            rested(&app, &trajectory).await;
        }
        app.metrics.trajectories.set(count(app.trajectories.len()));
        app.metrics.trajectory_bytes.set(count(app.trajectories.bytes()));
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("address", &self.address).finish_non_exhaustive()
    }
}
