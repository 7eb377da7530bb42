//! Who orchestrates, and who works.

use latent_briefing::model::Worker;
use latent_briefing::orchestrate::api::{Anthropic, AnthropicConfig, OpenAi, OpenAiConfig};
use latent_briefing::orchestrate::{
    LocalConfig, LocalOrchestrator, Orchestrator, PromptProfile, Protocol, Reader, Replay, RunRecord, Script,
};
use latent_briefing::programs;
use latent_briefing::session::{BoundaryPolicy, Source, read_text};

use crate::args::{Args, Profile};

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
        Some(path) => Ok(read_text(path)?),
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

/// The checkpoint of a local orchestrator; the worker's weights where it is the same.
pub(crate) fn local(args: &Args, worker: &Worker) -> Result<Option<Worker>> {
    if args.orchestrator != "local" {
        return Ok(None);
    }
    match &args.model {
        Some(name) if Some(name) != args.worker.as_ref() => {
            Ok(Some(programs::worker(Some(name), args.strict)?))
        }
        None if args.worker.is_none() => Err("--orchestrator local needs a --model".into()),
        _ => Ok(Some(worker.clone())),
    }
}

/// Whether the texts are written for a small model.
pub(crate) fn is_small(args: &Args, local: Option<&Worker>) -> bool {
    match args.profile {
        Profile::Small => true,
        Profile::Standard => false,
        Profile::Auto => {
            local.is_some_and(|model| PromptProfile::for_checkpoint(model) == PromptProfile::Small)
        }
    }
}

/// `done` turns of the run are over already.
pub(crate) fn orchestrator(
    args: &Args,
    local: Option<&Worker>,
    done: usize,
) -> Result<Box<dyn Orchestrator + Send>> {
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
        "local" => {
            let model = local.ok_or("--orchestrator local needs a --model")?.clone();
            let config = LocalConfig { one_block: is_small(args, local), ..LocalConfig::default() };
            Box::new(LocalOrchestrator::new(model, config)?)
        }
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
