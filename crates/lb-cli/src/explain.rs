//! `explain`: a run or a briefing as one self-contained page.

use std::path::{Path, PathBuf};

use lb_explain::{heat_map, paint};
use lb_session::{Handoff, OpenSession};
use serde::Serialize;

use crate::exit::Usage;
use crate::output::Json;
use crate::say::show;
use crate::trajectory::Files;
use crate::worker::WorkerArgs;
use crate::{Exit, Result, say, write_file};

/// Make one self-contained page of a run from its log, or with --task of the briefing of a trajectory
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Explain the briefing of the FILEs for this task.
    #[arg(long)]
    task: Option<String>,
    #[command(flatten)]
    files: Files,
    /// With --task: the briefing, as latent-briefing:keep=0.1.
    #[arg(long, requires = "task", default_value = "latent-briefing")]
    handoff: Handoff,
    #[command(flatten)]
    worker: WorkerArgs,
    /// Where the page goes; beside the log, or briefing.html, by default.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print it as plain text as well, a run in lines of this width.
    #[arg(long, value_name = "WIDTH", num_args = 0..=1, default_missing_value = "100")]
    text: Option<usize>,
    #[command(flatten)]
    json: Json,
}

/// A briefing as JSON.
#[derive(Serialize)]
struct Explained<'a> {
    page: &'a Path,
    task: &'a str,
    seq_len: usize,
    kept_len: usize,
    keep_ratio: f64,
    positions: Vec<lb_session::Position>,
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    args.json.begin();
    match (&args.task, args.files.files.as_slice()) {
        (Some(task), _) => of_briefing(args, task),
        (None, [log]) => of_run(args, log),
        (None, _) => {
            Err(Usage("want the LOG of a run, or --task with what is to be briefed".to_owned()).into())
        }
    }
}

fn of_briefing(args: &Args, task: &str) -> Result<Exit> {
    let Some(config) = args.handoff.brief_config() else {
        return Err(Usage("--handoff: want a latent-briefing; nothing else has a heat map".to_owned()).into());
    };
    let output = args.output.clone().unwrap_or_else(|| "briefing.html".into());
    for file in &args.files.files {
        refuse_same(&output, file)?;
    }
    let worker = args.worker.open()?;
    let mut session = worker.session()?;
    args.files.enter(&mut session)?;
    let briefing = session.brief(task, config)?;
    let positions = briefing.explain(&worker);
    if args.text.is_some() {
        show(&paint(&positions));
    }
    write_file(&output, heat_map(&briefing, &worker, "")?.as_bytes())?;
    say!("{}", output.display());
    args.json.end(&Explained {
        page: &output,
        task,
        seq_len: briefing.seq_len(),
        kept_len: briefing.kept_len(),
        keep_ratio: briefing.keep_ratio(),
        positions,
    })?;
    Ok(Exit::Done)
}

#[cfg(feature = "runs")]
fn of_run(args: &Args, log: &Path) -> Result<Exit> {
    let record = lb_orchestrate::RunRecord::open(log)?;
    let output = args.output.clone().unwrap_or_else(|| log.with_extension("html"));
    refuse_same(&output, log)?;
    if let Some(width) = args.text {
        show(lb_explain::trace(&record, width).trim_end());
    }
    write_file(&output, lb_explain::run_page(&record)?.as_bytes())?;
    say!("{}", output.display());
    let (turns, answer) = (record.turns().count(), record.answer());
    args.json.end(&serde_json::json!({ "page": output, "turns": turns, "answer": answer }))?;
    Ok(Exit::Done)
}

#[cfg(not(feature = "runs"))]
fn of_run(_: &Args, _: &Path) -> Result<Exit> {
    Err(crate::exit::NotBuilt { command: "explain LOG", feature: "full" }.into())
}

/// The page must not take the place of what it is made of.
fn refuse_same(output: &Path, input: &Path) -> Result<()> {
    let same = output == input
        || matches!((output.canonicalize(), input.canonicalize()), (Ok(output), Ok(input)) if output == input);
    if same {
        let path = output.display();
        return Err(Usage(format!(
            "{path}: the page would replace what it is made of; name another with -o"
        ))
        .into());
    }
    Ok(())
}
