//! Who orchestrates, and who works.

use latent_briefing::model::Worker;
use latent_briefing::orchestrate::api::{Anthropic, AnthropicConfig, OpenAi, OpenAiConfig};
use latent_briefing::orchestrate::{
    BoundaryPolicy, LocalConfig, LocalOrchestrator, Orchestrator, Protocol, Reader, Replay, RunRecord,
    Script, Source,
};
use latent_briefing::programs;

use crate::args::Args;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const TURNS: &str = include_str!("turns.md");
const DOCUMENT: &str = include_str!("office_log.txt");
const QUESTION: &str = "Where is the office of the keeper of the Gorbek ledger?";

pub(crate) fn worker(args: &Args) -> Result<Worker> {
    Ok(programs::worker(args.worker.as_ref(), args.strict)?)
}

/// What enters the worker's cache. The built-in worker knows three kinds of lines, and code is none of them.
pub(crate) fn policy(args: &Args, usual: BoundaryPolicy) -> BoundaryPolicy {
    let known = [Source::Finding, Source::Reasoning, Source::Tool];
    if args.worker.is_some() { usual } else { BoundaryPolicy::nothing().admitting(known) }
}

pub(crate) fn document(args: &Args) -> Result<String> {
    match &args.document {
        Some(path) => Ok(std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?),
        None => Ok(DOCUMENT.to_owned()),
    }
}

pub(crate) fn question(args: &Args) -> Result<String> {
    match (&args.question, &args.document) {
        (Some(question), _) => Ok(question.clone()),
        (None, None) => Ok(QUESTION.to_owned()),
        (None, Some(_)) => Err("--document needs a --question".into()),
    }
}

/// `done` turns of the run are over already.
pub(crate) fn orchestrator(args: &Args, done: usize) -> Result<Box<dyn Orchestrator>> {
    let model = || args.model.clone().ok_or(format!("--orchestrator {} needs a --model", args.orchestrator));
    Ok(match args.orchestrator.as_str() {
        "program" if args.protocol() == Protocol::Final => {
            return Err("--orchestrator program speaks --protocol answer".into());
        }
        "program" if args.document.is_none() && args.question.is_none() => {
            Box::new(Script::new(TURNS.split("\n=====\n").skip(done)))
        }
        "program" => Box::new(Reader::new()),
        "openai" => Box::new(OpenAi::new(OpenAiConfig::from_env(model()?)?)?),
        "anthropic" => Box::new(Anthropic::new(AnthropicConfig::from_env(model()?)?)?),
        "local" => Box::new(LocalOrchestrator::new(
            programs::worker(Some(model()?), args.strict)?,
            LocalConfig::default(),
        )?),
        other => match other.strip_prefix("replay:") {
            Some(log) => Box::new(Replay::new(&RunRecord::open(log)?)),
            None => {
                return Err(format!(
                    "--orchestrator {other}: want program, openai, anthropic, local or replay:LOG"
                )
                .into());
            }
        },
    })
}
