//! One training, and what comes of it.

use std::time::Instant;

use candle_core::Tensor;
use lb_model::{Differentiable, KvCache, PrefillOptions, Worker};
use lb_session::{CancelToken, Error as SessionError, OpenSession};
use lb_train::{Aim, loss};

use super::plan::VectorsPlan;
use super::row::{Behind, VectorsRow};
use crate::Result;
use crate::logs::LogItem;

/// Trains and measures with one worker.
pub(super) struct Measure<'a> {
    pub(super) worker: &'a Worker,
    pub(super) path: &'a Differentiable<'a>,
    pub(super) plan: &'a VectorsPlan,
    pub(super) cancel: &'a CancelToken,
}

impl Measure<'_> {
    /// Crams `tokens` and fills in `row`; `None` where it was called off.
    pub(super) fn row(&self, item: &LogItem, tokens: &[u32], row: VectorsRow) -> Result<Option<VectorsRow>> {
        let worker = self.worker;
        let cramming = self.plan.cramming(row.vectors);
        let begin = Instant::now();
        let crammed = cramming.run_tokens(worker, self.path, tokens, &mut |_| !self.cancel.is_cancelled())?;
        let train_ms = begin.elapsed().as_secs_f64() * 1e3;
        if self.cancel.is_cancelled() {
            return Ok(None);
        }
        let (text, rows) = (&crammed.text, crammed.text.vectors().rows());
        let begin = Instant::now();
        text.read_back(worker)?;
        let read_back_ms = begin.elapsed().as_secs_f64() * 1e3;
        let mut cache = worker.model().new_cache();
        let begin = Instant::now();
        let alone = worker.model().forward_all(tokens, &mut cache).map_err(SessionError::from)?;
        let read_text_ms = begin.elapsed().as_secs_f64() * 1e3;
        let rest = &tokens[1..];
        let mut behind = worker.model().new_cache();
        worker.model().forward_vectors(rows, &mut behind).map_err(SessionError::from)?;
        let given = worker.model().forward_all(tokens, &mut behind.fork()).map_err(SessionError::from)?;
        let sum = |logits: &Tensor| -> Result<f64> {
            let mean = loss(&logits.narrow(0, 0, rest.len())?, Aim::Tokens(rest))?;
            Ok(f64::from(mean.to_scalar::<f32>()?) * rest.len() as f64)
        };
        Ok(Some(VectorsRow {
            surprise: sum(&alone)?,
            behind: sum(&given)?,
            right: tokens.len() - text.exceptions(),
            exact: text.is_exact(),
            steps: crammed.steps,
            train_ms,
            read_back_ms,
            read_text_ms,
            bytes: text.bytes(),
            text_bytes: worker.tokenizer().decode(tokens).map_err(SessionError::from)?.len(),
            cache_bytes: cache.bytes(),
            target: self.target(item, &cache, &behind)?,
            ..row
        }))
    }

    /// The target behind the text, nothing and the vectors, the task read anew each time.
    fn target(&self, item: &LogItem, text: &KvCache, vectors: &KvCache) -> Result<Option<Behind>> {
        if self.plan.target_tokens == 0 || item.target.is_empty() || item.task.is_empty() {
            return Ok(None);
        }
        let (worker, model) = (self.worker, self.worker.model());
        let task = worker.session()?.task_tokens(item.task.as_str())?;
        let mut target = worker.tokenizer().encode_text(&item.target).map_err(SessionError::from)?;
        target.truncate(self.plan.target_tokens);
        let nll = |mut cache: KvCache| -> Result<f64> {
            let options = PrefillOptions::default();
            let first = model.prefill(&task, &mut cache, &options, &mut |_, _| {});
            let mut logits = vec![first.map_err(SessionError::from)?.unsqueeze(0)?];
            let before = &target[..target.len() - 1];
            if !before.is_empty() {
                logits.push(model.forward_all(before, &mut cache).map_err(SessionError::from)?);
            }
            Ok(f64::from(loss(&Tensor::cat(&logits, 0)?, Aim::Tokens(&target))?.to_scalar::<f32>()?))
        };
        let none = nll(model.new_cache())?;
        Ok(Some(Behind { text: nll(text.fork())?, none, vectors: nll(vectors.fork())? }))
    }
}
