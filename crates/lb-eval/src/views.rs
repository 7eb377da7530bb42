//! A trajectory in a worker's cache, and what a method may look at of it.

use std::cell::OnceCell;
use std::collections::HashMap;

use candle_core::{D, Tensor};
use lb_am::{
    Compacted, Compaction, Kept, LayerKv, Protected,
    baselines::{self, Baseline, Needs, Observation},
    compact_at,
};
use lb_model::{Captured, KvCache, PrefillOptions};
use lb_session::Error as SessionError;
use lb_session::WorkerSession;

use crate::Result;

/// The full cache of a session, and queries that are computed where a method asks for them. The session that is named in
/// a call must be the one that it was made of, unchanged since.
#[derive(Debug)]
pub(crate) struct Views {
    pub(crate) layers: Vec<LayerKv>,
    context: OnceCell<Vec<Tensor>>,
    repeat: OnceCell<Vec<Tensor>>,
    /// Selections of baselines that do not look at the task, by name and size.
    selections: HashMap<(Baseline, usize), Vec<Kept>>,
}

impl Views {
    pub(crate) fn of(session: &WorkerSession) -> Result<Self> {
        let layers = session.cache().layers().map_err(SessionError::from)?;
        let (context, repeat) = (OnceCell::new(), OnceCell::new());
        Ok(Self { layers, context, repeat, selections: HashMap::new() })
    }

    /// What `baseline` keeps, `kept_len` slots a head, as it is.
    pub(crate) fn cut(
        &mut self,
        session: &WorkerSession,
        task: &[Tensor],
        baseline: Baseline,
        kept_len: usize,
    ) -> Result<Compacted> {
        let kept = self.select(session, task, baseline, kept_len)?;
        let config = Compaction::kept_len(kept_len).selection_only();
        Ok(compact_at(&self.layers, task, &kept, &config).map_err(SessionError::from)?)
    }

    /// Selections that look at no task are made once.
    fn select(
        &mut self,
        session: &WorkerSession,
        task: &[Tensor],
        baseline: Baseline,
        kept_len: usize,
    ) -> Result<Vec<Kept>> {
        if let Some(kept) = self.selections.get(&(baseline, kept_len)) {
            return Ok(kept.clone());
        }
        let needs = baseline.needs();
        let observation = Observation {
            layers: &self.layers,
            task,
            context: if needs == Needs::Context { Some(self.context(session)?) } else { None },
            repeat: if needs == Needs::Repeat { Some(self.repeat(session)?) } else { None },
            group_size: session.worker().config().group_size(),
        };
        let protect = Protected::default();
        let kept =
            baselines::select(baseline, &observation, kept_len, protect).map_err(SessionError::from)?;
        if needs != Needs::Task {
            self.selections.insert((baseline, kept_len), kept.clone());
        }
        Ok(kept)
    }

    /// The queries with which the worker reads the trajectory.
    pub(crate) fn context(&self, session: &WorkerSession) -> Result<&[Tensor]> {
        if let Some(queries) = self.context.get() {
            return Ok(queries);
        }
        let mut cache = session.worker().model().new_cache();
        let queries = capture(session, session.tokens(), &mut cache)?.queries;
        Ok(self.context.get_or_init(|| queries))
    }

    /// The queries with which it reads the trajectory once more, behind the request to repeat it.
    fn repeat(&self, session: &WorkerSession) -> Result<&[Tensor]> {
        if let Some(queries) = self.repeat.get() {
            return Ok(queries);
        }
        let tokenizer = session.worker().tokenizer();
        let mut tokens =
            tokenizer.encode_text("Repeat the previous context:\n").map_err(SessionError::from)?;
        tokens.extend(session.tokens());
        let queries = capture(session, &tokens, &mut session.cache().fork())?.queries;
        Ok(self.repeat.get_or_init(|| queries))
    }
}

/// Reads `tokens` behind `cache` and hands out their queries.
pub(crate) fn capture(session: &WorkerSession, tokens: &[u32], cache: &mut KvCache) -> Result<Captured> {
    let options = PrefillOptions::default();
    let captured = session.worker().model().prefill_capturing(tokens, cache, &options, &mut |_, _| {});
    Ok(captured.map_err(SessionError::from)?)
}

/// ln of the softmax of each row, in the dtype of `rows`.
pub(crate) fn log_softmax(rows: &Tensor) -> candle_core::Result<Tensor> {
    let shifted = rows.broadcast_sub(&rows.max_keepdim(D::Minus1)?)?;
    shifted.broadcast_sub(&shifted.exp()?.sum_keepdim(D::Minus1)?.log()?)
}
