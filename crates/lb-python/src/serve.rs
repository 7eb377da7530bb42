//! A worker behind HTTP, from inside a Python program.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lb_serve::{Running, ServeConfig};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::{self, OrRaise};
use crate::refuse_copy;
use crate::worker::Worker;

/// How long Ctrl-C waits to be heard.
const POLL: Duration = Duration::from_millis(100);

/// A server that listens.
#[pyclass(frozen, module = "latent_briefing._native")]
pub(crate) struct Server {
    address: SocketAddr,
    running: Mutex<Option<Running>>,
}

fn config_of(listen: &str, given: Option<&Bound<'_, PyDict>>) -> PyResult<ServeConfig> {
    let mut config = ServeConfig::default();
    let address = listen.parse();
    config.listen =
        address.map_err(|error| errors::config("listen", format!("listen: {listen:?}: {error}")))?;
    for (key, value) in given.into_iter().flatten() {
        let key: String = key.extract()?;
        match &*key {
            "keys" => config.keys = value.extract::<Option<PathBuf>>()?,
            "store" => config.store = value.extract()?,
            "aliases" => config.aliases = value.extract()?,
            "parallel" => config.parallel = value.extract()?,
            "queue" => config.queue = value.extract()?,
            "max_tokens" => config.max_tokens = value.extract()?,
            "memory" => config.memory = value.extract()?,
            "request_time" => {
                let time = Duration::try_from_secs_f64(value.extract()?);
                config.request_time =
                    time.map_err(|error| errors::config("request_time", format!("request_time: {error}")))?;
            }
            "drain_time" => {
                let time = Duration::try_from_secs_f64(value.extract()?);
                config.drain_time =
                    time.map_err(|error| errors::config("drain_time", format!("drain_time: {error}")))?;
            }
            _ => return Err(errors::config(&key, format!("there is no setting {key:?} of a server"))),
        }
    }
    Ok(config)
}

/// Puts a worker behind HTTP: OpenAI's and Anthropic's protocols, trajectories as resources. Returns a Server that listens; port 0
/// chooses one. Settings: keys (a file), store, aliases, parallel, queue, max_tokens, memory (bytes), request_time, drain_time
/// (seconds). Raises ServeError; without keys only this machine is answered.
#[pyfunction]
#[pyo3(signature = (worker, listen = "127.0.0.1:8080", **config))]
pub(crate) fn serve(
    py: Python<'_>,
    worker: &Bound<'_, Worker>,
    listen: &str,
    config: Option<&Bound<'_, PyDict>>,
) -> PyResult<Server> {
    let config = config_of(listen, config)?;
    let worker = &worker.get().inner;
    let running = py.detach(|| lb_serve::Server::start(worker, config)).or_raise()?;
    Ok(Server { address: running.address(), running: Mutex::new(Some(running)) })
}

#[pymethods]
impl Server {
    /// Host and port.
    #[getter]
    fn address(&self) -> String {
        self.address.to_string()
    }

    /// What clients are given: `http://HOST:PORT`.
    #[getter]
    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends in good order; what is under way has its time.
    fn stop(&self, py: Python<'_>) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        py.detach(|| running.map(Running::stop));
    }

    /// Serves until Ctrl-C, or until another thread stops it.
    fn wait(&self, py: Python<'_>) -> PyResult<()> {
        let is_up = || self.running.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        while is_up() {
            if let Err(error) = py.check_signals() {
                self.stop(py);
                return Err(error);
            }
            py.detach(|| std::thread::sleep(POLL));
        }
        Ok(())
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_raised))]
    fn __exit__(&self, py: Python<'_>, _raised: &Bound<'_, pyo3::types::PyTuple>) {
        self.stop(py);
    }

    fn __repr__(&self) -> String {
        format!("Server(http://{})", self.address)
    }

    fn __reduce_ex__(&self, _protocol: usize) -> PyResult<()> {
        refuse_copy("a Server holds a socket; hand over its url")
    }
}
