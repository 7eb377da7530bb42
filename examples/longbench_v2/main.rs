//! LongBench v2, and other sets of questions about long texts, under several handoffs.
//!
//! `cargo run --release --example longbench_v2` answers the bundled synthetic set with the built-in worker.

mod args;
mod items;
mod who;

use std::process::ExitCode;

use args::Args;
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use latent_briefing::eval::answers::table;
use latent_briefing::eval::report::{Options, report};
use latent_briefing::eval::runs;
use latent_briefing::eval::with_causes;
use latent_briefing::sandbox::sandbox_main;
use latent_briefing::{complain, say};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    // The sandbox is this program, run once more.
    sandbox_main();
    match run(&Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            complain!("longbench_v2: {}", with_causes(&*error));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<ExitCode> {
    let plan = args.plan()?;
    plan.validate()?;
    let setup = who::bench(args)?;
    let loaded = args.items.load(&setup.worker, args.seed)?;
    let conditions: Vec<String> = plan.expanded()?.into_iter().map(|condition| condition.name).collect();
    let progress = ProgressBar::new((loaded.items.len() * conditions.len() * plan.repeats) as u64);
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} (of {duration}) {wide_msg}");
    progress.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let finished = runs::items::run(&setup, &plan, &loaded, &args.out, args.existing(), &|row| {
        progress.inc(1);
        progress.set_message(latent_briefing::io::shown::visible_line(&format!(
            "{}: {}",
            row.item, row.condition
        )));
    })?;
    progress.finish_and_clear();
    if args.worker.is_none() {
        say!("Built-in worker: asked without choices, right where its words are those of the right choice.");
    }
    say!("{}", table(&finished.rows, &conditions));
    say!("{} rows, {} of them from before: {}", finished.rows.len(), finished.resumed, args.out.display());
    if finished.cancelled {
        complain!("longbench_v2: called off; --resume goes on");
        return Ok(ExitCode::FAILURE);
    }
    let files = report(&args.out, &Options { pages: true, ..Options::default() })?;
    for fault in &files.faults {
        complain!("longbench_v2: no page: {fault}");
    }
    say!("{}", files.html.display());
    Ok(ExitCode::SUCCESS)
}
