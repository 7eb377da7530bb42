//! An orchestrator answers a question about a long text: it writes code, and its code asks a briefed worker.
//!
//! `cargo run --release --example rlm`

mod args;
mod questions;
mod show;
mod who;

use std::process::ExitCode;

use args::{Args, Sandbox};
use clap::Parser;
use latent_briefing::explain;
use latent_briefing::model::Worker;
use latent_briefing::orchestrate::{
    Assumptions, Estimate, EstimateInputs, Event, Orchestrator, PriceTable, Rlm, RlmConfig, RunRecord,
    WorkerSpeed,
};
use latent_briefing::sandbox::{CPythonConfig, CPythonRepl, MontyConfig, MontyRepl, Repl, sandbox_main};
use latent_briefing::{complain, say};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    // The sandbox is this program, run once more.
    sandbox_main();
    match run(&Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            complain!("rlm: {error}");
            ExitCode::FAILURE
        }
    }
}

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
    config.session.policy = who::policy(args, config.session.policy);
    config.session.room = args.room();
    let cancel = config.cancel.clone();
    // The first Ctrl-C ends the run in good order, the second at once.
    ctrlc::set_handler(move || {
        if cancel.is_cancelled() {
            std::process::exit(130);
        }
        cancel.cancel();
    })?;
    Ok(config)
}

fn open(sandbox: Sandbox) -> impl Fn() -> latent_briefing::sandbox::Result<Box<dyn Repl>> + Send + Sync {
    move || match sandbox {
        Sandbox::Monty => Ok(Box::new(MontyRepl::start(&MontyConfig::default())?) as Box<dyn Repl>),
        Sandbox::Cpython => Ok(Box::new(CPythonRepl::start(&CPythonConfig::default())?)),
    }
}

fn run(args: &Args) -> Result<ExitCode> {
    let worker = who::worker(args)?;
    let local = who::local(args, &worker)?;
    let config = config(args, who::is_small(args, local.as_ref()))?;
    if let Some(data) = &args.data {
        let mut orchestrator = who::orchestrator(args, local.as_ref(), 0)?;
        questions::run(args, data, &worker, orchestrator.as_mut(), config)?;
        return Ok(ExitCode::SUCCESS);
    }
    let question = who::question(args)?;
    if args.estimate {
        let orchestrator = who::orchestrator(args, local.as_ref(), 0)?;
        return estimate(orchestrator.as_ref(), &worker, &config);
    }
    let mut progress = show::Progress::new();
    let mut hear = |event: &Event<'_>| progress.hear(event);
    let ended = if let Some(log) = &args.resume {
        let resumed = Rlm::resume(log, &worker, open(args.sandbox), config)?;
        let (mut rlm, done) = (resumed.rlm, RunRecord::open(log)?.turns().count());
        let mut orchestrator = who::orchestrator(args, local.as_ref(), done)?;
        match (rlm.question(), &args.question, resumed.answer) {
            (Some(_), ..) => rlm.go_on(orchestrator.as_mut(), &mut hear),
            (None, None, Some(answer)) => {
                say!("The run has its answer already: {answer}");
                return Ok(ExitCode::SUCCESS);
            }
            _ => rlm.run_with(orchestrator.as_mut(), &question, &mut hear),
        }
    } else {
        let mut orchestrator = who::orchestrator(args, local.as_ref(), 0)?;
        let mut rlm = Rlm::new(&worker, open(args.sandbox), config)?;
        rlm.add_context(&who::document(args)?)?;
        rlm.run_with(orchestrator.as_mut(), &question, &mut hear)
    };
    drop(progress);
    let (ledger, log) = match &ended {
        Ok(run) => (&run.ledger, &run.log),
        Err(stopped) => (&stopped.ledger, &stopped.log),
    };
    if let Some(log) = log {
        anstream::print!("{}", explain::trace(&RunRecord::open(log)?, 100));
        say!("\nLog: {0}\nAs a page: cargo run --release --example explain -- {0}", log.display());
    }
    show::costs(ledger);
    let code = match &ended {
        Ok(run) => {
            say!("\n{question}\n{}", run.answer);
            ExitCode::SUCCESS
        }
        Err(stopped) => {
            complain!("rlm: {stopped}");
            complain!("So far: {}", stopped.partial.as_deref().unwrap_or("nothing"));
            ExitCode::FAILURE
        }
    };
    // Last: what cannot be written costs no answer.
    if let Some(path) = &args.ledger {
        latent_briefing::eval::write_file(path, &serde_json::to_vec_pretty(ledger)?)?;
    }
    Ok(code)
}

fn estimate(orchestrator: &dyn Orchestrator, worker: &Worker, config: &RlmConfig) -> Result<ExitCode> {
    let inputs = EstimateInputs {
        assumptions: Assumptions::default(),
        likely_turns: 8,
        iterations: config.limits.iterations,
        handoff: config.handoff.clone(),
        model: config.prices.as_ref().and_then(|table| table.model(orchestrator.model())),
        worker: config.prices.as_ref().and_then(|table| table.worker(worker.name())),
        speed: Some(WorkerSpeed::measure(worker)?),
    };
    show::estimate(&Estimate::of(&inputs)?);
    Ok(ExitCode::SUCCESS)
}
