//! The process in which the sandbox runs an orchestrator's code. The library starts it; by hand, `lb-repl --check` tries
//! whether the sandbox works here.

use std::process::ExitCode;

use latent_briefing::sandbox::{HostCall, MontyConfig, MontyRepl, Repl, ReplHost, sandbox_main};

/// Answers each prompt with its own text.
struct Echo;

impl ReplHost for Echo {
    fn call(&mut self, call: HostCall) -> Vec<String> {
        match call {
            HostCall::Llm(queries) | HostCall::Rlm(queries) => {
                queries.into_iter().map(|query| query.prompt).collect()
            }
            HostCall::Note { .. } => vec![String::new()],
        }
    }

    fn cancelled(&self) -> bool {
        false
    }
}

fn main() -> ExitCode {
    sandbox_main();
    if std::env::args().nth(1).as_deref() != Some("--check") {
        eprintln!(
            "lb-repl serves sessions of latent-briefing, which starts it by itself. lb-repl --check tries one."
        );
        return ExitCode::from(2);
    }
    let started = MontyRepl::start(&MontyConfig::default());
    match started.and_then(|mut repl| repl.execute("print(llm_query('the sandbox works'))", &mut Echo)) {
        Ok(executed) if executed.fault.is_none() => {
            print!("{}", executed.stdout);
            ExitCode::SUCCESS
        }
        Ok(executed) => {
            eprintln!("{}", executed.stderr);
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
