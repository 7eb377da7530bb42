//! What the command line may say.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use lb_orchestrate::{Allowance, Limits, Protocol};
use lb_session::{Handoff, RoomPolicy};

use super::policies::PolicyArgs;
use crate::Result;
use crate::exit::Usage;
use crate::orchestrator::OrchestratorArgs;
use crate::output::Json;
use crate::worker::WorkerArgs;

/// Let an orchestrator work through a long text turn by turn; its code asks a worker that is briefed for each prompt
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) orchestrator: OrchestratorArgs,
    #[command(flatten)]
    pub(crate) worker: WorkerArgs,
    /// The text; without it, a log of 468 lines that comes with the program.
    #[arg(long, value_name = "FILE")]
    pub(crate) document: Option<PathBuf>,
    /// What is asked about it.
    #[arg(long, value_name = "TEXT")]
    pub(crate) question: Option<String>,
    /// A file of questions, JSON Lines of {id, trajectory: [{role, content}], task, target, answers?}: one run for each,
    /// with a log and a row in --out, where a later call goes on.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["document", "question", "resume", "estimate"])]
    pub(crate) data: Option<PathBuf>,
    /// Questions of --data.
    #[arg(long, requires = "data")]
    pub(crate) limit: Option<usize>,
    /// Where the rows and logs of --data go.
    #[arg(long, default_value = "rlm-questions", value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// For which orchestrators the texts are written; auto is small for local checkpoints below 5 billion parameters.
    #[arg(long, value_enum, default_value_t = Profile::Auto)]
    pub(crate) profile: Profile,
    /// How the trajectory reaches the worker: latent-briefing:tau=4, full-kv, text-replay, bm25:0.1, summary:200, ...
    #[arg(long, default_value = "latent-briefing")]
    pub(crate) handoff: Handoff,
    /// Short for --handoff latent-briefing:tau=TAU.
    #[arg(long)]
    pub(crate) tau: Option<f64>,
    /// Where the log goes.
    #[arg(long, default_value = "rlm-logs", value_name = "DIR")]
    pub(crate) log: PathBuf,
    /// Go on with a run that was cut off.
    #[arg(long, value_name = "LOG")]
    pub(crate) resume: Option<PathBuf>,
    /// How the orchestrator says that it is done.
    #[arg(long, value_enum, default_value_t = Finish::Answer)]
    pub(crate) protocol: Finish,
    /// Where its code runs; cpython is no security boundary.
    #[arg(long, value_enum, default_value_t = Sandbox::Monty)]
    pub(crate) sandbox: Sandbox,
    /// What happens when the trajectory comes near the worker's position limit.
    #[arg(long, value_enum, default_value_t = Room::Compact)]
    pub(crate) room: Room,
    /// Turns; after them the answer is asked for. Default: 30, of --profile small 6.
    #[arg(long)]
    pub(crate) max_iterations: Option<usize>,
    /// How deep rlm_query goes; 1 is not at all.
    #[arg(long, default_value_t = 1)]
    pub(crate) depth: usize,
    /// Seconds.
    #[arg(long)]
    pub(crate) max_time: Option<f64>,
    /// Tokens of orchestrator and worker.
    #[arg(long)]
    pub(crate) max_tokens: Option<usize>,
    /// Money, by --prices.
    #[arg(long, requires = "prices")]
    pub(crate) max_cost: Option<f64>,
    /// Worker calls.
    #[arg(long)]
    pub(crate) max_calls: Option<usize>,
    /// A price table (TOML).
    #[arg(long, value_name = "FILE")]
    pub(crate) prices: Option<PathBuf>,
    /// Say what the run will cost, and stop.
    #[arg(long)]
    pub(crate) estimate: bool,
    /// Where the costs go, as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) ledger: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) policies: PolicyArgs,
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub(crate) enum Finish {
    Answer,
    Final,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub(crate) enum Profile {
    Auto,
    Small,
    Standard,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub(crate) enum Sandbox {
    Monty,
    Cpython,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub(crate) enum Room {
    /// The oldest part is compacted.
    Compact,
    /// The run ends.
    Refuse,
}

impl Args {
    pub(crate) fn room(&self) -> RoomPolicy {
        match self.room {
            Room::Compact => RoomPolicy::compact_oldest(),
            Room::Refuse => RoomPolicy::Refuse,
        }
    }

    pub(crate) fn protocol(&self) -> Protocol {
        match self.protocol {
            Finish::Answer => Protocol::Answer,
            Finish::Final => Protocol::Final,
        }
    }

    pub(crate) fn handoff(&self) -> Result<Handoff> {
        match self.tau {
            Some(tau) => Ok(format!("latent-briefing:tau={tau}").parse()?),
            None => Ok(self.handoff.clone()),
        }
    }

    /// The limits, with what nothing is said about as in `usual`.
    pub(crate) fn limits(&self, usual: &Limits) -> Result<Limits> {
        let time = self.max_time.map(Duration::try_from_secs_f64).transpose();
        let time = time.map_err(|e| Usage(format!("--max-time: {e}")))?;
        let run = Allowance { time, tokens: self.max_tokens, cost: self.max_cost, calls: self.max_calls };
        let iterations = self.max_iterations.unwrap_or(usual.iterations);
        Ok(Limits { iterations, depth: self.depth, run, ..usual.clone() })
    }
}
