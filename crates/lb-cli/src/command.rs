//! The commands and what each is called with.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use lb_eval::with_causes;

use crate::{
    Exit, Result, absent, ask, compact, completions, cram, doctor, explain, generate, output, quantize,
};
#[cfg(feature = "full")]
use crate::{bench, report, run};
use crate::{complain, quickstart};

const CODES: &str = "\
Ends with 0 where it did what it was asked, 1 where it could not, 2 where the command line says what cannot be, 3 where the
command is not in this build, 130 where it was called off with Ctrl-C. With --json stdout holds the result as JSON and nothing
else; {\"error\": ..} where there is none.";

/// Share memory between agents: a long trajectory reaches a local worker as a compacted KV cache, cut for the task.
#[derive(Parser)]
#[command(name = "latent-briefing", bin_name = "latent-briefing", version, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Ask(ask::Args),
    Explain(explain::Args),
    Generate(generate::Args),
    Compact(compact::Args),
    Cram(cram::CramArgs),
    Uncram(cram::UncramArgs),
    Quantize(quantize::Args),
    #[cfg(feature = "hub")]
    Fetch(crate::fetch::Args),
    #[cfg(feature = "full")]
    Run(Box<run::Args>),
    #[cfg(feature = "full")]
    Bench(bench::Args),
    #[cfg(feature = "full")]
    Report(report::Args),
    #[cfg(feature = "serve")]
    Serve(crate::serve::Args),
    Quickstart(quickstart::Args),
    Doctor(doctor::Args),
    Completions(completions::Args),
    #[cfg(not(feature = "hub"))]
    #[command(hide = true)]
    Fetch(absent::Absent),
    #[cfg(not(feature = "serve"))]
    #[command(hide = true)]
    Serve(absent::Absent),
    #[cfg(not(feature = "full"))]
    #[command(hide = true)]
    Run(absent::Absent),
    #[cfg(not(feature = "full"))]
    #[command(hide = true)]
    Bench(absent::Absent),
    #[cfg(not(feature = "full"))]
    #[command(hide = true)]
    Report(absent::Absent),
}

impl Command {
    fn carry_out(self) -> Result<Exit> {
        match self {
            Self::Ask(args) => ask::run(&args),
            Self::Explain(args) => explain::run(&args),
            Self::Generate(args) => generate::run(&args),
            Self::Compact(args) => compact::run(&args),
            Self::Cram(args) => cram::cram(&args),
            Self::Uncram(args) => cram::uncram(&args),
            Self::Quantize(args) => quantize::run(&args),
            Self::Quickstart(args) => quickstart::run(&args),
            Self::Doctor(args) => doctor::run(&args),
            Self::Completions(args) => completions::run(&args),
            #[cfg(feature = "hub")]
            Self::Fetch(args) => crate::fetch::run(args),
            #[cfg(feature = "full")]
            Self::Run(args) => run::run(&args),
            #[cfg(feature = "full")]
            Self::Bench(args) => bench::run(&args),
            #[cfg(feature = "full")]
            Self::Report(args) => report::run(args),
            #[cfg(not(feature = "hub"))]
            Self::Fetch(_) => absent::run("fetch"),
            #[cfg(feature = "serve")]
            Self::Serve(args) => crate::serve::run(&args),
            #[cfg(not(feature = "serve"))]
            Self::Serve(_) => absent::run("serve"),
            #[cfg(not(feature = "full"))]
            Self::Run(_) => absent::run("run"),
            #[cfg(not(feature = "full"))]
            Self::Bench(_) => absent::run("bench"),
            #[cfg(not(feature = "full"))]
            Self::Report(_) => absent::run("report"),
        }
    }
}

/// The command line as clap knows it, for completions and pages of documentation.
pub fn command() -> clap::Command {
    let end = absent::note().map_or(CODES.to_owned(), |note| format!("{CODES}\n\n{note}"));
    // Names of before there was one program.
    ["generate", "quantize", "quickstart"].into_iter().fold(
        Cli::command().after_help(end),
        |command, name| {
            command.mut_subcommand(name, |of| of.mut_arg("worker", |worker| worker.alias("model")))
        },
    )
}

/// The program.
pub fn main() -> ExitCode {
    called(std::env::args_os().collect(), None)
}

/// A command as a program of its own: `words` are the command, the arguments are those of the process.
pub fn program(words: &[&str]) -> ExitCode {
    let mut arguments = std::env::args_os();
    let name = arguments.next();
    let of = words.last().map(OsString::from);
    let words = words.iter().map(OsString::from);
    called(name.into_iter().chain(words).chain(arguments).collect(), of)
}

/// `of` is what complaints begin with, the command where there is none.
fn called(arguments: Vec<OsString>, of: Option<OsString>) -> ExitCode {
    // The sandbox is this program, run once more.
    #[cfg(feature = "full")]
    lb_sandbox::sandbox_main();
    let of = of.or_else(|| arguments.get(1).cloned()).unwrap_or_default();
    let parsed = command().try_get_matches_from(arguments).and_then(|found| Cli::from_arg_matches(&found));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return told(&error).into(),
    };
    let ended = cli.command.carry_out().unwrap_or_else(|error| {
        let exit = Exit::of(error.as_ref());
        complain(&format!("{}: {}", of.display(), with_causes(error.as_ref())));
        output::failed(&with_causes(error.as_ref()), exit);
        exit
    });
    ended.into()
}

/// Help and versions are no errors; a command that does not exist is told which do.
fn told(error: &clap::Error) -> Exit {
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => return Exit::Done,
        ErrorKind::InvalidSubcommand => {
            let command = command();
            let known = command.get_subcommands().filter(|known| !known.is_hide_set());
            let names: Vec<&str> = known.map(clap::Command::get_name).collect();
            complain(&format!("Commands: {}", names.join(", ")));
        }
        _ => {}
    }
    Exit::Usage
}

#[cfg(test)]
mod tests {
    /// What a light build lacks, it names; and it takes any arguments with it.
    #[cfg(not(feature = "full"))]
    #[test]
    fn commands_that_are_not_built_say_so() {
        use clap::Parser;

        use crate::Exit;

        let help = super::command().render_help().to_string();
        for name in ["run", "bench", "report"] {
            let cli = super::Cli::try_parse_from(["latent-briefing", name, "items", "--out", "x", "--help"])
                .unwrap();
            let error = cli.command.carry_out().unwrap_err();
            assert_eq!(Exit::of(error.as_ref()), Exit::NotBuilt, "{error}");
            assert!(error.to_string().contains("--features full"), "{error}");
            assert!(!help.contains(&format!("\n  {name}")), "{help}");
        }
        assert!(help.contains("Not in this build: run, bench, report"), "{help}");
    }

    #[test]
    fn arguments_do_not_contradict_each_other() {
        super::command().debug_assert();
    }
}
