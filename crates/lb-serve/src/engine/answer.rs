//! Answers under way: a step for all of them, and who hears what.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::Tensor;
use lb_model::{Chosen, Ended, GenerateOptions, KvCache, Lookup, SequenceId, Sequences, Worker};
use lb_session::CancelToken;
use tokio::sync::mpsc::UnboundedSender;

use super::prefix::Prefixes;
use super::stops::Stops;
use super::{Event, Finish, Job, Piece, Spoken, Told};
use crate::metrics::{Metrics, count};
use crate::{Refusal, Tenant};

/// Everything that is under way.
pub(super) struct Running<'w> {
    pub(super) worker: &'w Worker,
    pub(super) prefixes: Prefixes,
    pub(super) metrics: Arc<Metrics>,
    sequences: Sequences<'w>,
    answers: HashMap<SequenceId, Answer>,
    parallel: usize,
}

/// One answer.
struct Answer {
    tenant: Tenant,
    choice: usize,
    stops: Stops,
    log_probs: Option<usize>,
    by_number: bool,
    cancel: CancelToken,
    until: Instant,
    allowed: Duration,
    events: UnboundedSender<Event>,
    /// What was read before it, where others may begin alike.
    prompt: Option<Vec<u32>>,
    failed: Option<Refusal>,
    /// Open while it is written.
    _span: tracing::Span,
}

/// An answer that can be written: a cache with everything read, and what it goes on from.
pub(super) struct Ready {
    pub(super) cache: KvCache,
    pub(super) logits: Tensor,
    /// Texts that the answer may quote.
    pub(super) texts: Vec<Vec<u32>>,
    pub(super) draft: Vec<u32>,
    /// The tokens of the cache, where they are all that is in it.
    pub(super) prompt: Option<Vec<u32>>,
}

impl<'w> Running<'w> {
    pub(super) fn new(
        worker: &'w Worker,
        parallel: usize,
        prefix_bytes: usize,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (sequences, prefixes) = (Sequences::new(worker), Prefixes::new(prefix_bytes));
        Self { worker, prefixes, metrics, sequences, answers: HashMap::new(), parallel }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sequences.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.sequences.len() >= self.parallel
    }

    /// Takes up the answers of a job.
    pub(super) fn join(&mut self, job: &Job, spoken: &Spoken, ready: Ready) -> Result<(), Refusal> {
        let Ready { cache, logits, texts, draft, prompt } = ready;
        for choice in 0..spoken.choices {
            let seed = spoken.options.seed.wrapping_add(choice as u64);
            let options = GenerateOptions { seed, ..spoken.options.clone() };
            let mut lookup = Lookup::owning(texts.clone(), draft.clone());
            let guess = Box::new(move |written: &[u32], most: usize| lookup.guess(written, most));
            let id = self.sequences.join(cache.fork(), logits.clone(), &options, Some(guess))?;
            let answer = Answer {
                tenant: job.tenant.clone(),
                choice,
                stops: Stops::new(spoken.stops.clone()),
                log_probs: spoken.log_probs,
                by_number: spoken.by_number,
                cancel: job.cancel.clone(),
                until: job.until,
                allowed: job.allowed,
                events: job.events.clone(),
                prompt: prompt.clone(),
                failed: None,
                _span: tracing::info_span!(parent: &job.span, "answer", choice),
            };
            self.answers.insert(id, answer);
        }
        self.metrics.running.set(count(self.sequences.len()));
        Ok(())
    }

    /// A token of every answer.
    pub(super) fn step(&mut self) {
        if self.is_empty() {
            return;
        }
        self.let_go();
        let (answers, worker, metrics) = (&mut self.answers, self.worker, &self.metrics);
        let stepped = self.sequences.step(&mut |chosen| {
            metrics.generated.inc();
            answers.get_mut(&chosen.id).is_none_or(|answer| answer.hear(worker, chosen))
        });
        match stepped {
            Ok(ended) => ended.into_iter().for_each(|ended| self.end(ended)),
            // Nobody can be blamed, and the next step would fail as well.
            Err(error) => {
                let refusal = Refusal::from(error);
                for (id, answer) in self.answers.drain() {
                    self.sequences.leave(id);
                    answer.tell(Event::Refused(refusal.clone()));
                }
            }
        }
        self.metrics.running.set(count(self.sequences.len()));
    }

    /// Ends everything: the server has no time left.
    pub(super) fn abandon(&mut self) {
        for (id, answer) in self.answers.drain() {
            self.sequences.leave(id);
            answer.tell(Event::Refused(Refusal::Draining));
        }
        self.metrics.running.set(0);
    }

    /// Ends what was called off and what is late.
    fn let_go(&mut self) {
        let now = Instant::now();
        let over = |(id, answer): (&SequenceId, &Answer)| {
            let late = (now >= answer.until).then_some(Refusal::Deadline(answer.allowed));
            let off = answer.cancel.is_cancelled().then_some(Refusal::Cancelled);
            Some((*id, off.or(late)?))
        };
        let over: Vec<_> = self.answers.iter().filter_map(over).collect();
        for (id, refusal) in over {
            self.sequences.leave(id);
            if let Some(answer) = self.answers.remove(&id) {
                answer.tell(Event::Refused(refusal));
            }
        }
    }

    fn end(&mut self, ended: Ended) {
        let Ended { id, generation, cache } = ended;
        let Some(mut answer) = self.answers.remove(&id) else { return };
        let generation = match (generation, answer.failed.take()) {
            (Ok(generation), None) => generation,
            (Err(error), _) => return answer.tell(Event::Refused(error.into())),
            (_, Some(refusal)) => return answer.tell(Event::Refused(refusal)),
        };
        let finish = Finish::of(answer.stops.hit.take(), generation.stopped);
        let rest = answer.stops.rest();
        if !rest.is_empty() && !matches!(finish, Finish::Stop(_)) {
            let (tokens, ids) = (Vec::new(), Vec::new());
            answer.tell(Event::Text { choice: answer.choice, text: rest, tokens, ids });
        }
        let generated = generation.tokens.len();
        answer.tell(Event::Ended { choice: answer.choice, finish, generated });
        if let Some(mut tokens) = answer.prompt.take() {
            tokens.extend(generation.tokens);
            tokens.truncate(cache.logical_len());
            self.prefixes.keep(&answer.tenant, tokens, cache);
        }
    }
}

impl Answer {
    fn tell(&self, event: Event) {
        // Who has gone hears nothing.
        let _ = self.events.send(event);
    }

    /// False where the answer ends here.
    fn hear(&mut self, worker: &Worker, chosen: &Chosen<'_>) -> bool {
        let told = match self.log_probs.map(|most| told(worker, chosen, most)).transpose() {
            Ok(told) => told,
            Err(error) => {
                self.failed = Some(error.into());
                return false;
            }
        };
        let text = self.stops.push(chosen.text);
        let ids = if self.by_number { vec![chosen.token] } else { Vec::new() };
        if text.is_empty() && told.is_none() && ids.is_empty() {
            return self.stops.hit.is_none();
        }
        let tokens = told.into_iter().collect();
        let heard = self.events.send(Event::Text { choice: self.choice, text, tokens, ids });
        heard.is_ok() && self.stops.hit.is_none()
    }
}

fn told(worker: &Worker, chosen: &Chosen<'_>, most: usize) -> lb_model::Result<Told> {
    let (log_prob, likeliest) = chosen.log_probs(most)?;
    let piece = |id: u32| worker.tokenizer().decode(&[id]).map(|text| Piece { id, text });
    let likeliest = likeliest.into_iter().map(|(token, log_prob)| Ok((piece(token)?, log_prob)));
    let likeliest = likeliest.collect::<lb_model::Result<_>>()?;
    Ok(Told { token: piece(chosen.token)?, log_prob, likeliest })
}
