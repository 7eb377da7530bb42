//! What the command line may say.

use std::path::PathBuf;
use std::time::Duration;

use lb_eval::condition::{at_each_size, split_conditions};
use lb_eval::pipeline::{Existing, Shard};
use lb_eval::runs::items::{BenchPlan, Scoring};
use lb_orchestrate::{Allowance, Limits};

use super::source::Items;
use crate::Result;
use crate::exit::Usage;
use crate::orchestrator::OrchestratorArgs;
use crate::output::JsonTo;
use crate::worker::WorkerArgs;

/// A question set under several conditions: the same items and the same recorded turns for each
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) items: Items,
    #[command(flatten)]
    pub(crate) worker: WorkerArgs,
    #[command(flatten)]
    pub(crate) orchestrator: OrchestratorArgs,
    /// Replay the turns recorded in this folder in the place of an orchestrator.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["orchestrator", "orchestrator_model"])]
    pub(crate) turns: Option<PathBuf>,
    /// Conditions: handoffs as of `run`, and `direct`, the published protocol without a loop.
    #[arg(
        long,
        value_name = "A,B,..",
        default_value = "full-kv,text-replay,latent-briefing,bm25:keep=0.1,none"
    )]
    pub(crate) handoff: String,
    /// Thresholds that a plain latent-briefing stands for.
    #[arg(long, value_delimiter = ',', default_values_t = [1.0, 2.0, 4.0, 8.0])]
    pub(crate) tau: Vec<f64>,
    /// Sizes that every `keep=*` among the conditions stands for.
    #[arg(long, value_delimiter = ',')]
    pub(crate) keep: Vec<f64>,
    /// Runs of the orchestrator for each item.
    #[arg(long, default_value_t = 1)]
    pub(crate) repeats: usize,
    /// Items at the same time.
    #[arg(long, default_value_t = 2)]
    pub(crate) jobs: usize,
    /// Work on every n-th item alone, from the i-th: one run on several machines, put together by `bench merge`.
    #[arg(long, value_name = "I/N", default_value_t)]
    shard: Shard,
    /// Decides the split, and what is sampled.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Share of documents for choosing settings.
    #[arg(long, default_value_t = 0.3)]
    pub(crate) validation: f64,
    /// Turns of an orchestrator.
    #[arg(long, default_value_t = 30)]
    pub(crate) max_iterations: usize,
    /// Seconds of a run.
    #[arg(long)]
    pub(crate) max_time: Option<f64>,
    /// Tokens of a run, orchestrator and worker.
    #[arg(long)]
    pub(crate) max_tokens: Option<usize>,
    /// Tokens of the prompt of `direct` at most; it is cut in its middle. Default: what the worker can read.
    #[arg(long, value_name = "N")]
    pub(crate) direct_tokens: Option<usize>,
    /// Where rows and logs go.
    #[arg(long, default_value = "longbench-v2", value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Go on with what is there.
    #[arg(long)]
    pub(crate) resume: bool,
    #[command(flatten)]
    pub(crate) json: JsonTo,
}

impl Args {
    pub(crate) fn existing(&self) -> Existing {
        if self.resume { Existing::Resume } else { Existing::Refuse }
    }

    pub(crate) fn plan(&self) -> Result<BenchPlan> {
        let time = self.max_time.map(Duration::try_from_secs_f64).transpose();
        let run =
            Allowance { time: time.map_err(|e| Usage(format!("--max-time: {e}")))?, ..Allowance::default() };
        let run = Allowance { tokens: self.max_tokens, ..run };
        let mut plan = BenchPlan {
            conditions: at_each_size(split_conditions(&self.handoff), &self.keep)?,
            tau: self.tau.clone(),
            repeats: self.repeats,
            jobs: self.jobs,
            shard: self.shard,
            seed: self.seed,
            validation_share: self.validation,
            direct_tokens: self.direct_tokens,
            limits: Limits { iterations: self.max_iterations, run, ..Limits::default() },
            ..BenchPlan::default()
        };
        // The built-in worker answers in words; it has not learned to choose letters.
        if self.worker.is_embedded() {
            plan.scoring = Scoring::ChoiceText;
        }
        Ok(plan)
    }
}
