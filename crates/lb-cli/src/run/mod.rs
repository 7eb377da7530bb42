//! `run`: an orchestrator answers a question about a long text: it writes code, and its code asks a briefed worker.

mod args;
mod policies;
mod questions;
mod show;
mod who;

use lb_explain::trace;
use lb_model::Worker;
use lb_orchestrate::{
    Assumptions, ChainReport, Error, Estimate, EstimateInputs, Event, MemoStats, Orchestrator, PriceTable,
    Rlm, RlmConfig, Run, RunRecord, RunTables, Stopped, WorkerSpeed,
};
use lb_sandbox::{CPythonConfig, CPythonRepl, MontyConfig, MontyRepl, Repl};
use serde_json::json;

pub(crate) use args::Args;
pub(crate) use who::known_lines;

use crate::{Exit, Result, complain, interrupt, say, write_file};
use args::Sandbox;

type Ended = std::result::Result<Run, Box<Stopped>>;

fn config(args: &Args, small: bool) -> Result<RlmConfig> {
    let usual = if small { RlmConfig::small() } else { RlmConfig::default() };
    let mut config = RlmConfig {
        protocol: args.protocol(),
        handoff: args.handoff()?,
        limits: args.limits(&usual.limits)?,
        log_dir: Some(args.log.clone()),
        prices: args.prices.as_ref().map(PriceTable::open).transpose()?,
        ..usual
    };
    config = config.with_policies(&args.policies.policies()?)?;
    config.prompt_used = args.policies.prompt()?.map(|made| made.used);
    if args.worker.is_embedded() {
        config.session.policy = known_lines();
    }
    config.session.room = args.room();
    interrupt::heed(&config.cancel)?;
    Ok(config)
}

fn open(sandbox: Sandbox) -> impl Fn() -> lb_sandbox::Result<Box<dyn Repl>> + Send + Sync {
    move || match sandbox {
        Sandbox::Monty => Ok(Box::new(MontyRepl::start(&MontyConfig::default())?) as Box<dyn Repl>),
        Sandbox::Cpython => Ok(Box::new(CPythonRepl::start(&CPythonConfig::default())?)),
    }
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    args.json.begin();
    let worker = args.worker.open()?;
    let local = args.orchestrator.local(&args.worker, &worker)?;
    let config = config(args, who::is_small(args, local.as_ref()))?;
    if let Some(data) = &args.data {
        let mut orchestrator = who::orchestrator(args, local.as_ref(), 0)?;
        return questions::run(args, data, &worker, orchestrator.as_mut(), config);
    }
    let question = who::question(args)?;
    if args.estimate {
        let orchestrator = who::orchestrator(args, local.as_ref(), 0)?;
        return estimate(args, orchestrator.as_ref(), &worker, &config);
    }
    let mut progress = show::Progress::new();
    let memo = config.memo.clone();
    let choices;
    let mut hear = |event: &Event<'_>| progress.hear(event);
    let ended = if let Some(log) = &args.resume {
        let resumed = Rlm::resume(log, &worker, open(args.sandbox), config)?;
        let (mut rlm, done) = (resumed.rlm, RunRecord::open(log)?.turns().count());
        let mut orchestrator = who::orchestrator(args, local.as_ref(), done)?;
        match (rlm.question(), &args.question, resumed.answer) {
            (Some(_), ..) => {
                let ended = rlm.go_on(orchestrator.as_mut(), &mut hear);
                choices = orchestrator.choices().cloned();
                ended
            }
            (None, None, Some(answer)) => {
                say!("The run has its answer already: {answer}");
                args.json.end(&json!({ "answer": answer, "log": log }))?;
                return Ok(Exit::Done);
            }
            _ => {
                let ended = rlm.run_with(orchestrator.as_mut(), &question, &mut hear);
                choices = orchestrator.choices().cloned();
                ended
            }
        }
    } else {
        let mut orchestrator = who::orchestrator(args, local.as_ref(), 0)?;
        let mut rlm = Rlm::new(&worker, open(args.sandbox), config)?;
        rlm.add_context(&who::document(args)?)?;
        let ended = rlm.run_with(orchestrator.as_mut(), &question, &mut hear);
        choices = orchestrator.choices().cloned();
        ended
    };
    drop(progress);
    told(args, &question, &ended, &Policed { memo: memo.map(|memo| memo.stats()), choices })
}

/// What policies came to that no log has.
struct Policed {
    memo: Option<MemoStats>,
    choices: Option<ChainReport>,
}

/// The answer first, then how it came about.
fn told(args: &Args, question: &str, ended: &Ended, policed: &Policed) -> Result<Exit> {
    let (ledger, log) = match ended {
        Ok(run) => (&run.ledger, &run.log),
        Err(stopped) => (&stopped.ledger, &stopped.log),
    };
    let exit = match ended {
        Ok(run) => {
            say!("{question}\n{}\n", run.answer);
            Exit::Done
        }
        Err(stopped) => {
            complain!("run: {stopped}");
            complain!("So far: {}", stopped.partial.as_deref().unwrap_or("nothing"));
            if matches!(stopped.error, Error::Cancelled) { Exit::Interrupted } else { Exit::Failed }
        }
    };
    let mut tables = None;
    if let Some(log) = log {
        let record = RunRecord::open(log)?;
        crate::say::show(trace(&record, 100).trim_end());
        say!("\nLog: {0}\nAs a page: latent-briefing explain {0}", log.display());
        let prices = args.prices.as_ref().map(PriceTable::open).transpose()?;
        tables = (!args.policies.no_tables).then(|| RunTables::of(&record, prices.as_ref()));
    }
    show::costs(ledger);
    show::policies(tables.as_ref(), policed.memo.as_ref(), policed.choices.as_ref());
    let (answer, stopped) = match ended {
        Ok(run) => (Some(&run.answer), None),
        Err(stopped) => (stopped.partial.as_ref(), Some(stopped.error.to_string())),
    };
    args.json.end(&json!({
        "question": question, "answer": answer, "stopped": stopped, "log": log, "ledger": ledger,
        "tables": tables, "memo": policed.memo, "models": policed.choices,
    }))?;
    // Last: what cannot be written costs no answer.
    if let Some(path) = &args.ledger {
        write_file(path, &serde_json::to_vec_pretty(ledger)?)?;
    }
    Ok(exit)
}

fn estimate(
    args: &Args,
    orchestrator: &dyn Orchestrator,
    worker: &Worker,
    config: &RlmConfig,
) -> Result<Exit> {
    let inputs = EstimateInputs {
        assumptions: Assumptions::default(),
        likely_turns: 8,
        iterations: config.limits.iterations,
        handoff: config.handoff.clone(),
        model: config.prices.as_ref().and_then(|table| table.model(orchestrator.model())),
        worker: config.prices.as_ref().and_then(|table| table.worker(worker.name())),
        speed: Some(WorkerSpeed::measure(worker)?),
    };
    let estimate = Estimate::of(&inputs)?;
    show::estimate(&estimate);
    args.json.end(&estimate)?;
    Ok(Exit::Done)
}
