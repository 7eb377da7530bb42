//! `bench items`: LongBench v2, and other sets of questions about long texts, under several handoffs.

mod args;
mod source;

use std::sync::Arc;

use lb_eval::answers::table;
use lb_eval::report::{Options, report};
use lb_eval::runs::items::{self, Bench, NewOrchestrator, RecordedTurns};
use lb_orchestrate::{LocalConfig, LocalOrchestrator, Reader, RlmConfig};
use lb_sandbox::{MontyConfig, MontyRepl};
use serde_json::json;

pub(crate) use args::Args;

use crate::exit::Usage;
use crate::orchestrator::Kind;
use crate::progress::at;
use crate::run::known_lines;
use crate::{Exit, Result, bar, complain, interrupt, say};

pub(super) fn run(args: &Args) -> Result<Exit> {
    args.json.begin();
    let plan = args.plan()?;
    plan.validate()?;
    let setup = setup(args)?;
    let loaded = args.items.load(&setup.worker, args.seed)?;
    let conditions: Vec<String> = plan.expanded()?.into_iter().map(|condition| condition.name).collect();
    let progress = bar((loaded.items.len() * conditions.len() * plan.repeats) as u64, "rows");
    let finished = items::run(&setup, &plan, &loaded, &args.out, args.existing(), &|row| {
        progress.inc(1);
        at(&progress, &format!("{}: {}", row.item, row.condition));
    })?;
    progress.finish_and_clear();
    if args.worker.is_embedded() {
        say!("Built-in worker: asked without choices, right where its words are those of the right choice.");
    }
    say!("{}", table(&finished.rows, &conditions));
    say!("{} rows, {} of them from before: {}", finished.rows.len(), finished.resumed, args.out.display());
    if finished.cancelled {
        complain!("items: called off; --resume goes on");
        args.json.end(&json!({ "dir": args.out, "rows": finished.rows.len(), "cancelled": true }))?;
        return Ok(Exit::Interrupted);
    }
    let files = report(&args.out, &Options { pages: true, ..Options::default() })?;
    for fault in &files.faults {
        complain!("items: no page: {fault}");
    }
    say!("{}", files.html.display());
    args.json.end(&json!({
        "dir": args.out,
        "rows": finished.rows.len(),
        "resumed": finished.resumed,
        "cancelled": false,
        "report": files.html,
        "summary": files.summary,
    }))?;
    Ok(Exit::Done)
}

fn setup(args: &Args) -> Result<Bench> {
    let worker = args.worker.open()?;
    let mut config = RlmConfig::default();
    if args.worker.is_embedded() {
        config.session.policy = known_lines();
    }
    interrupt::heed(&config.cancel)?;
    let who = &args.orchestrator;
    let model = who.orchestrator_model.as_deref().unwrap_or_default();
    Ok(Bench {
        open: Arc::new(|| Ok(Box::new(MontyRepl::start(&MontyConfig::default())?))),
        orchestrator: orchestrator(args, &worker)?,
        orchestrator_name: match &args.turns {
            Some(dir) => format!("turns of {}", dir.display()),
            None => [who.orchestrator.name(), model].join(" ").trim().to_owned(),
        },
        turns: args.turns.as_ref().map(RecordedTurns::open).transpose()?.map(Arc::new),
        config,
        worker,
    })
}

fn orchestrator(args: &Args, worker: &lb_model::Worker) -> Result<NewOrchestrator> {
    let who = &args.orchestrator;
    if let Some(make) = who.service()? {
        return Ok(Arc::new(move |_, _| Ok(make()?)));
    }
    if let Some(model) = who.local(&args.worker, worker)? {
        return Ok(Arc::new(move |_, _| {
            Ok(Box::new(LocalOrchestrator::new(model.clone(), LocalConfig::default())?))
        }));
    }
    match who.orchestrator {
        Kind::Replay(_) => {
            Err(Usage("--orchestrator replay:LOG: a set of questions takes --turns DIR".to_owned()).into())
        }
        Kind::Chain => Err(Usage("--orchestrator chain is for `run`".to_owned()).into()),
        _ => Ok(Arc::new(|_, _| Ok(Box::new(Reader::new())))),
    }
}
