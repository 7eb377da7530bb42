//! The logs of a plan.

use lb_model::{GenerateOptions, Worker};
use lb_session::{SessionConfig, WorkerSession};

use super::{EpisodePlan, Logs};
use crate::datasets::ruler::{NativeConfig, cost, native};
use crate::episodes::{Episode, EpisodeConfig};
use crate::pipeline::{fingerprint, mixed};
use crate::{Error, Result};

/// Seeds that may be passed over in a row because their logs are too short or too long.
const MISSES: u64 = 1_000;
/// Words of a held-out log for a token of the built-in worker, at least and at most; what misses the range is passed over.
const WORDS: (f64, f64) = (0.48, 0.62);

/// A log with the names that its rows have.
pub(super) struct Log {
    pub(super) episode: Episode,
    pub(super) dataset: String,
    /// Beginning of its items' ids.
    pub(super) id: String,
    pub(super) cluster: u64,
    /// What it was made for; `None` for one that was given.
    pub(super) logs: Option<Logs>,
}

impl Log {
    /// An episode that was given.
    pub(super) fn of(episode: &Episode) -> Self {
        Self::named(episode.clone(), "episodes", episode.seed.to_string(), None)
    }

    fn named(episode: Episode, name: &str, id: String, logs: Option<Logs>) -> Self {
        let cluster = mixed(fingerprint(&id));
        Self { episode, dataset: format!("synthetic {name}"), id, cluster, logs }
    }
}

fn log(worker: &Worker, logs: &Logs, head: usize, seed: u64) -> Result<Option<Log>> {
    let count = |text: &str| Ok(worker.tokenizer().encode_text(text).map_err(lb_session::Error::from)?.len());
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
    Ok(Some(Log::named(episode, name, id, Some(logs.clone()))))
}

/// The logs of `plan`, from its first seed on; those that miss their range are passed over.
pub(super) fn logs(worker: &Worker, plan: &EpisodePlan) -> Result<Vec<Log>> {
    let head = session(worker, plan)?.head_len();
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

pub(super) fn session(worker: &Worker, plan: &EpisodePlan) -> Result<WorkerSession> {
    let generate = GenerateOptions::greedy(plan.answer_tokens);
    Ok(WorkerSession::with(worker, SessionConfig { generate, ..SessionConfig::default() })?)
}
