//! `ask`: a task about a trajectory, answered by a worker through a handoff.

use std::path::PathBuf;

use lb_explain::{excerpt, renewed_heat_map};
use lb_model::{StopReason, Worker};
use lb_session::{Handoff, OpenSession, Outcome, Squeezed, WorkerSession};
use serde::Serialize;

use crate::named::Named;
use crate::output::Json;
use crate::trajectory::Files;
use crate::worker::WorkerArgs;
use crate::{Exit, Result, complain, say, write_file};

/// Answer a task about recorded logs or notes, over a briefing or through another handoff
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What is asked.
    task: String,
    #[command(flatten)]
    files: Files,
    /// How the trajectory reaches the worker: latent-briefing:keep=0.1, latent-briefing:tau=4, full-kv, text-replay, bm25:0.1,
    /// summary:200, longllmlingua:0.25, recent:0.1, none, ...
    #[arg(long, default_value = "latent-briefing")]
    handoff: Named,
    /// Answer over the whole cache as well.
    #[arg(long)]
    beside: bool,
    #[command(flatten)]
    worker: WorkerArgs,
    /// Write the heat map of the briefing as a self-contained page.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    #[command(flatten)]
    json: Json,
}

/// What came out, as JSON.
#[derive(Serialize)]
struct Answered<'a> {
    task: &'a str,
    worker: &'a str,
    seq_len: usize,
    #[serde(flatten)]
    by: Of,
    #[serde(skip_serializing_if = "Option::is_none")]
    beside: Option<Of>,
    #[serde(skip_serializing_if = "Option::is_none")]
    page: Option<&'a PathBuf>,
}

/// An answer and what it cost.
#[derive(Serialize)]
struct Of {
    handoff: String,
    answer: String,
    stopped: &'static str,
    kept_len: usize,
    keep_ratio: f64,
    worker_tokens: usize,
    brief_ms: f64,
    answer_ms: f64,
    /// Which message was handed over, where it was one of several.
    #[serde(skip_serializing_if = "Option::is_none")]
    squeezed: Option<Squeezed>,
}

impl Of {
    fn told(handoff: &str, outcome: &Outcome) -> Self {
        Self {
            handoff: handoff.to_owned(),
            answer: outcome.answer.text.clone(),
            stopped: stopped(outcome.answer.stopped),
            kept_len: outcome.kept_len,
            keep_ratio: outcome.keep_ratio,
            worker_tokens: outcome.answer.tokens.worker_tokens(),
            brief_ms: outcome.brief.as_secs_f64() * 1e3,
            answer_ms: outcome.answer.elapsed.as_secs_f64() * 1e3,
            squeezed: outcome.squeezed,
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    args.json.begin();
    let worker = args.worker.open()?;
    let mut session = worker.session()?;
    args.files.enter(&mut session)?;
    let outcome = answered(&mut session, &args.handoff.handoff, &args.task)?;
    say!("{}", outcome.answer);
    // What it rests on is for who watches: a pipe gets the answer alone.
    complain!("{}", costs(&args.handoff.text, &session, &outcome));
    if outcome.answer.stopped != StopReason::Eos {
        complain!("the answer is cut: {}", stopped(outcome.answer.stopped));
    }
    if let Some(found) = outcome.squeezed.filter(|found| !found.within) {
        let (count, kl) = (found.messages, found.kl);
        complain!("none of {count} messages is within the bound; the nearest is {kl:.2} nats a token away");
    }
    let beside = if args.beside {
        let full = answered(&mut session, &Handoff::FullKv, &args.task)?;
        say!("\nOver the whole cache: {}", full.answer);
        Some(Of::told(Handoff::FullKv.name(), &full))
    } else {
        None
    };
    show(args, &worker, &outcome)?;
    args.json.end(&Answered {
        task: &args.task,
        worker: worker.name(),
        seq_len: session.seq_len(),
        by: Of::told(&args.handoff.text, &outcome),
        beside,
        page: args.html.as_ref(),
    })?;
    Ok(Exit::Done)
}

/// The one place where commands ask a session.
pub(crate) fn answered(
    session: &mut WorkerSession,
    handoff: &Handoff,
    task: &str,
) -> lb_session::Result<Outcome> {
    session.ask(task).via(handoff.clone()).run()
}

/// What was kept, where it was a briefing.
fn show(args: &Args, worker: &Worker, outcome: &Outcome) -> Result<()> {
    let Some(briefing) = &outcome.briefing else {
        let no_page = "--html shows a briefing, and this handoff makes none";
        return if args.html.is_some() { Err(no_page.into()) } else { Ok(()) };
    };
    if std::io::IsTerminal::is_terminal(&std::io::stdout()) {
        crate::say::show(&format!("\n{}", excerpt(&briefing.explain(worker))));
    }
    if let Some(path) = &args.html {
        write_file(
            path,
            renewed_heat_map(briefing, &outcome.renewals, worker, &outcome.answer.text)?.as_bytes(),
        )?;
        complain!("heat map: {}", path.display());
    }
    Ok(())
}

fn costs(handoff: &str, session: &WorkerSession, outcome: &Outcome) -> String {
    format!(
        "{handoff}: {} of {} positions, {} worker tokens; made in {:.0} ms, answered in {:.0} ms",
        outcome.kept_len,
        session.seq_len(),
        outcome.answer.tokens.worker_tokens(),
        outcome.brief.as_secs_f64() * 1e3,
        outcome.answer.elapsed.as_secs_f64() * 1e3,
    )
}

/// Why a generation ended, in a word.
pub(crate) fn stopped(why: StopReason) -> &'static str {
    match why {
        StopReason::Eos => "end",
        StopReason::MaxTokens => "max-tokens",
        StopReason::ContextFull => "context-full",
        _ => "called-off",
    }
}
