//! Logs asked without an orchestrator: each is read once as the trajectory, and each question about it is one call.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use lb_am::baselines::Baseline;
use lb_model::{GenerateOptions, Worker};
use lb_orchestrate::{
    CallTokens, CancelToken, Handoff, Segment, SelectionSize, SessionConfig, WorkerSession,
};
use serde::{Deserialize, Serialize};

use super::jobs::in_parallel;
use super::plan::{mixed, part};
use super::store::{PlanRecord, Store};
use super::{BenchRow, Existing, Finished};
use crate::datasets::ruler::{NativeConfig, NativeTask, cost, native};
use crate::episodes::{Difficulty, Episode, EpisodeConfig};
use crate::study::Probe;
use crate::{Error, Result};

/// Seeds that may be passed over in a row because their logs are too short or too long.
const MISSES: u64 = 1_000;
/// Words of a held-out log for a token of the built-in worker, at least and at most; what misses the range is passed over.
const WORDS: (f64, f64) = (0.48, 0.62);

/// Which logs are asked about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Logs {
    /// Held-out episodes.
    HeldOut {
        /// Shortest and longest trajectory in tokens, template head counted in.
        tokens: (usize, usize),
        /// Questions about each.
        questions: usize,
    },
    /// One task in the manner of RULER, in the words that the built-in worker knows.
    Native {
        /// What is asked.
        task: NativeTask,
        /// Tokens of a log at most; logs fill them.
        tokens: usize,
    },
}

/// What is to be asked of which logs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EpisodePlan {
    /// Handoffs as text, and published selections with a size, `snapkv:keep=0.1` ([`Baseline`]), which keep what they
    /// select as it is.
    pub conditions: Vec<String>,
    /// The logs.
    pub logs: Vec<Logs>,
    /// How many of each.
    pub episodes: usize,
    /// Seed of the first. Other seeds for other logs.
    pub seed: u64,
    /// Share of logs on which settings may be chosen, 0 to below 1. Default: 0.
    pub validation_share: f64,
    /// Logs at the same time. Default: 1.
    pub jobs: usize,
    /// Most tokens of an answer. Default: 64.
    pub answer_tokens: usize,
}

impl Default for EpisodePlan {
    fn default() -> Self {
        Self {
            conditions: ["full-kv", "text-replay", "latent-briefing:keep=0.1"].map(str::to_owned).to_vec(),
            logs: vec![Logs::HeldOut { tokens: (512, 2048), questions: 5 }],
            episodes: 20,
            seed: 50_000,
            validation_share: 0.0,
            jobs: 1,
            answer_tokens: 64,
        }
    }
}

/// How a question is answered.
enum Way {
    Handoff(Box<Handoff>),
    Selection(Baseline, SelectionSize),
}

impl EpisodePlan {
    /// Checks every range.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field; [`Error::Worker`] for a condition that is neither handoff nor selection.
    pub fn validate(&self) -> Result<()> {
        let counts =
            [("jobs", self.jobs), ("answer_tokens", self.answer_tokens), ("episodes", self.episodes)];
        for (field, value) in counts {
            if value == 0 {
                return Err(Error::config(field, 0, "want at least 1"));
            }
        }
        if self.jobs > 1024 {
            return Err(Error::config("jobs", self.jobs, "want at most 1024"));
        }
        if !(0.0..1.0).contains(&self.validation_share) {
            return Err(Error::config("validation_share", self.validation_share, "want 0 to below 1"));
        }
        if self.logs.is_empty() {
            return Err(Error::config("logs", "none", "want at least one"));
        }
        for logs in &self.logs {
            if let Logs::HeldOut { tokens: (low, high), .. } = logs
                && !(64 <= *low && low <= high && *high <= 32_768)
            {
                let value = format!("{low} to {high}");
                return Err(Error::config("tokens", value, "want 64 <= shortest <= longest <= 32768"));
            }
        }
        self.ways().map(|_| ())
    }

    fn ways(&self) -> Result<Vec<(String, Way)>> {
        let mut seen = BTreeSet::new();
        let way = |text: &String| {
            let name = text.trim();
            if !seen.insert(name.to_owned()) {
                return Err(Error::config("conditions", name, "is there twice"));
            }
            Ok((name.to_owned(), way(name)?))
        };
        let ways: Vec<_> = self.conditions.iter().map(way).collect::<Result<_>>()?;
        if ways.is_empty() {
            return Err(Error::config("conditions", "none", "want at least one"));
        }
        Ok(ways)
    }
}

/// `snapkv:keep=0.1`, else a handoff; `random` and `recent` are handoffs.
fn way(text: &str) -> Result<Way> {
    let (name, size) = text.split_once(':').unwrap_or((text, ""));
    match name.trim().parse::<Baseline>() {
        Ok(Baseline::Random { .. }) | Err(_) => Ok(Way::Handoff(Box::new(text.parse()?))),
        Ok(_) if size.is_empty() => {
            Err(Error::config("conditions", text, "want a size, as in snapkv:keep=0.1"))
        }
        // Sizes are written as those of a handoff.
        Ok(baseline) => match format!("recent:{size}").parse()? {
            Handoff::Recent(size) => Ok(Way::Selection(baseline, size)),
            other => Ok(Way::Handoff(Box::new(other))),
        },
    }
}

/// A log with the names that its rows have.
struct Log {
    episode: Episode,
    dataset: String,
    /// Beginning of its items' ids.
    id: String,
    cluster: u64,
    logs: Logs,
}

fn log(worker: &Worker, logs: &Logs, head: usize, seed: u64) -> Result<Option<Log>> {
    let count =
        |text: &str| Ok(worker.tokenizer().encode_text(text).map_err(lb_orchestrate::Error::from)?.len());
    let (episode, name, number) = match logs {
        Logs::HeldOut { tokens: (low, high), questions } => {
            let words = |share: f64, tokens: usize| ((share * tokens as f64) as usize).clamp(10, 20_000);
            let words = (words(WORDS.0, *low), words(WORDS.1, *high));
            let episode = Episode::generate(seed, &EpisodeConfig::held_out(words, *questions))?;
            let tokens: usize = episode.lines.iter().map(|line| cost(line, &count)).sum::<Result<usize>>()?;
            if !(*low..=*high).contains(&(tokens + head)) {
                return Ok(None);
            }
            (episode, "episodes", 0)
        }
        Logs::Native { task, tokens } => {
            let config = NativeConfig { task: *task, tokens: *tokens, seed, depth: None };
            (native(&config, &count)?, task.name(), *tokens)
        }
    };
    let id = if number == 0 { format!("{name}-{seed}") } else { format!("{name}-{number}-{seed}") };
    let cluster = mixed(super::plan::fingerprint(&id));
    Ok(Some(Log { episode, dataset: format!("synthetic {name}"), id, cluster, logs: logs.clone() }))
}

/// The logs of `plan`, from its first seed on; those that miss their range are passed over.
fn logs(worker: &Worker, plan: &EpisodePlan) -> Result<Vec<Log>> {
    let head = worker_session(worker, plan)?.head_len();
    let mut all = Vec::new();
    for kind in &plan.logs {
        let (mut seed, mut misses, wanted) = (plan.seed, 0, all.len() + plan.episodes);
        while all.len() < wanted {
            match log(worker, kind, head, seed)? {
                Some(log) => {
                    all.push(log);
                    misses = 0;
                }
                None if misses == MISSES => {
                    return Err(Error::config("tokens", format!("{kind:?}"), "no log comes out that long"));
                }
                None => misses += 1,
            }
            seed = seed.wrapping_add(1);
        }
    }
    Ok(all)
}

fn worker_session(worker: &Worker, plan: &EpisodePlan) -> Result<WorkerSession> {
    let generate = GenerateOptions::greedy(plan.answer_tokens);
    Ok(WorkerSession::with(worker, SessionConfig { generate, ..SessionConfig::default() })?)
}

/// Answers every question of every log of `plan` under each of its conditions, in the folder `dir`, which
/// [`report`](super::report) reads. `on_row` hears every new row; `cancel` ends it between two logs.
///
/// # Errors
/// Those of [`EpisodePlan::validate`]; [`Error::PlanChanged`], [`Error::Config`], [`Error::Io`] and [`Error::Json`] as
/// [`run`](super::run); [`Error::Worker`] where a log does not fit the worker. Rows until then stay.
pub fn run_episodes(
    worker: &Worker,
    plan: &EpisodePlan,
    dir: &Path,
    existing: Existing,
    cancel: &CancelToken,
    on_row: &(dyn Fn(&BenchRow) + Sync),
) -> Result<Finished> {
    plan.validate()?;
    let ways = plan.ways()?;
    let logs = logs(worker, plan)?;
    let record = PlanRecord {
        plan: PlanRecord::fields(plan)?,
        worker: worker.name().to_owned(),
        orchestrator: "none".to_owned(),
        items: logs.iter().map(|log| log.episode.questions.len()).sum(),
        items_hash: logs.iter().map(|log| log.cluster).fold(0, u64::wrapping_add),
    };
    let (store, rows) = Store::open(dir, &record, None, existing)?;
    let done: HashSet<(String, String)> =
        rows.iter().map(|row| (row.item.clone(), row.condition.clone())).collect();
    let resumed = rows.len();
    let all = Mutex::new((store, rows));
    let push = |row: BenchRow| {
        let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
        all.0.push(&row)?;
        on_row(&row);
        all.1.push(row);
        Ok(())
    };
    let asking = Asking { worker, plan, ways: &ways, done: &done, push: &push };
    in_parallel(logs.len(), plan.jobs, cancel, &|number| asking.log(&logs[number]))?;
    let (_, rows) = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Finished { rows, resumed, cancelled: cancel.is_cancelled() })
}

/// What all threads share.
struct Asking<'a> {
    worker: &'a Worker,
    plan: &'a EpisodePlan,
    ways: &'a [(String, Way)],
    done: &'a HashSet<(String, String)>,
    push: &'a (dyn Fn(BenchRow) -> Result<()> + Sync),
}

impl Asking<'_> {
    fn log(&self, log: &Log) -> Result<()> {
        let missing = |item: &str| -> Vec<&(String, Way)> {
            let known = |name: &String| self.done.contains(&(item.to_owned(), name.clone()));
            self.ways.iter().filter(|(name, _)| !known(name)).collect()
        };
        let items: Vec<String> =
            (0..log.episode.questions.len()).map(|number| format!("{}-{number}", log.id)).collect();
        if items.iter().all(|item| missing(item).is_empty()) {
            return Ok(());
        }
        let mut session = worker_session(self.worker, self.plan)?;
        session.extend_all(log.episode.lines.iter().map(Segment::from), &mut |_, _| {})?;
        let mut probe = Probe::new(self.worker, &log.episode, session)?;
        for (number, item) in items.into_iter().enumerate() {
            let missing = missing(&item);
            let blank = self.blank(log, number, item, probe.session().seq_len());
            let selects = missing.iter().any(|(_, way)| matches!(way, Way::Selection(..)));
            let asked = if selects { Some(probe.ask(number)?) } else { None };
            for (name, way) in missing {
                let mut row = BenchRow { condition: name.clone(), ..blank.clone() };
                match (way, &asked) {
                    (Way::Handoff(handoff), _) => by_handoff(&mut probe, handoff, number, &mut row)?,
                    (Way::Selection(baseline, size), Some(asked)) => {
                        let kept = size.resolve(row.seq_len)?;
                        self.by_selection(&mut probe, asked, (*baseline, kept), &mut row)?;
                    }
                    (Way::Selection(..), None) => {}
                }
                row.score = f64::from(row.answer == row.expected);
                (self.push)(row)?;
            }
        }
        Ok(())
    }

    fn blank(&self, log: &Log, number: usize, item: String, seq_len: usize) -> BenchRow {
        let question = &log.episode.questions[number];
        let (kind, length, difficulty) = match &log.logs {
            Logs::HeldOut { tokens: (low, high), .. } => {
                let third = (3 * (seq_len.saturating_sub(*low)) / (high - low + 1)).min(2);
                let length = ["short", "medium", "long"][third];
                let difficulty = match question.difficulty {
                    Difficulty::Easy => "easy",
                    Difficulty::Hard => "hard",
                };
                (question.kind.name(), length.to_owned(), Some(difficulty.to_owned()))
            }
            Logs::Native { task, tokens } => (task.name(), tokens.to_string(), None),
        };
        BenchRow {
            item,
            dataset: log.dataset.clone(),
            cluster: log.cluster,
            part: part(self.plan.seed, self.plan.validation_share, log.cluster),
            kind: kind.to_owned(),
            difficulty,
            length: Some(length),
            context_tokens: seq_len,
            seq_len,
            expected: question.answer.clone(),
            calls: 1,
            trajectory: seq_len,
            ..BenchRow::default()
        }
    }

    /// Answers over what a published selection keeps, the task read anew. Its time counts the pass of the task where it looks
    /// at the task's queries.
    fn by_selection(
        &self,
        probe: &mut Probe<'_>,
        asked: &crate::study::Asked,
        (baseline, kept): (Baseline, usize),
        row: &mut BenchRow,
    ) -> Result<()> {
        let (mut cache, time) = probe.selected(asked, baseline, kept)?;
        let task = asked.task_tokens();
        let reused = cache.mean_slots();
        let options = GenerateOptions::greedy(self.plan.answer_tokens);
        let made = self.worker.generate(&mut cache, task, &options, &mut |_, _| true);
        let made = made.map_err(lb_orchestrate::Error::from)?;
        row.worker = CallTokens {
            attended: reused + task.len(),
            prefilled: 2 * task.len(),
            reused,
            generated: made.tokens.len(),
            ..CallTokens::default()
        };
        made.text.trim().clone_into(&mut row.answer);
        row.keep_ratio = Some(reused as f64 / row.seq_len.max(1) as f64);
        row.brief_s = time.as_secs_f64();
        (row.prefill_s, row.decode_s) = (made.prefill.as_secs_f64(), made.decode.as_secs_f64());
        row.elapsed_s = row.brief_s + row.prefill_s + row.decode_s;
        Ok(())
    }
}

fn by_handoff(probe: &mut Probe<'_>, handoff: &Handoff, number: usize, row: &mut BenchRow) -> Result<()> {
    let task = probe.question(number).text.clone();
    let outcome = probe.session_mut().answer_via(handoff, task)?;
    let times = outcome.record.times;
    row.worker = outcome.record.tokens;
    row.keep_ratio = Some(outcome.keep_ratio);
    row.brief_s = times.brief.as_secs_f64();
    (row.prefill_s, row.decode_s) = (times.prefill.as_secs_f64(), times.decode.as_secs_f64());
    row.elapsed_s = times.total().as_secs_f64();
    row.answer = outcome.answer.text;
    Ok(())
}
