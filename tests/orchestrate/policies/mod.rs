//! What a run in production is expected to have: each policy by itself, and within a loop.

mod context;
mod memo;
mod models;
mod phases;
mod watch;

use std::path::Path;

use latent_briefing::am::Compaction;
use latent_briefing::orchestrate::{Rlm, RlmConfig};
use latent_briefing::session::{BoundaryPolicy, Handoff, Source};

use crate::support::orchestrators::Scripted;
use crate::support::{embedded, monty};

const NOTES: &str = "finding: The Velmar ledger is kept by Anara.\n\
    tool: Open part 2: done.\n\
    finding: Anara works in Redmoor.\n\
    finding: The code of the Torwick vault is 4821.\n\
    finding: The Oslund relay is kept by Tolio.";

fn config() -> RlmConfig {
    let mut config =
        RlmConfig { handoff: Handoff::briefing(Compaction::keep_ratio(0.6)), ..RlmConfig::default() };
    config.session.policy = BoundaryPolicy::nothing().admitting([Source::Finding, Source::Tool]);
    config
}

fn rlm(config: RlmConfig) -> Rlm {
    let mut rlm = Rlm::new(embedded(), monty, config).unwrap();
    rlm.add_context(NOTES).unwrap();
    rlm
}

fn logged(config: RlmConfig, dir: &Path) -> RlmConfig {
    RlmConfig { log_dir: Some(dir.to_owned()), ..config }
}

fn script<S: Into<String>>(turns: impl IntoIterator<Item = S>) -> Scripted {
    Scripted::new(turns)
}

fn repl(code: &str) -> String {
    format!("I go on.\n```repl\n{code}\n```")
}

fn ready(expression: &str) -> String {
    repl(&format!("answer[\"content\"] = {expression}\nanswer[\"ready\"] = True"))
}
