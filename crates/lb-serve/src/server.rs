//! A server from its beginning to its end: what answers, behind HTTP.

use std::net::SocketAddr;
use std::time::Duration;

use lb_model::Worker;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::http::router;
use crate::keys::Keys;
use crate::{Error, Result, ServeConfig, Service, listen};

/// A server that listens. It serves until it is told to [`stop`](Running::stop), or until the process is asked to end where
/// [`Running::wait`] heeds that.
pub struct Server;

/// One that is under way.
pub struct Running {
    address: SocketAddr,
    service: Service,
    stop: watch::Sender<bool>,
    runtime: Option<Runtime>,
    serving: Option<tokio::task::JoinHandle<()>>,
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
        let service = runtime.block_on(Service::with_keys(worker, config, keys))?;
        let (stop, stopped) = watch::channel(false);
        let app = service.app.clone();
        let serving = runtime.spawn(listen::serve(listener, router(app.clone()), app, stopped));
        Ok(Running { address, service, stop, runtime: Some(runtime), serving: Some(serving) })
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
        self.service.drain();
        let _ = self.stop.send(true);
        if let Some(serving) = self.serving.take() {
            let _ = runtime.block_on(serving);
        }
        // What is not done by now has nobody who listens, and ends with its next token.
        runtime.block_on(self.service.end());
        runtime.shutdown_timeout(Duration::from_secs(1));
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

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("address", &self.address).finish_non_exhaustive()
    }
}
