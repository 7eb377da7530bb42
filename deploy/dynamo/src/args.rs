//! The command line: Dynamo's own flags, and what `latent-briefing serve` has.

use std::path::PathBuf;
use std::time::Duration;

use dynamo_backend_common::CommonArgs;
use lb_serve::{ServeConfig, Tenant};

/// A latent-briefing worker behind NVIDIA Dynamo's front end.
#[derive(clap::Parser, Clone, Debug)]
#[command(name = "latent-briefing-dynamo", version)]
pub struct Args {
    /// Dynamo's.
    #[command(flatten)]
    pub common: CommonArgs,
    /// The model: a folder in the Hugging Face layout, a GGUF file or a name on the hub; without it the built-in worker.
    #[arg(long, value_name = "MODEL")]
    pub worker: Option<PathBuf>,
    /// The name that requests have in `model`.
    #[arg(long, value_name = "NAME", default_value = "latent-briefing")]
    pub served_model_name: String,
    /// Where trajectories and briefings are: a folder, or s3://BUCKET/FOLDER with the feature s3. The same for all workers, and for the
    /// `latent-briefing serve` by which trajectories are made.
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
    /// Where those that share a store note uses: redis://HOST:PORT/NUMBER.
    #[arg(long, value_name = "URL", requires = "store")]
    pub index: Option<String>,
    /// Whose trajectories these are: `local` where `serve` has no keys, else the tenant of its keys.
    #[arg(long, value_name = "TENANT", default_value = "local", value_parser = tenant)]
    pub tenant: Tenant,
    /// Where the tokenizer and the template for the front end are written; a folder of that model name among the temporary ones without it.
    /// It has to be the same path for all workers of a model: Dynamo takes others for another model's. A front end on another machine gets
    /// the files by HTTP (DYN_SYSTEM_PORT), or needs this folder at that path.
    #[arg(long, value_name = "FOLDER")]
    pub card: Option<PathBuf>,
    /// Answers under way at a time.
    #[arg(long, value_name = "N", default_value_t = ServeConfig::default().parallel)]
    pub parallel: usize,
    /// Requests that wait; with more the worker says that it is overloaded.
    #[arg(long, value_name = "N", default_value_t = ServeConfig::default().queue)]
    pub queue: usize,
    /// Tokens of an answer where a request says nothing.
    #[arg(long, value_name = "N", default_value_t = ServeConfig::default().max_tokens)]
    pub max_tokens: usize,
    /// Seconds that a request may take, waiting counted in.
    #[arg(long, value_name = "S", default_value_t = ServeConfig::default().request_time.as_secs(), value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,
    /// Seconds that answers under way have on SIGTERM, behind Dynamo's grace period. Twice as many and 5 must fit
    /// DYN_WORKER_GRACEFUL_SHUTDOWN_TIMEOUT, or Dynamo ends the process before.
    #[arg(long, value_name = "S", default_value_t = 12)]
    pub drain: u64,
    /// MiB of trajectories' caches in memory; what was not used for longest goes to a file beyond it.
    #[arg(long, value_name = "MIB", default_value_t = ServeConfig::default().memory >> 20)]
    pub memory: usize,
}

fn tenant(name: &str) -> Result<Tenant, String> {
    Tenant::named(name).ok_or_else(|| "want 1 to 64 letters, digits, - and _".to_owned())
}

impl Args {
    /// What of it the service behind the backend takes.
    pub(crate) fn serve_config(&self) -> ServeConfig {
        let mut config = ServeConfig::default();
        config.store.clone_from(&self.store);
        config.index.clone_from(&self.index);
        config.parallel = self.parallel;
        config.queue = self.queue;
        config.max_tokens = self.max_tokens;
        config.request_time = Duration::from_secs(self.timeout);
        config.drain_time = Duration::from_secs(self.drain);
        config.memory = self.memory << 20;
        config
    }
}
