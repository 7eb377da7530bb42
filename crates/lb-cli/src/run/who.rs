//! Who orchestrates, and what is asked.

use lb_model::Worker;
use lb_orchestrate::{
    LocalConfig, LocalOrchestrator, ModelChain, Orchestrator, PriceTable, PromptProfile, Protocol, Reader,
    Replay, RunRecord, Script,
};
use lb_session::{BoundaryPolicy, Source, read_text};

use super::args::{Args, Profile};
use crate::Result;
use crate::exit::Usage;
use crate::orchestrator::Kind;

const TURNS: &str = include_str!("turns.md");
const DOCUMENT: &str = include_str!("office_log.txt");
const QUESTION: &str = "Where is the office of the keeper of the Gorbek ledger?";

/// What enters the cache of the built-in worker: it knows three kinds of lines, and code is none of them.
pub(crate) fn known_lines() -> BoundaryPolicy {
    BoundaryPolicy::nothing().admitting([Source::Finding, Source::Reasoning, Source::Tool])
}

pub(super) fn document(args: &Args) -> Result<String> {
    match &args.document {
        Some(path) => Ok(read_text(path)?),
        None => Ok(DOCUMENT.to_owned()),
    }
}

pub(super) fn question(args: &Args) -> Result<String> {
    if let Some(made) = args.policies.prompt()? {
        return Ok(made.text);
    }
    match (&args.question, &args.document) {
        (Some(question), _) => Ok(question.clone()),
        (None, None) => Ok(QUESTION.to_owned()),
        (None, Some(_)) => Err(Usage("--document needs a --question".to_owned()).into()),
    }
}

/// Whether the texts are written for a small model.
pub(super) fn is_small(args: &Args, local: Option<&Worker>) -> bool {
    match args.profile {
        Profile::Small => true,
        Profile::Standard => false,
        Profile::Auto => {
            local.is_some_and(|model| PromptProfile::for_checkpoint(model) == PromptProfile::Small)
        }
    }
}

/// `done` turns of the run are over already.
pub(super) fn orchestrator(
    args: &Args,
    local: Option<&Worker>,
    done: usize,
) -> Result<Box<dyn Orchestrator + Send>> {
    if let Some(make) = args.orchestrator.service()? {
        return Ok(make()?);
    }
    if args.orchestrator.orchestrator == Kind::Chain {
        let models = args.policies.policies()?.models;
        let missing = || Usage("--orchestrator chain needs [models] in the file of --policies".to_owned());
        let prices = args.prices.as_ref().map(PriceTable::open).transpose()?;
        return Ok(Box::new(ModelChain::connect(models.ok_or_else(missing)?, prices)?));
    }
    if let Some(model) = local {
        let config = LocalConfig { one_block: is_small(args, local), ..LocalConfig::default() };
        return Ok(Box::new(LocalOrchestrator::new(model.clone(), config)?));
    }
    if let Kind::Replay(log) = &args.orchestrator.orchestrator {
        return Ok(Box::new(Replay::new(&RunRecord::open(log)?)));
    }
    if args.protocol() == Protocol::Final {
        return Err(Usage("--orchestrator program speaks --protocol answer".to_owned()).into());
    }
    if args.document.is_none() && args.question.is_none() && args.policies.prompt()?.is_none() {
        return Ok(Box::new(Script::new(TURNS.split("\n=====\n").skip(done))));
    }
    Ok(Box::new(Reader::new()))
}
