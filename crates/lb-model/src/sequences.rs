//! Answers that begin and end at different times, one pass for all that are under way (continuous batching).

use std::fmt;
use std::time::{Duration, Instant};

use candle_core::{D, Tensor};

use crate::generate::{Decoding, Next};
use crate::generate_batch::Live;
use crate::{Error, GenerateOptions, Generation, KvCache, Result, StopReason, Worker};

/// Which sequence; no number is used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceId(u64);

/// A token that a sequence has just written.
#[derive(Debug)]
pub struct Chosen<'a> {
    /// Whose.
    pub id: SequenceId,
    /// The token.
    pub token: u32,
    /// The text that it completes, empty inside a character of several tokens.
    pub text: &'a str,
    logits: &'a Tensor,
}

impl Chosen<'_> {
    /// The natural logarithms of the probabilities that the model, whatever the temperature, gave the token and the `most` likeliest
    /// ones, likeliest first.
    ///
    /// # Errors
    /// [`Error::Tensor`].
    pub fn log_probs(&self, most: usize) -> Result<(f32, Vec<(u32, f32)>)> {
        let log_probs: Vec<f32> = candle_nn::ops::log_softmax(self.logits, D::Minus1)?.to_vec1()?;
        let mut best: Vec<u32> = (0..log_probs.len() as u32).collect();
        let by_chance = |a: &u32, b: &u32| {
            log_probs[*b as usize].total_cmp(&log_probs[*a as usize]).then_with(|| a.cmp(b))
        };
        if most < best.len() {
            best.select_nth_unstable_by(most, by_chance);
            best.truncate(most);
        }
        best.sort_unstable_by(by_chance);
        let best = best.into_iter().map(|token| (token, log_probs[token as usize])).collect();
        Ok((log_probs[self.token as usize], best))
    }
}

/// A sequence that has ended: what it wrote, and its cache as [`Worker::generate`] leaves it.
#[derive(Debug)]
pub struct Ended {
    /// Which.
    pub id: SequenceId,
    /// What was written, or what made it impossible to go on.
    pub generation: Result<Generation>,
    /// Everything that was read.
    pub cache: KvCache,
}

/// Says what a sequence may write next: what it has written, and how many tokens at most.
type Guess<'w> = Box<dyn FnMut(&[u32], usize) -> Vec<u32> + 'w>;

/// Sequences that are written token by token, each step one pass for all of them. They come and go between steps, and each writes
/// what it would write alone ([`Worker::generate_batch`] says how exactly).
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// use lb_model::{GenerateOptions, PrefillOptions, Sequences, Worker};
///
/// let worker = Worker::embedded()?;
/// let mut cache = worker.model().new_cache();
/// let prompt = worker.tokenizer().encode_prompt("The ledger is kept by")?;
/// let logits = worker.model().prefill(&prompt, &mut cache, &PrefillOptions::default(), &mut |_, _| {})?;
/// let mut sequences = Sequences::new(&worker);
/// let id = sequences.join(cache, logits, &GenerateOptions::greedy(8), None)?;
/// let mut heard = String::new();
/// let ended = loop {
///     let mut ended = sequences.step(&mut |chosen| {
///         heard.push_str(chosen.text);
///         true
///     })?;
///     if let Some(ended) = ended.pop() {
///         break ended;
///     }
/// };
/// assert_eq!(ended.id, id);
/// assert_eq!(ended.generation?.text, heard);
/// # }
/// # Ok::<(), lb_model::Error>(())
/// ```
pub struct Sequences<'w> {
    worker: &'w Worker,
    live: Vec<Sequence<'w>>,
    next: u64,
}

struct Sequence<'w> {
    id: SequenceId,
    cache: KvCache,
    live: Live<'w>,
    /// Of the token that was read before it came; needed once.
    before: Option<Tensor>,
    guess: Option<Guess<'w>>,
    begun: Instant,
}

impl<'w> Sequences<'w> {
    /// None yet.
    pub fn new(worker: &'w Worker) -> Self {
        Self { worker, live: Vec::new(), next: 0 }
    }

    /// How many are under way.
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// Whether none is under way.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// Bytes of all caches, shared slots counted each time.
    pub fn bytes(&self) -> usize {
        self.live.iter().map(|sequence| sequence.cache.bytes()).sum()
    }

    /// Takes up a sequence: its cache, and the logits (`[vocab]`, f32) of the last token in it. `guess` may say how it goes on, as
    /// [`Worker::generate_batch_guessed`] explains; what is written is the same.
    ///
    /// # Errors
    /// [`Error::Config`] for options out of range, [`Error::Shape`] for other logits, [`Error::Cache`] for another model's cache.
    pub fn join(
        &mut self,
        cache: KvCache,
        logits: Tensor,
        options: &GenerateOptions,
        guess: Option<Guess<'w>>,
    ) -> Result<SequenceId> {
        let decoding = Decoding::new(self.worker, options)?;
        self.worker.check_logits(&logits)?;
        self.worker.model().check_cache(&cache)?;
        let id = SequenceId(self.next);
        self.next += 1;
        let (live, begun) = (Live::begun(0, decoding), Instant::now());
        self.live.push(Sequence { id, cache, live, before: Some(logits), guess, begun });
        Ok(id)
    }

    /// Ends a sequence here; `None` where it is not under way.
    pub fn leave(&mut self, id: SequenceId) -> Option<Ended> {
        let at = self.live.iter().position(|sequence| sequence.id == id)?;
        Some(self.live.remove(at).ended(self.worker, StopReason::Callback))
    }

    /// Writes at least one token of every sequence, more where a guess was right, and gives back those that have ended. `on_token`
    /// hears each token and ends its sequence by returning false.
    ///
    /// # Errors
    /// What is at fault in one sequence ends that one and is told in its [`Ended`]. Where the pass itself fails, [`Error::Tensor`]
    /// and the like, all are as before.
    pub fn step(&mut self, on_token: &mut dyn FnMut(&Chosen<'_>) -> bool) -> Result<Vec<Ended>> {
        let worker = self.worker;
        let mut failed: Vec<Option<Error>> = Vec::with_capacity(self.live.len());
        for (index, sequence) in self.live.iter_mut().enumerate() {
            sequence.live.index = index;
            let Sequence { live, cache, guess, .. } = sequence;
            let mut guess = |_: usize, written: &[u32], most: usize| match guess {
                Some(guess) => guess(written, most),
                None => Vec::new(),
            };
            failed.push(worker.guess(live, cache, &mut guess).err());
        }
        let mut ended = self.remove(failed);
        let (mut caches, mut unread) = (Vec::new(), Vec::new());
        for (index, sequence) in self.live.iter_mut().enumerate() {
            caches.push(&mut sequence.cache);
            unread.push((index, sequence.live.unread()));
        }
        let mut read = worker.read(&mut caches, unread.into_iter(), false)?.into_iter();
        let mut stopped: Vec<(usize, Result<StopReason>)> = Vec::new();
        for (index, sequence) in self.live.iter_mut().enumerate() {
            let Sequence { id, cache, live, before, .. } = sequence;
            let own = if live.unread().is_empty() { None } else { read.next() };
            let mut hear =
                |token: u32, text: &str, logits: &Tensor| on_token(&Chosen { id: *id, token, text, logits });
            match worker.hold(live, before.take().as_ref(), own.as_ref(), cache, &mut hear) {
                Ok((Next::Read(token), _)) => live.pending = Some(token),
                Ok((Next::Stop(reason), _)) => stopped.push((index, Ok(reason))),
                Err(error) => stopped.push((index, Err(error))),
            }
        }
        for (index, reason) in stopped.into_iter().rev() {
            let sequence = self.live.remove(index);
            ended.push(match reason {
                Ok(reason) => sequence.ended(worker, reason),
                Err(error) => sequence.failed(error),
            });
        }
        Ok(ended)
    }

    /// Those at fault.
    fn remove(&mut self, failed: Vec<Option<Error>>) -> Vec<Ended> {
        let mut ended = Vec::new();
        for (index, error) in failed.into_iter().enumerate().rev() {
            if let Some(error) = error {
                ended.push(self.live.remove(index).failed(error));
            }
        }
        ended
    }
}

impl Sequence<'_> {
    fn ended(self, worker: &Worker, reason: StopReason) -> Ended {
        let Self { id, cache, live, begun, .. } = self;
        Ended { id, generation: live.decoding.finish(worker, reason, begun.elapsed()), cache }
    }

    fn failed(self, error: Error) -> Ended {
        Ended { id: self.id, generation: Err(error), cache: self.cache }
    }
}

impl fmt::Debug for Sequences<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let age = self.live.iter().map(|sequence| sequence.begun.elapsed()).max().unwrap_or(Duration::ZERO);
        f.debug_struct("Sequences")
            .field("live", &self.live.len())
            .field("oldest", &age)
            .finish_non_exhaustive()
    }
}
