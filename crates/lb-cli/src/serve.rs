//! `serve`: a worker behind HTTP.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use lb_serve::{Keys, ServeConfig, Server};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

use crate::exit::Usage;
use crate::worker::WorkerArgs;
use crate::{Exit, Result, complain, say};

/// Serve a worker over HTTP, as OpenAI's and Anthropic's clients ask it, with trajectories as resources
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where to listen; without --keys only on this machine.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    #[command(flatten)]
    worker: WorkerArgs,
    /// File of keys: lines of a tenant and the SHA-256 of its key.
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// Draw a key for this tenant, add its digest to the file of --keys, print the key, and end.
    #[arg(long, value_name = "TENANT", requires = "keys")]
    new_key: Option<String>,
    /// Where trajectories and briefings are written down: a folder, s3://BUCKET/FOLDER, gs://.. or az://..; without it nothing outlives the
    /// server.
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Where servers that share a store note uses: redis://HOST:PORT/NUMBER.
    #[arg(long, value_name = "URL", requires = "store")]
    index: Option<String>,
    /// Another name of the model, for clients that know it by one; may be given several times.
    #[arg(long = "alias", value_name = "NAME")]
    aliases: Vec<String>,
    /// Answers under way at a time.
    #[arg(long, value_name = "N", default_value_t = ServeConfig::default().parallel)]
    parallel: usize,
    /// Requests that wait; more are refused with 429.
    #[arg(long, value_name = "N", default_value_t = ServeConfig::default().queue)]
    queue: usize,
    /// Tokens of an answer where a request says nothing.
    #[arg(long, value_name = "N", default_value_t = ServeConfig::default().max_tokens)]
    max_tokens: usize,
    /// Seconds that a request may take, waiting counted in.
    #[arg(long, value_name = "S", default_value_t = ServeConfig::default().request_time.as_secs())]
    timeout: u64,
    /// Say of every request what came of it, on stderr.
    #[arg(long)]
    verbose: bool,
    /// Send spans to an OpenTelemetry collector by HTTP, for instance http://127.0.0.1:4318.
    #[cfg(feature = "otlp")]
    #[arg(long, value_name = "URL")]
    otlp: Option<String>,
    /// MiB of trajectories' caches in memory; what was not used for longest goes to a file beyond it.
    #[arg(long, value_name = "MIB", default_value_t = ServeConfig::default().memory >> 20)]
    memory: usize,
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    if let (Some(tenant), Some(path)) = (&args.new_key, &args.keys) {
        let key = Keys::add(path, tenant)?;
        say!("{key}");
        complain!("the key of {tenant:?}; it is written down nowhere else");
        return Ok(Exit::Done);
    }
    let mut config = ServeConfig::default();
    if args.timeout == 0 {
        return Err(Usage("--timeout 0: want at least 1".to_owned()).into());
    }
    config.listen = args.listen;
    config.keys.clone_from(&args.keys);
    config.store.clone_from(&args.store);
    config.index.clone_from(&args.index);
    config.aliases.clone_from(&args.aliases);
    config.parallel = args.parallel;
    config.queue = args.queue;
    config.max_tokens = args.max_tokens;
    config.request_time = Duration::from_secs(args.timeout);
    config.memory = args.memory << 20;
    #[cfg(feature = "otlp")]
    let _spans = logged(args)?;
    #[cfg(not(feature = "otlp"))]
    logged(args)?;
    let worker = args.worker.open()?;
    let server = Server::start(&worker, config)?;
    complain!("{} on http://{}", worker.name(), server.address());
    if args.keys.is_none() {
        complain!("no keys: whoever reaches this address on this machine is answered");
    }
    if args.store.is_none() {
        complain!("no store: trajectories end with this process (--store FOLDER keeps them)");
    }
    server.wait()?;
    Ok(Exit::Done)
}

/// What a server has to say while it runs goes to stderr, a line each.
fn heard(args: &Args) -> Targets {
    let level = if args.verbose { tracing::Level::DEBUG } else { tracing::Level::WARN };
    Targets::new().with_target("lb_serve", level).with_default(tracing::Level::WARN)
}

#[cfg(not(feature = "otlp"))]
fn logged(args: &Args) -> Result<()> {
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    Ok(tracing_subscriber::registry().with(lines.with_filter(heard(args))).try_init()?)
}

#[cfg(feature = "otlp")]
fn logged(args: &Args) -> Result<Option<crate::otlp::Spans>> {
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    let spans = args.otlp.as_deref().map(crate::otlp::Spans::to).transpose()?;
    let own = Targets::new().with_target("lb_serve", tracing::Level::INFO);
    let sent = spans
        .as_ref()
        .map(|spans| tracing_opentelemetry::layer().with_tracer(spans.tracer()).with_filter(own));
    tracing_subscriber::registry().with(lines.with_filter(heard(args))).with(sent).try_init()?;
    Ok(spans)
}
