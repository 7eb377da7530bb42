//! One recorded run, replayed under every handoff: what the orchestrator does is the same word by word, so that what differs
//! is the handoff's.

use std::path::Path;
use std::sync::Arc;

use lb_model::Worker;
use lb_orchestrate::{PromptProfile, Replay, Rlm, RlmConfig, RunLedger, RunRecord, Script, SharedWork};
use lb_sandbox::Repl;
use lb_session::{BoundaryPolicy, Handoff, Source as Tag};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::episodes::{Episode, Kind, Source};
use crate::report::new_table;
use crate::stats::{paired_difference, wilson};

/// Opens a sandbox.
pub type OpenRepl = Arc<dyn Fn() -> lb_sandbox::Result<Box<dyn Repl>> + Send + Sync>;

/// Lines of the log that the recorded program looks at in one turn.
const LINES_A_TURN: usize = 40;

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

/// Records a program that reads the episode's log in turns of 40 lines, notes its findings, prints the rest, and asks the
/// episode's questions in one batch, one answer a line.
///
/// # Errors
/// [`crate::Error::Run`] where the run does not come to its end.
pub fn record(worker: &Worker, open: &OpenRepl, episode: &Episode, dir: &Path) -> Result<RunRecord> {
    let line = |line: &crate::episodes::Line| {
        let tag = match line.source {
            Source::Finding => "finding",
            Source::Reasoning => "reasoning",
            Source::Tool => "tool",
        };
        format!("{tag}: {}", line.text)
    };
    let text: Vec<String> = episode.lines.iter().map(line).collect();
    let config = RlmConfig { log_dir: Some(dir.to_owned()), handoff: Handoff::None, ..config() };
    let mut rlm = opened(worker, open, config)?;
    rlm.add_context(&text.join("\n"))?;
    let run = rlm.run(&mut Script::new(turns(episode)).named("walk"), "Answer all questions about the log.");
    let run = run.map_err(|stopped| stopped.error)?;
    let log = run.log.ok_or(lb_orchestrate::Error::Empty { arg: "log" })?;
    Ok(RunRecord::open(log)?)
}

fn turns(episode: &Episode) -> Vec<String> {
    let read = |from: usize| {
        let to = from + LINES_A_TURN;
        format!(
            "Lines {from} to {to}.\n\n```repl\nfor line in context.split(\"\\n\")[{from}:{to}]:\n    \
             if line.startswith(\"finding: \"):\n        note(line[9:])\n    else:\n        print(line)\n```"
        )
    };
    let mut turns: Vec<String> = (0..episode.lines.len()).step_by(LINES_A_TURN).map(read).collect();
    let questions: Vec<&str> = episode.questions.iter().map(|question| question.text.as_str()).collect();
    let questions = serde_json::Value::from(questions);
    turns.push(format!(
        "The workers answer.\n\n```repl\nreplies = llm_query_batched({questions})\n\
         answer[\"content\"] = \"\\n\".join([r.replace(\"\\n\", \" \") for r in replies])\nanswer[\"ready\"] = True\n```"
    ));
    turns
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
    if let Some(shared) = shared {
        config = config.sharing(shared);
    }
    let mut rlm = opened(worker, open, config)?;
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
    let keep_ratio = (!ratios.is_empty()).then(|| ratios.iter().sum::<f64>() / ratios.len() as f64);
    Ok(Replayed { handoff: handoff.clone(), answer, ledger, keep_ratio, replies })
}

/// A policy that lets in what the built-in worker was trained to read.
pub fn trained_policy() -> BoundaryPolicy {
    config().session.policy
}

/// How many of a worker's answers are right, and what they cost, over all episodes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct HandoffRow {
    /// The handoff as JSON.
    pub handoff: String,
    /// For each question in order, whether the answer was right.
    pub right: Vec<bool>,
    /// For each question, its kind.
    pub kinds: Vec<Kind>,
    /// Positions in the worker's context plus generated tokens, all questions.
    pub worker_tokens: usize,
    /// Tokens that the worker computed: prompts, text read anew, summaries, answers. The trajectory, read once in every
    /// run alike, is apart.
    pub computed: usize,
    /// Tokens of the trajectory, read once.
    pub trajectory: usize,
    /// Seconds of the worker but for reading the trajectory.
    pub seconds: f64,
    /// Sum of the shares of the trajectory that could be attended to.
    pub keep_ratios: f64,
    /// Episodes.
    pub episodes: usize,
}

impl HandoffRow {
    /// Counts a replay of an episode.
    pub fn add(&mut self, episode: &Episode, replayed: &Replayed) {
        let answers: Vec<&str> =
            replayed.answer.as_ref().map(|a| a.split('\n').collect()).unwrap_or_default();
        for (number, question) in episode.questions.iter().enumerate() {
            self.right.push(answers.get(number).is_some_and(|answer| *answer == question.answer));
            self.kinds.push(question.kind);
        }
        let worker = &replayed.ledger.worker;
        self.worker_tokens += worker.tokens.worker_tokens();
        self.computed += worker.tokens.prefilled + worker.tokens.drafted + worker.tokens.generated;
        self.trajectory += worker.trajectory_prefilled;
        self.seconds += worker.brief_s + worker.prefill_s + worker.decode_s;
        self.keep_ratios += replayed.keep_ratio.unwrap_or(0.0);
        self.episodes += 1;
    }

    /// Share of right answers with its 95 % interval.
    pub fn accuracy(&self) -> (f64, [f64; 2]) {
        let right = self.right.iter().filter(|right| **right).count();
        (right as f64 / self.right.len().max(1) as f64, wilson(right, self.right.len()))
    }

    /// Difference in accuracy to `other` on the same questions, with its 95 % interval.
    pub fn difference(&self, other: &Self) -> [f64; 3] {
        let pairs: Vec<_> = self.right.iter().copied().zip(other.right.iter().copied()).collect();
        paired_difference(&pairs)
    }
}

/// One row for each handoff: accuracy with its interval, the difference to the full cache on the same questions, and what
/// a question cost on average.
pub fn table(rows: &[HandoffRow]) -> String {
    let mut table = new_table(&[
        "handoff",
        "accuracy (95 %)",
        "against full-kv",
        "kept",
        "worker tokens",
        "computed",
        "ms",
        "all computed",
    ]);
    let full = rows.iter().find(|row| row.handoff == "full-kv");
    for row in rows {
        let (accuracy, [low, high]) = row.accuracy();
        let n = row.right.len().max(1) as f64;
        let percent = |x: f64| format!("{:.1}", 100.0 * x);
        let difference = full.filter(|full| full.handoff != row.handoff).map(|full| row.difference(full));
        let difference = difference.map(|d| d.map(|x| format!("{:+.1}", 100.0 * x)));
        table.add_row(vec![
            row.handoff.clone(),
            format!("{} % ({}–{})", percent(accuracy), percent(low), percent(high)),
            difference.map_or(String::new(), |[d, low, high]| format!("{d} ({low} to {high})")),
            format!("{} %", percent(row.keep_ratios / row.episodes.max(1) as f64)),
            format!("{:.0}", row.worker_tokens as f64 / n),
            format!("{:.0}", row.computed as f64 / n),
            format!("{:.1}", 1e3 * row.seconds / n),
            (row.computed + row.trajectory).to_string(),
        ]);
    }
    table.to_string()
}
