//! From a cache and a task to an answer.

use std::time::{Duration, Instant};

use candle_core::Tensor;
use lb_model::{GenerateOptions, Generation, KvCache, StopReason};

use crate::briefing::Briefing;
use crate::ledger::{CallRecord, CallTimes, CallTokens};
use crate::session::WorkerSession;
use crate::{Ask, Chances, Choices, Error, HandoffKind, Result, Task};

/// What a worker answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The text, trimmed.
    pub text: String,
    /// Why it ended: at the limit of tokens or of the model's positions it is cut.
    pub stopped: StopReason,
    /// What it cost.
    pub tokens: CallTokens,
    /// What the worker thought of the choices, where [`Ask::choices`] asked for that and it can be told.
    pub chances: Option<Chances>,
    /// From the call to the last token: reading the task and generating, without the briefing. In a batch, the time of
    /// the calls that were answered together.
    pub elapsed: Duration,
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// A call that only has to be generated, and what it costs until then.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) cache: KvCache,
    pub(crate) prompt: Prompted,
    pub(crate) cost: CallTokens,
    pub(crate) from: From,
}

/// What a call's cache was made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct From {
    pub(crate) handoff: HandoffKind,
    pub(crate) seq_len: usize,
    pub(crate) kept_len: usize,
    /// Time that it took.
    pub(crate) brief: Duration,
}

#[derive(Debug)]
pub(crate) enum Prompted {
    /// To be read behind the cache.
    Tokens(Vec<u32>),
    /// In the cache; the logits of its last token.
    Read(Tensor),
}

impl Prompted {
    fn len(&self) -> usize {
        match self {
            Self::Tokens(tokens) => tokens.len(),
            Self::Read(_) => 0,
        }
    }
}

impl Call {
    /// A call that reads `tokens` behind `cache`, on top of what `cost` says of the cache itself.
    pub(crate) fn reading(cache: KvCache, tokens: Vec<u32>, cost: CallTokens, from: From) -> Self {
        let attended = cache.mean_slots() + tokens.len();
        let cost = CallTokens { attended, prefilled: cost.prefilled + tokens.len(), ..cost };
        Self { cache, prompt: Prompted::Tokens(tokens), cost, from }
    }
}

/// Sequences that were generated together.
pub(crate) struct Generated {
    pub(crate) generations: Vec<Generation>,
    /// Of each cache when its prompt was read.
    pub(crate) bytes: Vec<usize>,
    /// Of the choices behind each prompt.
    pub(crate) chances: Vec<Option<Chances>>,
    pub(crate) prefill: Duration,
    pub(crate) decode: Duration,
}

impl WorkerSession {
    /// Answers `task` over a briefing.
    ///
    /// # Errors
    /// [`Error::TaskMismatch`] where the briefing reuses the state of another task; [`Error::Model`].
    pub fn answer(&mut self, briefing: &Briefing, task: impl Into<Task>) -> Result<Answer> {
        self.answer_with(briefing, task, &mut Ask::new())
    }

    /// Like [`answer`](Self::answer); `on_text` hears the text as it comes and stops the answer by returning false.
    ///
    /// # Errors
    /// Those of [`answer`](Self::answer).
    pub fn answer_streaming(
        &mut self,
        briefing: &Briefing,
        task: impl Into<Task>,
        on_text: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Answer> {
        self.answer_with(briefing, task, &mut Ask::new().heard_by(&mut |_, text| on_text(text)))
    }

    /// Like [`answer`](Self::answer), carried out as `ask` says.
    ///
    /// # Errors
    /// Those of [`answer`](Self::answer), [`Error::Cancelled`] and [`Error::Timeout`] where `ask` ended it: nothing is
    /// recorded then.
    pub fn answer_with(
        &mut self,
        briefing: &Briefing,
        task: impl Into<Task>,
        ask: &mut Ask<'_>,
    ) -> Result<Answer> {
        let call = self.call_over(briefing, task.into())?;
        self.watched(ask, |session, ask| {
            Ok(session.answer_calls(vec![call], &[0], ask).map_err(of_one)?.remove(0).0)
        })
    }

    /// What there is to do for `task` over a briefing.
    pub(crate) fn call_over(&self, briefing: &Briefing, task: Task) -> Result<Call> {
        let mut cache = briefing.cache.fork();
        let kept = cache.mean_slots();
        let from = From {
            handoff: HandoffKind::LatentBriefing,
            seq_len: briefing.seq_len(),
            kept_len: briefing.kept_len,
            brief: briefing.timing.total(),
        };
        // The passes that yielded the queries belong to this call.
        let cost = CallTokens { prefilled: briefing.prefilled, reused: kept, ..CallTokens::default() };
        let Some(reused) = &briefing.reused else {
            let tokens = self.prompt.task(&self.worker, &task, &self.watch)?;
            return Ok(Call::reading(cache, tokens, cost, from));
        };
        if task != briefing.task {
            let (made_for, asked) = (briefing.task.question.clone(), task.question);
            return Err(Error::TaskMismatch { made_for, asked });
        }
        cache.append_layers(&reused.layers, reused.len())?;
        let cost = CallTokens { attended: cache.mean_slots(), ..cost };
        Ok(Call { cache, prompt: Prompted::Read(reused.logits.clone()), cost, from })
    }

    /// Answers calls that have their caches already, all at once. To who listens they have these numbers; in errors they
    /// are counted from 0.
    pub(crate) fn answer_calls(
        &mut self,
        calls: Vec<Call>,
        numbers: &[usize],
        ask: &mut Ask<'_>,
    ) -> Result<Vec<(Answer, CallRecord)>> {
        let mut options = self.config.generate.clone();
        options.max_new_tokens = ask.max_new_tokens.unwrap_or(options.max_new_tokens);
        let (mut caches, mut prompts, mut kinds) = (Vec::new(), Vec::new(), Vec::new());
        for Call { cache, prompt, cost, from } in calls {
            caches.push(cache);
            prompts.push(prompt);
            kinds.push((cost, from));
        }
        let mut hear = |index: usize, text: &str| match &mut ask.on_text {
            Some(on_text) => on_text(numbers[index], text),
            None => true,
        };
        let choices = ask.choices;
        let generated = self.generate_over(&mut caches, &prompts, &options, choices, &mut hear)?;
        let read = shares(generated.prefill, prompts.iter().map(Prompted::len));
        // The token that ends an answer is a pass as well.
        let made = shares(generated.decode, generated.generations.iter().map(|made| made.tokens.len() + 1));
        let mut answers = Vec::with_capacity(kinds.len());
        for (index, (made_here, (cost, from))) in generated.generations.iter().zip(kinds).enumerate() {
            let tokens = CallTokens { generated: made_here.tokens.len(), ..cost };
            let From { handoff, seq_len, kept_len, brief } = from;
            let times = CallTimes { prefill: read[index], brief, decode: made[index] };
            let cache_bytes = generated.bytes[index];
            let record = CallRecord { handoff, tokens, times, cache_bytes, seq_len, kept_len };
            let elapsed = generated.prefill + made_here.decode;
            let (text, stopped) = (made_here.text.trim().to_owned(), made_here.stopped);
            self.ledger.record(record);
            let chances = generated.chances[index].clone();
            answers.push((Answer { text, stopped, tokens, chances, elapsed }, record));
        }
        Ok(answers)
    }

    /// Reads what is to be read and generates, until the call is ended.
    pub(crate) fn generate_over(
        &self,
        caches: &mut [KvCache],
        prompts: &[Prompted],
        options: &GenerateOptions,
        choices: Option<&Choices>,
        hear: &mut dyn FnMut(usize, &str) -> bool,
    ) -> Result<Generated> {
        let start = Instant::now();
        let logits = self.read_prompts(caches, prompts)?;
        let prefill = start.elapsed();
        let bytes = caches.iter().map(KvCache::bytes).collect();
        let over = |cache: &KvCache| match choices {
            Some(choices) => choices.over(&self.worker, cache),
            None => Ok(None),
        };
        let chances = caches.iter().map(over).collect::<Result<_>>()?;
        let start = Instant::now();
        let mut ended = Ok(());
        let options = vec![options.clone(); caches.len()];
        let mut on_token = |index: usize, _: u32, text: &str| {
            if ended.is_ok() {
                ended = self.watch.check();
            }
            let goes_on = ended.is_ok() && hear(index, text);
            if ended.is_ok() {
                ended = self.watch.check();
            }
            goes_on && ended.is_ok()
        };
        let generations = self.worker.generate_batch_from_logits(caches, &logits, &options, &mut on_token);
        let generations = generations.map_err(|error| of_call(error, &|index| index))?;
        ended?;
        Ok(Generated { generations, bytes, chances, prefill, decode: start.elapsed() })
    }

    /// The logits of the last token of each prompt.
    fn read_prompts(&self, caches: &mut [KvCache], prompts: &[Prompted]) -> Result<Vec<Tensor>> {
        let mut logits: Vec<Option<Tensor>> = Vec::with_capacity(prompts.len());
        let (mut numbers, mut tokens, mut unread) = (Vec::new(), Vec::new(), Vec::new());
        for ((number, prompt), cache) in prompts.iter().enumerate().zip(caches) {
            match prompt {
                Prompted::Read(own) => logits.push(Some(own.clone())),
                Prompted::Tokens(own) => {
                    logits.push(None);
                    numbers.push(number);
                    tokens.push(own.as_slice());
                    unread.push(cache);
                }
            }
        }
        let mut go_on = |_, _| self.watch.goes_on();
        let (model, options) = (self.worker.model(), &self.config.prefill);
        let made = model.prefill_batch_while(&tokens, &mut unread, options, &mut go_on);
        let made = made.map_err(|error| of_call(error, &|index| numbers[index]))?;
        for (number, made) in numbers.iter().zip(made) {
            logits[*number] = Some(made);
        }
        Ok(logits.into_iter().flatten().collect())
    }
}

/// An error of the model, by the number of the call rather than that of the sequence.
pub(crate) fn of_call(error: lb_model::Error, number: &dyn Fn(usize) -> usize) -> Error {
    match error {
        lb_model::Error::Sequence { index, source } => Error::Model(*source).in_call(number(index)),
        other => Error::Model(other),
    }
}

/// The error of a batch of one.
pub(crate) fn of_one(error: Error) -> Error {
    match error {
        Error::Call { source, .. } => *source,
        other => other,
    }
}

/// An equal share.
pub(crate) fn share(whole: Duration, of: usize) -> Duration {
    whole / u32::try_from(of.max(1)).unwrap_or(u32::MAX)
}

/// Shares in proportion to `weights`.
fn shares(whole: Duration, weights: impl Iterator<Item = usize>) -> Vec<Duration> {
    let weights: Vec<usize> = weights.collect();
    let sum = weights.iter().sum::<usize>().max(1);
    weights.iter().map(|weight| whole.mul_f64(*weight as f64 / sum as f64)).collect()
}
