//! One recorded run, replayed under every handoff: what the orchestrator does is the same word by word, so that what differs
//! is the handoff's.

mod episodes;
mod questions;

use std::sync::Arc;

use lb_model::Worker;
use lb_orchestrate::{PromptProfile, Replay, Rlm, RlmConfig, RunLedger, RunRecord, SharedWork};
use lb_session::{BoundaryPolicy, Handoff, Source as Tag};
use serde::{Deserialize, Serialize};

pub use episodes::{HandoffRow, record, table};
pub use questions::{ReplayedRow, replay_rows, replay_table};

use super::{OpenRepl, mean_ratio};
use crate::Result;

/// The handoffs that are compared where nothing else is said: those that hand over everything or nothing, and the others
/// at a tenth of the trajectory or at their defaults.
pub const ALL: [&str; 10] = [
    "none",
    "full-kv",
    "text-replay",
    "notes",
    "summary:128",
    "bm25:0.1",
    "recent:0.1",
    "random:0.1",
    "latent-briefing:keep=0.1",
    "latent-briefing:tau=4",
];

/// A replay under one handoff.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Replayed {
    /// The handoff.
    pub handoff: Handoff,
    /// The run's answer; what stopped it, where it has none.
    pub answer: std::result::Result<String, String>,
    /// What it cost.
    pub ledger: RunLedger,
    /// Share of the trajectory that the worker could attend to, on average over the calls; `None` without calls.
    pub keep_ratio: Option<f64>,
    /// What the worker replied, call by call.
    pub replies: Vec<String>,
}

/// What the built-in worker was trained to read.
fn config() -> RlmConfig {
    let mut config = RlmConfig { log_briefings: false, ..RlmConfig::default() };
    config.session.policy = BoundaryPolicy::nothing().admitting([Tag::Finding, Tag::Tool]);
    config
}

fn opened(worker: &Worker, open: &OpenRepl, config: RlmConfig) -> Result<Rlm> {
    let open = Arc::clone(open);
    Ok(Rlm::new(worker, move || open(), config)?)
}

/// Replays `record` under `handoff`: the same turns, the documents beside the log, a worker that is handed the trajectory in
/// this way. Where the built-in worker is meant, `policy` should be what it was trained on. What is `shared` with other
/// replays of the same run is read once.
///
/// # Errors
/// [`crate::Error::Run`] where the documents are not there or a session cannot be opened. A run that is stopped is an
/// answer like any other.
pub fn replay(
    worker: &Worker,
    open: &OpenRepl,
    record: &RunRecord,
    handoff: &Handoff,
    policy: BoundaryPolicy,
    shared: Option<&SharedWork>,
) -> Result<Replayed> {
    replay_as(worker, open, record, handoff, policy, &|config| match shared {
        Some(shared) => config.sharing(shared),
        None => config,
    })
}

/// [`replay`] with a configuration that `change` has looked over.
///
/// # Errors
/// Those of [`replay`].
pub fn replay_as(
    worker: &Worker,
    open: &OpenRepl,
    record: &RunRecord,
    handoff: &Handoff,
    policy: BoundaryPolicy,
    change: &dyn Fn(RlmConfig) -> RlmConfig,
) -> Result<Replayed> {
    let settings = &record.metadata.latent_briefing;
    // A run for a small orchestrator has another worker's wording.
    let base = if settings.profile == PromptProfile::Small { RlmConfig::small() } else { config() };
    let mut config = RlmConfig {
        handoff: handoff.clone(),
        protocol: settings.protocol,
        profile: settings.profile,
        ask_first: settings.ask_first,
        brief_documents: settings.brief_documents,
        limits: settings.limits.clone(),
        log_briefings: false,
        ..base
    };
    config.session.policy = policy;
    let mut rlm = opened(worker, open, change(config))?;
    for (_, text) in record.contexts()? {
        rlm.add_context(&text)?;
    }
    let mut orchestrator = Replay::new(record);
    let (mut ratios, mut replies) = (Vec::new(), Vec::new());
    let ended = rlm.run_with(&mut orchestrator, &settings.question, &mut |event| {
        if let lb_orchestrate::Event::CallEnded(call) = event {
            ratios.extend(call.keep_ratio);
            replies.push(call.response.clone());
        }
    });
    let (answer, ledger) = match ended {
        Ok(run) => (Ok(run.answer), run.ledger),
        Err(stopped) => (Err(stopped.to_string()), stopped.ledger),
    };
    Ok(Replayed { handoff: handoff.clone(), answer, ledger, keep_ratio: mean_ratio(ratios), replies })
}

/// A policy that lets in what the built-in worker was trained to read.
pub fn trained_policy() -> BoundaryPolicy {
    config().session.policy
}
