//! From caches and what is to be read behind them to text.

mod choices;

use std::cell::RefCell;
use std::time::{Duration, Instant};

use candle_core::Tensor;
use lb_model::{GenerateOptions, Generation, KvCache, Lookup};

use crate::briefing::Renewing;
use crate::context::Reader;
use crate::{Error, Result};

pub use choices::{Chances, Choices};

/// What is read behind a cache before the worker writes.
#[derive(Debug)]
pub(crate) enum Input {
    /// Not read yet.
    Tokens(Vec<u32>),
    /// In the cache already; the logits of its last token.
    InCache(Tensor),
}

impl Input {
    /// Tokens to read.
    pub(crate) fn unread(&self) -> usize {
        match self {
            Self::Tokens(tokens) => tokens.len(),
            Self::InCache(_) => 0,
        }
    }
}

/// Sequences that were generated together.
pub(crate) struct Generated {
    pub(crate) generations: Vec<Generation>,
    /// Of each cache when its input was read.
    pub(crate) bytes: Vec<usize>,
    /// Of the choices behind each input.
    pub(crate) chances: Vec<Option<Chances>>,
    pub(crate) prefill: Duration,
    pub(crate) decode: Duration,
}

/// Hears the number of a sequence, the queries of what it has read, and its cache.
type OnRead<'a> = &'a mut dyn FnMut(usize, Vec<Tensor>, &mut KvCache) -> lb_model::Result<()>;

/// Hears the number of a sequence and a piece of its text; false ends that sequence there.
pub(crate) type Hear<'a> = &'a mut dyn FnMut(usize, &str) -> bool;

/// Reads what is to be read and generates, until the call is ended.
pub(crate) fn generate(
    reader: Reader<'_>,
    caches: &mut [KvCache],
    inputs: &[Input],
    (drafts, renewing): (&[Vec<u32>], &mut [Option<Renewing<'_>>]),
    options: &GenerateOptions,
    choices: Option<&Choices>,
    hear: Hear<'_>,
) -> Result<Generated> {
    let worker = reader.context.worker();
    let start = Instant::now();
    let logits = read(reader, caches, inputs)?;
    let prefill = start.elapsed();
    let bytes = caches.iter().map(KvCache::bytes).collect();
    let over = |cache: &KvCache| match choices {
        Some(choices) => choices.over(worker, cache),
        None => Ok(None),
    };
    let chances = caches.iter().map(over).collect::<Result<_>>()?;
    let start = Instant::now();
    let lookups = inputs.iter().enumerate().map(lookup(reader, drafts)).collect();
    let generations = write(reader, caches, &logits, (lookups, renewing), options, hear)?;
    Ok(Generated { generations, bytes, chances, prefill, decode: start.elapsed() })
}

/// Writes behind what was read, until the call is ended.
fn write(
    reader: Reader<'_>,
    caches: &mut [KvCache],
    logits: &[Tensor],
    (mut lookups, renewing): (Vec<Lookup<'_>>, &mut [Option<Renewing<'_>>]),
    options: &GenerateOptions,
    hear: Hear<'_>,
) -> Result<Vec<Generation>> {
    let (worker, guard) = (reader.context.worker(), reader.guard);
    let mut ended = Ok(());
    let options = vec![options.clone(); caches.len()];
    let mut on_token = |index: usize, _: u32, text: &str| {
        if ended.is_ok() {
            ended = guard.check();
        }
        let goes_on = ended.is_ok() && hear(index, text);
        if ended.is_ok() {
            ended = guard.check();
        }
        goes_on && ended.is_ok()
    };
    let mut failed = None;
    let renews = renewing.iter().any(Option::is_some);
    let renewing = RefCell::new(renewing);
    let mut on_read = |index: usize, queries: Vec<Tensor>, cache: &mut KvCache| {
        let mut renewing = renewing.borrow_mut();
        let Some(Some(renewing)) = renewing.get_mut(index) else { return Ok(()) };
        renewing.heard(queries, cache).map_err(|error| {
            failed = Some(error.in_call(index));
            lb_model::Error::Interrupted
        })
    };
    let on_read: Option<OnRead<'_>> = if renews { Some(&mut on_read) } else { None };
    let mut guess = |index: usize, written: &[u32], most: usize| {
        let renewing = renewing.borrow();
        // What is read at once is not renewed in between; a draft, which comes first and of the full cache, needs none.
        let own = renewing.get(index).and_then(Option::as_ref).filter(|_| !written.is_empty());
        lookups[index].guess(written, own.map_or(most, |renewing| most.min(renewing.room() - 1)))
    };
    let made = worker.generate_batch_guessed(caches, logits, &options, &mut on_token, &mut guess, on_read);
    if let Some(error) = failed {
        return Err(error);
    }
    let generations = made.map_err(|error| Error::of_sequence(error, |index| index))?;
    ended?;
    Ok(generations)
}

/// Guesses from the trajectory's text and what was read besides, and the draft before that.
fn lookup<'a>(reader: Reader<'a>, drafts: &'a [Vec<u32>]) -> impl Fn((usize, &'a Input)) -> Lookup<'a> {
    move |(index, input)| {
        let mut texts = reader.context.texts();
        if let (Input::Tokens(own), false) = (input, texts.is_empty()) {
            texts.push(own);
        }
        Lookup::new(texts, drafts.get(index).cloned().unwrap_or_default())
    }
}

/// The logits of the last token of each input.
fn read(reader: Reader<'_>, caches: &mut [KvCache], inputs: &[Input]) -> Result<Vec<Tensor>> {
    let mut logits: Vec<Option<Tensor>> = Vec::with_capacity(inputs.len());
    let (mut numbers, mut tokens, mut unread) = (Vec::new(), Vec::new(), Vec::new());
    for ((number, input), cache) in inputs.iter().enumerate().zip(caches) {
        match input {
            Input::InCache(own) => logits.push(Some(own.clone())),
            Input::Tokens(own) => {
                logits.push(None);
                numbers.push(number);
                tokens.push(own.as_slice());
                unread.push(cache);
            }
        }
    }
    let mut go_on = |_, _| reader.guard.goes_on();
    let (model, options) = (reader.context.model(), &reader.context.settings.prefill);
    let made = model.prefill_batch_while(&tokens, &mut unread, options, &mut go_on);
    let made = made.map_err(|error| Error::of_sequence(error, |index| numbers[index]))?;
    for (number, made) in numbers.iter().zip(made) {
        logits[*number] = Some(made);
    }
    Ok(logits.into_iter().flatten().collect())
}
