//! `fetch`: a checkpoint, or one file, from the Hugging Face hub into the cache that the Python library uses.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use lb_io::shown::visible_line;
use lb_model::hub::{Hub, Network, Progress};
use serde_json::json;

use crate::output::Json;
use crate::{Exit, Result, complain, say};

/// Fetch a checkpoint, or one file, from the Hugging Face hub into the cache that Python uses, and print where it lies
///
/// What the cache holds is not fetched again. org/name:Q4_K_M or org/name/FILE.gguf is one GGUF file in all its parts; without a
/// choice the files are listed.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The repository: org/name, org/name:Q4_K_M or org/name/FILE.gguf, each with @revision if wanted.
    repository: String,
    /// One file of the repository and nothing else.
    #[arg(long)]
    file: Option<String>,
    /// The folder that holds models--org--name instead of the user's cache.
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Look into the cache alone.
    #[arg(long, conflicts_with = "refresh")]
    offline: bool,
    /// Ask which commit the revision stands for now.
    #[arg(long)]
    refresh: bool,
    #[command(flatten)]
    json: Json,
}

pub(crate) fn run(args: Args) -> Result<Exit> {
    args.json.begin();
    // Bars draw on a terminal only.
    let (bars, files) = (MultiProgress::new(), Mutex::new(HashMap::new()));
    let style =
        ProgressStyle::with_template("{msg:40} {bar:30} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left")?;
    let lines = bars.clone();
    let mut hub = Hub::new(&args.repository)?.progress(move |progress| {
        let Ok(mut files) = files.lock() else { return };
        let new = || bars.add(ProgressBar::no_length().with_style(style.clone()));
        show(files.entry(progress.file.to_string()).or_insert_with(new), progress);
    });
    // Above the bars, which would be torn by a line of the library's own.
    hub = hub.on_retry(move |retry| {
        if lines.is_hidden() {
            complain!("fetch: {retry}");
        } else {
            let _ = lines.println(retry.to_string());
        }
    });
    if let Some(cache) = args.cache {
        hub = hub.cache_dir(cache);
    }
    if args.offline {
        hub = hub.network(Network::Offline);
    } else if args.refresh {
        hub = hub.network(Network::Refresh);
    }
    let path = match args.file {
        Some(file) => hub.file(&file)?,
        None => hub.fetch()?,
    };
    say!("{}", path.display());
    args.json.end(&json!({ "path": path }))?;
    Ok(Exit::Done)
}

fn show(bar: &ProgressBar, progress: Progress<'_>) {
    if bar.length() != progress.size {
        bar.set_message(visible_line(progress.file));
        bar.set_length(progress.size.unwrap_or(0));
        // Bytes of an earlier attempt are not part of the speed.
        bar.set_position(progress.done);
        bar.reset_eta();
    }
    bar.set_position(progress.done);
    if Some(progress.done) == progress.size {
        bar.finish();
    }
}
