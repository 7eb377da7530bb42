//! One episode, read once and looked at in many ways.

use std::time::Instant;

use candle_core::{D, Tensor};
use lb_am::{Budget, Compacted, Compaction, Compactor, Fidelity, LayerKv};
use lb_model::{KvCache, Worker};
use lb_session::Error as SessionError;
use lb_session::{BriefConfig, Briefing, WorkerSession};

use super::{Cell, Method};
use crate::Result;
use crate::episodes::{Episode, Question};
use crate::views::{TaskPass, Views, capture};

/// An episode in a worker's cache, with everything that a method may look at.
#[derive(Debug)]
pub struct Probe<'a> {
    worker: &'a Worker,
    episode: &'a Episode,
    session: WorkerSession,
    views: Views,
}

/// A question with the queries that it and its answer lead to behind the full cache.
#[derive(Debug)]
pub struct Asked {
    number: usize,
    /// The task's tokens, then the answer's, end of turn included.
    tokens: Vec<u32>,
    answer: usize,
    task: Vec<Tensor>,
    held_out: Vec<Tensor>,
}

/// What a method made.
enum Made {
    Full,
    Layers(Box<Compacted>),
    Briefing(Box<Briefing>),
}

impl<'a> Probe<'a> {
    /// `session` has read the log of `episode`.
    ///
    /// # Errors
    /// [`crate::Error::Session`] where the cache cannot be read.
    pub fn new(worker: &'a Worker, episode: &'a Episode, session: WorkerSession) -> Result<Self> {
        let views = Views::of(&session)?;
        Ok(Self { worker, episode, session, views })
    }

    /// Reads a question and its right answer behind the full cache.
    ///
    /// # Errors
    /// [`crate::Error::Session`] where they do not fit behind the log.
    pub fn ask(&self, number: usize) -> Result<Asked> {
        let question = self.question(number);
        let TaskPass { mut tokens, queries: task, mut cache, .. } =
            TaskPass::read(&self.session, &question.text)?;
        let tokenizer = self.worker.tokenizer();
        let mut answer = tokenizer.encode_text(&question.answer).map_err(SessionError::from)?;
        answer.extend(tokenizer.eos_ids().first());
        let held_out = capture(&self.session, &answer, &mut cache)?.queries;
        tokens.extend(&answer);
        Ok(Asked { number, tokens, answer: answer.len(), task, held_out })
    }

    fn question(&self, number: usize) -> &Question {
        &self.episode.questions[number]
    }

    fn group_size(&self) -> usize {
        self.worker.config().group_size()
    }

    /// Compacts by `method` to `ratio` and answers.
    ///
    /// # Errors
    /// [`crate::Error::Session`] for a configuration out of range or tensors that cannot be compacted.
    pub fn run(&mut self, asked: &Asked, method: &Method, ratio: f64) -> Result<Cell> {
        let (made, ms) = self.compact(asked, method, ratio)?;
        let seq_len = self.session.seq_len();
        let (cache, report) = match &made {
            Made::Full => (self.session.cache().fork(), None),
            Made::Layers(small) => {
                let cache = KvCache::from_compacted(small, seq_len, self.worker.config());
                (cache.map_err(SessionError::from)?, Some(&small.report))
            }
            Made::Briefing(briefing) => (briefing.cache().fork(), Some(briefing.report())),
        };
        let layers = cache.layers().map_err(SessionError::from)?;
        let fidelity = Fidelity::measure_caches(&self.views.layers, &layers, &asked.held_out);
        let fidelity = fidelity.map_err(SessionError::from)?;
        let question = self.question(asked.number);
        let (nll, right) = self.answer(cache.fork(), asked)?;
        Ok(Cell {
            method: method.name(),
            asked: if method.sizes_itself() { 0.0 } else { ratio },
            episode: self.episode.seed,
            question: asked.number,
            kind: question.kind,
            paraphrased: self.episode.is_paraphrased(asked.number),
            seq_len,
            keep_ratio: report.map_or(1.0, |report| report.keep_ratio),
            bytes_ratio: fidelity.sizes.bytes_ratio,
            error: fidelity.total.relative_l2,
            mass_error: fidelity.total.mass_error,
            estimated: report.and_then(|report| report.error_target).map(|target| target.estimated),
            nll,
            right,
            ms,
        })
    }

    fn compact(&mut self, asked: &Asked, method: &Method, ratio: f64) -> Result<(Made, f64)> {
        let started = Instant::now();
        let made = match method {
            Method::Full => Made::Full,
            Method::Compaction { compaction, on_policy: true, .. } => {
                let mut config = BriefConfig::from(&**compaction).with_on_policy(true);
                if !method.sizes_itself() {
                    config.compaction.budget = Budget::KeepRatio(ratio);
                }
                let question = self.question(asked.number).text.as_str();
                Made::Briefing(Box::new(self.session.brief(question, &config)?))
            }
            Method::Compaction { compaction, context_queries, .. } => {
                let mut config = (**compaction).clone();
                if !method.sizes_itself() {
                    config.budget = Budget::KeepRatio(ratio);
                }
                let queries = if *context_queries { self.views.context(&self.session)? } else { &asked.task };
                let units = self.session.unit_starts(config.spans);
                let mut compactor =
                    Compactor::new(&self.views.layers, queries, &config).group_size(self.group_size());
                if let Some(units) = &units {
                    compactor = compactor.units(units);
                }
                Made::Layers(Box::new(compactor.run().map_err(SessionError::from)?))
            }
            Method::Selection(selection) => {
                let kept_len = (ratio * self.session.seq_len() as f64).ceil() as usize;
                Made::Layers(Box::new(self.views.cut(&self.session, &asked.task, selection, kept_len)?))
            }
        };
        Ok((made, started.elapsed().as_secs_f64() * 1e3))
    }

    /// Reads the task and the right answer over `cache`: −ln p of the answer, and whether greedy decoding writes it.
    fn answer(&self, mut cache: KvCache, asked: &Asked) -> Result<(f64, bool)> {
        let logits =
            self.worker.model().forward_all(&asked.tokens, &mut cache).map_err(SessionError::from)?;
        let from = asked.tokens.len() - asked.answer;
        let rows = logits
            .narrow(0, from - 1, asked.answer)
            .and_then(|rows| log_softmax(&rows)?.to_vec2::<f32>())
            .map_err(|source| SessionError::from(lb_model::Error::from(source)))?;
        let (mut nll, mut right) = (0.0, true);
        for (row, token) in rows.iter().zip(&asked.tokens[from..]) {
            let own = row[*token as usize];
            nll -= f64::from(own);
            right &= row.iter().all(|other| *other <= own);
        }
        Ok((nll, right))
    }

    /// A compaction by the task's queries.
    ///
    /// # Errors
    /// [`crate::Error::Session`] for a configuration out of range.
    pub fn compacted(&self, asked: &Asked, config: &Compaction) -> Result<Compacted> {
        let compactor = Compactor::new(&self.views.layers, &asked.task, config).group_size(self.group_size());
        Ok(compactor.run().map_err(SessionError::from)?)
    }

    /// −ln p of the right answer over a compaction made elsewhere.
    ///
    /// # Errors
    /// [`crate::Error::Session`] where it does not fit the worker.
    pub fn nll(&self, asked: &Asked, layers: &[LayerKv]) -> Result<f64> {
        let mut cache = self.worker.model().new_cache();
        cache.append_layers(layers, self.session.seq_len()).map_err(SessionError::from)?;
        Ok(self.answer(cache, asked)?.0)
    }
}

/// ln of the softmax of each row, in the dtype of `rows`.
fn log_softmax(rows: &Tensor) -> candle_core::Result<Tensor> {
    let shifted = rows.broadcast_sub(&rows.max_keepdim(D::Minus1)?)?;
    shifted.broadcast_sub(&shifted.exp()?.sum_keepdim(D::Minus1)?.log()?)
}
