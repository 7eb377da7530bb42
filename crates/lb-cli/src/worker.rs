//! A worker by name, and what its user should know of it.

use std::path::{Path, PathBuf};

use candle_core::DType;
use lb_model::{Checkpoint, DeviceChoice, Worker};
use lb_session::OpenSession;

use crate::say::tell;

/// Which worker: the same arguments for every command that has one.
#[derive(clap::Args, Clone)]
pub(crate) struct WorkerArgs {
    /// The worker: a checkpoint's folder, a GGUF file, or org/name on the Hugging Face hub; without it, the built-in one.
    #[arg(long, value_name = "MODEL")]
    pub(crate) worker: Option<PathBuf>,
    /// Refuse a worker that would be accepted with a warning.
    #[arg(long)]
    pub(crate) strict: bool,
    /// f32, f16 or bf16: of the weights, or of the cache where they are quantised.
    #[arg(long)]
    pub(crate) dtype: Option<DType>,
    /// auto, cpu, cuda, cuda:N, metal or metal:N; the built-in worker is on the CPU unless told otherwise.
    #[arg(long)]
    pub(crate) device: Option<DeviceChoice>,
}

impl WorkerArgs {
    /// Whether it is the built-in one.
    pub(crate) fn is_embedded(&self) -> bool {
        self.worker.is_none()
    }

    /// Loads it; for a session, its user is told more.
    pub(crate) fn load(&self) -> lb_model::Result<Worker> {
        let usual = if self.is_embedded() { DeviceChoice::Cpu } else { DeviceChoice::Auto };
        let device = self.device.unwrap_or(usual).open()?;
        checkpoint(self.worker.as_ref(), self.strict)?.load(&device, self.dtype)
    }

    /// Loads it for sessions.
    pub(crate) fn open(&self) -> lb_model::Result<Worker> {
        let worker = self.load()?;
        tell(&worker.session_warnings());
        Ok(worker)
    }
}

/// The checkpoint of that name, or the built-in worker without one. A `strict` one is refused where it would be accepted with
/// a warning.
///
/// # Errors
/// Those of [`Checkpoint::open`].
pub fn checkpoint(name: Option<impl AsRef<Path>>, strict: bool) -> lb_model::Result<Checkpoint> {
    let checkpoint = name.map_or_else(|| Ok(Checkpoint::embedded()), Checkpoint::open)?;
    Ok(if strict { checkpoint.strict() } else { checkpoint })
}

/// The worker of that name for sessions, or the built-in one without a name; says on stderr what its user should know.
///
/// # Errors
/// Those of [`Checkpoint::open`] and [`Checkpoint::load`].
pub fn worker(name: Option<impl AsRef<Path>>) -> lb_model::Result<Worker> {
    let worker = name.map(|name| name.as_ref().to_owned());
    WorkerArgs { worker, strict: false, dtype: None, device: None }.open()
}
