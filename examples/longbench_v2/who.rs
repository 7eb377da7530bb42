//! Who orchestrates, and who works.

use std::sync::Arc;

use latent_briefing::eval::runs::items::{Bench, NewOrchestrator, RecordedTurns};
use latent_briefing::orchestrate::api::{Anthropic, AnthropicConfig, OpenAi, OpenAiConfig};
use latent_briefing::orchestrate::{LocalConfig, LocalOrchestrator, Reader, RlmConfig};
use latent_briefing::programs;
use latent_briefing::sandbox::{MontyConfig, MontyRepl};
use latent_briefing::session::{BoundaryPolicy, Source};

use crate::args::Args;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

pub(crate) fn bench(args: &Args) -> Result<Bench> {
    let worker = programs::worker_as(args.worker.as_ref(), false, args.dtype)?;
    let mut config = RlmConfig::default();
    if args.worker.is_none() {
        // The built-in worker knows three kinds of lines, and code is none of them.
        let known = [Source::Finding, Source::Reasoning, Source::Tool];
        config.session.policy = BoundaryPolicy::nothing().admitting(known);
    }
    let cancel = config.cancel.clone();
    // The first Ctrl-C ends the rows under way, the second all at once.
    ctrlc::set_handler(move || {
        if cancel.is_cancelled() {
            std::process::exit(130);
        }
        cancel.cancel();
    })?;
    let model = args.model.as_deref().unwrap_or_default();
    Ok(Bench {
        worker,
        open: Arc::new(|| Ok(Box::new(MontyRepl::start(&MontyConfig::default())?))),
        orchestrator: orchestrator(args)?,
        orchestrator_name: match &args.turns {
            Some(dir) => format!("turns of {}", dir.display()),
            None => [args.orchestrator.as_str(), model].join(" ").trim().to_owned(),
        },
        turns: args.turns.as_ref().map(RecordedTurns::open).transpose()?.map(Arc::new),
        config,
    })
}

fn orchestrator(args: &Args) -> Result<NewOrchestrator> {
    let model = || args.model.clone().ok_or(format!("--orchestrator {} needs a --model", args.orchestrator));
    Ok(match args.orchestrator.as_str() {
        "program" => Arc::new(|_, _| Ok(Box::new(Reader::new()))),
        "openai" => {
            let config = OpenAiConfig::from_env(model()?)?;
            // What cannot be is said before a folder is made.
            OpenAi::new(config.clone())?;
            Arc::new(move |_, _| Ok(Box::new(OpenAi::new(config.clone())?)))
        }
        "anthropic" => {
            let config = AnthropicConfig::from_env(model()?)?;
            Anthropic::new(config.clone())?;
            Arc::new(move |_, _| Ok(Box::new(Anthropic::new(config.clone())?)))
        }
        "local" => {
            let worker = programs::worker(Some(model()?), false)?;
            Arc::new(move |_, _| {
                Ok(Box::new(LocalOrchestrator::new(worker.clone(), LocalConfig::default())?))
            })
        }
        other => {
            return Err(format!("--orchestrator {other}: want program, openai, anthropic or local").into());
        }
    })
}
