//! The shortest of several messages that leaves the worker's answer as it is.

use std::time::Instant;

use candle_core::Tensor;
use lb_model::{GenerateOptions, KvCache, StopReason};
use serde::{Deserialize, Serialize};

use super::likelihood::{Rows, divergence, rows};
use super::stand_in::StandIn;
use super::summary::{SummaryConfig, SummaryScope};
use crate::context::Reader;
use crate::ledger::CallTokens;
use crate::{Error, Result, Segment, Task};

/// Messages sampled at most.
const MOST: usize = 64;

/// TokenSqueeze's criterion (arXiv 2511.13223) at inference: of what the model itself wrote, the shortest text within a bound on the
/// divergence of what follows. The paper refines steps of reasoning with it and trains on the result; here `k` messages
/// about the trajectory are sampled for the task over the full cache, and the shortest is handed over behind which the worker's next-token
/// distributions along a short answer, drafted greedily over the full cache, are within `kl`: KL(full ‖ message), mean nats a
/// token. Where none is, it is the one with the least divergence, and [`Squeezed`] says so.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SqueezeConfig {
    /// Messages to choose from, 1 to 64. Default: 4.
    pub k: usize,
    /// Divergence at most, 0 or more. Default: 0.3.
    pub kl: f64,
    /// Tokens of a message at most, at least 1. Default: 128.
    pub tokens: usize,
    /// Tokens of the drafted answer at most, 1 to 1024. Default: 16.
    pub draft: usize,
    /// Temperature of the samples, above 0 and at most 10. Default: 0.8.
    pub temperature: f64,
    /// Same seed, same messages. Default: 0.
    pub seed: u64,
}

impl Default for SqueezeConfig {
    fn default() -> Self {
        Self { k: 4, kl: 0.3, tokens: 128, draft: 16, temperature: 0.8, seed: 0 }
    }
}

impl SqueezeConfig {
    /// Checks every range.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field.
    pub fn validate(&self) -> Result<()> {
        if !(1..=MOST).contains(&self.k) {
            return Err(Error::config("k", self.k, "want 1 to 64 messages"));
        }
        if !(self.kl >= 0.0 && self.kl.is_finite()) {
            return Err(Error::config("kl", self.kl, "want nats a token, 0 or more"));
        }
        if self.tokens == 0 {
            return Err(Error::config("tokens", self.tokens, "want at least 1"));
        }
        if !(1..=1024).contains(&self.draft) {
            return Err(Error::config("draft", self.draft, "want 1 to 1024 tokens"));
        }
        if !(self.temperature > 0.0 && self.temperature <= 10.0) {
            return Err(Error::config("temperature", self.temperature, "want above 0 and at most 10"));
        }
        Ok(())
    }
}

/// Which message was handed over.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Squeezed {
    /// KL(full ‖ message) along the drafted answer, mean nats a token.
    pub kl: f64,
    /// Whether that is within the bound. Where it is not, no message was.
    pub within: bool,
    /// Messages that differ, of those that were sampled.
    pub messages: usize,
    /// Messages that were read to find this one, the shortest first.
    pub read: usize,
}

/// For each task the message to hand over.
pub(super) fn squeezed(reader: Reader<'_>, config: &SqueezeConfig, tasks: &[&Task]) -> Result<Vec<StandIn>> {
    reader.context.check_trajectory()?;
    let one =
        |(index, task): (usize, &&Task)| one(reader, config, task).map_err(|error| error.in_call(index));
    tasks.iter().enumerate().map(one).collect()
}

fn one(reader: Reader<'_>, config: &SqueezeConfig, task: &Task) -> Result<StandIn> {
    let (start, context) = (Instant::now(), reader.context);
    let mut cost = CallTokens::default();
    let messages = messages(reader, config, task, &mut cost)?;
    let tokens = reader.task_tokens(task)?;
    let answer = Answer::drafted(reader, &tokens, config.draft, &mut cost)?;
    let mut best: Option<(Squeezed, &Vec<u32>)> = None;
    for (index, message) in messages.iter().enumerate() {
        reader.guard.check()?;
        let mut cache = context.model().new_cache();
        let first = reader.prefill(&[message, &tokens[..]].concat(), &mut cache)?;
        let kl = divergence(&answer.full, &answer.behind(reader, &first, &mut cache)?);
        cost.prefilled += cache.logical_len();
        let found = Squeezed { kl, within: kl <= config.kl, messages: messages.len(), read: index + 1 };
        if best.as_ref().is_none_or(|(best, _)| found.within || kl < best.kl) {
            best = Some((found, message));
        }
        if found.within {
            break;
        }
    }
    let (found, message) = best.ok_or(Error::Empty { arg: "messages" })?;
    let found = Squeezed { read: if found.within { found.read } else { messages.len() }, ..found };
    let handed = StandIn::of_text(context, message.clone()).made(start.elapsed(), cost);
    Ok(StandIn { squeezed: Some(found), ..handed })
}

/// What was sampled, each once, template head first, the shortest first.
fn messages(
    reader: Reader<'_>,
    config: &SqueezeConfig,
    task: &Task,
    cost: &mut CallTokens,
) -> Result<Vec<Vec<u32>>> {
    let context = reader.context;
    let summary = SummaryConfig::default().with_scope(SummaryScope::Task);
    let request = reader.task_tokens(&summary.request(task))?;
    let mut behind = context.full.cache.fork();
    let first = reader.prefill(&request, &mut behind)?;
    cost.prefilled += request.len();
    let options = |number: usize| GenerateOptions {
        max_new_tokens: config.tokens,
        temperature: Some(config.temperature),
        seed: config.seed.wrapping_add(number as u64),
        top_p: None,
        top_k: None,
        ..context.settings.generate.clone()
    };
    let options: Vec<GenerateOptions> = (0..config.k).map(options).collect();
    let mut messages: Vec<Vec<u32>> = Vec::with_capacity(config.k);
    for options in options.chunks(context.settings.max_batch) {
        let mut caches: Vec<KvCache> = options.iter().map(|_| behind.fork()).collect();
        let (logits, mut ended) = (vec![first.clone(); options.len()], Ok(()));
        let mut on_token = |_: usize, _: u32, _: &str| {
            if ended.is_ok() {
                ended = reader.guard.check();
            }
            ended.is_ok()
        };
        let worker = context.worker();
        let made = worker.generate_batch_from_logits(&mut caches, &logits, options, &mut on_token);
        let made = made.map_err(Error::of_only_sequence)?;
        ended?;
        for made in made {
            cost.drafted += made.tokens.len();
            let (mut tokens, text) = (context.head().to_vec(), made.text.trim());
            if !text.is_empty() {
                tokens.extend(reader.line(&Segment::finding(text))?);
            }
            if !messages.contains(&tokens) {
                messages.push(tokens);
            }
        }
    }
    // Of equally long ones, the one that was sampled first.
    messages.sort_by_key(Vec::len);
    Ok(messages)
}

/// A short answer, and what the worker thinks of it over the full cache.
struct Answer {
    tokens: Vec<u32>,
    /// Whether its end is one of its opinions.
    ends: bool,
    full: Rows,
}

impl Answer {
    fn drafted(reader: Reader<'_>, task: &[u32], most: usize, cost: &mut CallTokens) -> Result<Self> {
        let context = reader.context;
        let mut behind = context.full.cache.fork();
        let first = reader.prefill(task, &mut behind)?;
        cost.prefilled += task.len();
        let stop_tokens = context.settings.generate.stop_tokens.clone();
        let options = GenerateOptions { stop_tokens, ..GenerateOptions::greedy(most) };
        let mut ended = Ok(());
        let mut on_token = |_: u32, _: &str| {
            ended = reader.guard.check();
            ended.is_ok()
        };
        let worker = context.worker();
        let made = worker.generate_from_logits(&mut behind.fork(), &first, &options, &mut on_token)?;
        ended?;
        cost.drafted += made.tokens.len();
        let ends = made.stopped == StopReason::Eos;
        let mut answer = Self { tokens: made.tokens, ends, full: rows(&first)? };
        answer.full = answer.behind(reader, &first, &mut behind)?;
        cost.prefilled += answer.read();
        Ok(answer)
    }

    /// Tokens that are read for all opinions.
    fn read(&self) -> usize {
        if self.ends { self.tokens.len() } else { self.tokens.len().saturating_sub(1) }
    }

    /// The opinions in front of each token, and in front of the end, behind `cache`, whose last token has the logits `first`.
    fn behind(&self, reader: Reader<'_>, first: &Tensor, cache: &mut KvCache) -> Result<Rows> {
        let read = &self.tokens[..self.read()];
        if read.is_empty() {
            return rows(first);
        }
        let more = reader.context.model().forward_all(read, cache)?;
        rows(&Tensor::cat(&[&first.unsqueeze(0)?, &more], 0)?)
    }
}
