//! Workers with a standing task each.

use lb_am::{HeadAgg, ScoreAgg, layer_position_scores};
use lb_model::{PrefillOptions, Worker};
use lb_session::{Handoff, OpenSession, Outcome, Segment, SessionConfig, Task, WorkerSession, relevance};
use serde::{Deserialize, Serialize};

use super::gate::{Gate, GateBy};
use crate::{Error, Result};

/// Tokens that were read so that segments reach workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaderTokens {
    /// Into workers' caches: each segment once for each worker that reads it.
    pub read: usize,
    /// So that the gate can decide: each segment once, and each worker's task behind it.
    pub gate: usize,
}

impl ReaderTokens {
    /// Both.
    pub fn total(&self) -> usize {
        self.read + self.gate
    }
}

/// What became of a segment.
#[derive(Clone, Debug, PartialEq)]
pub struct Offered {
    /// How much each worker wants it: from 0 to 1 by attention; of no unit by words; 0 where everyone reads.
    pub scores: Vec<f64>,
    /// Who read it.
    pub readers: Vec<usize>,
}

/// Workers of one model with a standing task each, their caches apart. A segment that is offered is read by the workers that the [`Gate`]
/// chooses.
pub struct Readers {
    gate: Gate,
    tasks: Vec<Task>,
    sessions: Vec<WorkerSession>,
    /// Template head alone: what a segment is read behind so that the gate can look at it.
    scout: WorkerSession,
    offered: Vec<Segment>,
    /// Tokens in each one's cache.
    read: Vec<usize>,
    tokens: ReaderTokens,
}

impl std::fmt::Debug for Readers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Readers")
            .field("gate", &self.gate)
            .field("tasks", &self.tasks)
            .finish_non_exhaustive()
    }
}

impl Readers {
    /// One worker for each of `tasks`, with nothing read.
    ///
    /// # Errors
    /// [`Error::Config`] without tasks and for a gate that nobody passes; [`Error::Session`] for a worker that has no template.
    pub fn new<T: Into<Task>>(
        worker: &Worker,
        tasks: impl IntoIterator<Item = T>,
        gate: Gate,
    ) -> Result<Self> {
        Self::with(worker, tasks, gate, &SessionConfig::default())
    }

    /// The same with sessions by `config`.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub fn with<T: Into<Task>>(
        worker: &Worker,
        tasks: impl IntoIterator<Item = T>,
        gate: Gate,
        config: &SessionConfig,
    ) -> Result<Self> {
        gate.validate()?;
        let tasks: Vec<Task> = tasks.into_iter().map(Into::into).collect();
        if tasks.is_empty() {
            return Err(Error::config("tasks", "none", "want at least one"));
        }
        let session = || WorkerSession::with(worker, config.clone());
        let sessions = tasks.iter().map(|_| session()).collect::<lb_session::Result<Vec<_>>>()?;
        let (read, tokens) = (vec![0; tasks.len()], ReaderTokens::default());
        Ok(Self { gate, tasks, sessions, scout: worker.session()?, offered: Vec::new(), read, tokens })
    }

    /// Gives `segment` to the workers that the gate chooses.
    ///
    /// # Errors
    /// [`Error::Session`] where it does not fit a worker that is to read it; those before it in order have read it then.
    pub fn offer(&mut self, segment: Segment) -> Result<Offered> {
        let scores = self.scores(&segment)?;
        let readers = self.gate.choose(&scores, &self.read);
        for &number in &readers {
            let before = self.sessions[number].seq_len();
            self.sessions[number].extend(segment.clone())?;
            let read = self.sessions[number].seq_len() - before;
            self.read[number] += read;
            self.tokens.read += read;
        }
        self.offered.push(segment);
        Ok(Offered { scores, readers })
    }

    fn scores(&mut self, segment: &Segment) -> Result<Vec<f64>> {
        let count = self.tasks.len();
        match self.gate.by {
            GateBy::All => Ok(vec![0.0; count]),
            // With as many places as workers there is nothing to decide.
            _ if self.gate.active >= count => Ok(vec![0.0; count]),
            GateBy::Attention => self.attention(segment),
            GateBy::Bm25 => {
                let texts: Vec<&str> =
                    self.offered.iter().chain([segment]).map(|segment| segment.text.as_str()).collect();
                let last = |task: &Task| relevance(&task.question, &texts).pop().unwrap_or(0.0);
                Ok(self.tasks.iter().map(last).collect())
            }
            GateBy::Random { seed } => {
                let number = self.offered.len() as u64;
                Ok((0..count as u64).map(|worker| drawn(seed, number, worker)).collect())
            }
        }
    }

    /// What share of its attention each task gives the segment; what it gives the template's head is the rest.
    fn attention(&mut self, segment: &Segment) -> Result<Vec<f64>> {
        let mut scout = self.scout.fork();
        scout.extend(segment.clone())?;
        let head = scout.head_len();
        self.tokens.gate += scout.seq_len() - head;
        let (model, config) = (scout.worker().model(), scout.worker().config());
        let layers = config.of_global_layers(scout.cache().layers()?);
        let mut shares = Vec::with_capacity(self.tasks.len());
        for task in &self.tasks {
            let tokens = scout.task_tokens(task)?;
            self.tokens.gate += tokens.len();
            let options = PrefillOptions::default();
            let read =
                model.prefill_capturing(&tokens, &mut scout.cache().fork(), &options, &mut |_, _| {})?;
            let queries = config.of_global_layers(read.queries);
            let scores = layer_position_scores(&layers, &queries, ScoreAgg::Mean, HeadAgg::Mean)?;
            let share = scores.iter().map(|layer| {
                let sum = |of: &[f32]| of.iter().copied().map(f64::from).sum::<f64>();
                sum(&layer[head.min(layer.len())..]) / sum(layer).max(f64::MIN_POSITIVE)
            });
            shares.push(share.sum::<f64>() / scores.len().max(1) as f64);
        }
        Ok(shares)
    }

    /// Answers the standing task of worker `number` over what it has read.
    ///
    /// # Errors
    /// [`Error::NoWorker`]; [`Error::Session`], also where it has read nothing and the handoff needs something.
    pub fn ask(&mut self, number: usize, handoff: &Handoff) -> Result<Outcome> {
        let count = self.tasks.len();
        let task = self.tasks.get(number).ok_or(Error::NoWorker { number, count })?.clone();
        Ok(self.sessions[number].ask(task).via(handoff).run()?)
    }

    /// The session of worker `number`.
    ///
    /// # Errors
    /// [`Error::NoWorker`].
    pub fn session(&mut self, number: usize) -> Result<&mut WorkerSession> {
        let count = self.sessions.len();
        self.sessions.get_mut(number).ok_or(Error::NoWorker { number, count })
    }

    /// How many workers there are.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Never: there is at least one.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Tokens that were read until now, answers not counted in.
    pub fn tokens(&self) -> ReaderTokens {
        self.tokens
    }
}

/// From 0 to 1, by lot (SplitMix64).
fn drawn(seed: u64, number: u64, worker: u64) -> f64 {
    let mixed =
        seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ worker.wrapping_mul(0xD1B5_4A32_D192_ED03);
    let mut x = mixed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((x ^ (x >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}
