//! A trajectory in a worker's cache, and what a selection may look at of it.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use candle_core::Tensor;
use lb_am::{Compacted, Compaction, Compactor, Kept, LayerKv, Selection, Spans};
use lb_model::{Captured, KvCache, PrefillOptions};
use lb_session::Error as SessionError;
use lb_session::WorkerSession;

use crate::Result;
use crate::condition::Selected;
use crate::hierarchy::{Hierarchy, Known};

/// A task, read once behind the full cache.
#[derive(Debug)]
pub(crate) struct TaskPass {
    pub(crate) tokens: Vec<u32>,
    /// The task's queries, layer by layer.
    pub(crate) queries: Vec<Tensor>,
    /// Of its last token, `[vocab]`, f32.
    pub(crate) logits: Tensor,
    /// The full cache with the task behind it.
    pub(crate) cache: KvCache,
    pub(crate) time: Duration,
}

impl TaskPass {
    pub(crate) fn read(session: &WorkerSession, task: &str) -> Result<Self> {
        let tokens = session.task_tokens(task)?;
        let mut cache = session.cache().fork();
        let start = Instant::now();
        let Captured { queries, logits } = capture(session, &tokens, &mut cache)?;
        Ok(Self { tokens, queries, logits, cache, time: start.elapsed() })
    }

    /// The task's own keys and values, as [`TaskState::Reuse`](lb_session::TaskState) keeps them.
    pub(crate) fn state(&self, session: &WorkerSession) -> Result<Vec<LayerKv>> {
        let from = session.seq_len();
        Ok(self.cache.layers_range(from, from + self.tokens.len()).map_err(SessionError::from)?)
    }
}

/// The full cache of a session, and queries that are computed where a method asks for them. The session that is named in
/// a call must be the one that it was made of, unchanged since.
#[derive(Debug)]
pub(crate) struct Views {
    pub(crate) layers: Vec<LayerKv>,
    context: OnceCell<Vec<Tensor>>,
    repeat: OnceCell<Vec<Tensor>>,
    /// Selections that do not look at the task, with their sizes.
    selections: HashMap<(Selection, usize), Vec<Kept>>,
    /// Chunks that were compacted without a task.
    latents: Known,
}

impl Views {
    pub(crate) fn of(session: &WorkerSession) -> Result<Self> {
        let layers = session.cache().layers().map_err(SessionError::from)?;
        let (context, repeat) = (OnceCell::new(), OnceCell::new());
        Ok(Self { layers, context, repeat, selections: HashMap::new(), latents: Known::default() })
    }

    /// Those of `session`, made once.
    pub(crate) fn once<'a>(made: &'a mut Option<Self>, session: &WorkerSession) -> Result<&'a mut Self> {
        match made {
            Some(views) => Ok(views),
            none => Ok(none.insert(Self::of(session)?)),
        }
    }

    /// What a selection keeps, in a cache of its own; and how long that took, the pass of the task counted in
    /// where its queries are looked at.
    pub(crate) fn selected(
        &mut self,
        session: &WorkerSession,
        task: &TaskPass,
        selected: &Selected,
    ) -> Result<(KvCache, Duration)> {
        let (start, seq_len) = (Instant::now(), session.seq_len());
        let small = self.cut(session, &task.queries, &selected.selection, selected.size.resolve(seq_len)?)?;
        let cache = KvCache::from_compacted(&small, seq_len, session.worker().config());
        let pass = if selected.reads_task() { task.time } else { Duration::ZERO };
        Ok((cache.map_err(SessionError::from)?, start.elapsed() + pass))
    }

    /// What a hierarchy gives a task, in a cache of its own, and how long that took.
    pub(crate) fn hierarchical(
        &mut self,
        session: &WorkerSession,
        task: &TaskPass,
        hierarchy: &Hierarchy,
    ) -> Result<(KvCache, Duration)> {
        let mut known = std::mem::take(&mut self.latents);
        let cut = hierarchy.cut(session, self, &mut known, &task.tokens);
        self.latents = known;
        cut
    }

    /// What `selection` keeps, `kept_len` slots a head, as it is: no spans but its own, nothing fitted. Selections that look
    /// at no task are made once.
    pub(crate) fn cut(
        &mut self,
        session: &WorkerSession,
        task: &[Tensor],
        selection: &Selection,
        kept_len: usize,
    ) -> Result<Compacted> {
        let config = Compaction::kept_len(kept_len).with_selection(selection.clone()).with_spans(Spans::OFF);
        let config = config.selection_only();
        let group_size = session.worker().config().group_size();
        let needs = selection.selector().needs();
        let known = (selection.clone(), kept_len);
        if let Some(kept) = self.selections.get(&known) {
            let compactor = Compactor::new(&self.layers, task, &config).group_size(group_size);
            return Ok(compactor.at(kept).run().map_err(SessionError::from)?);
        }
        let mut compactor = Compactor::new(&self.layers, task, &config).group_size(group_size);
        if needs.context {
            compactor = compactor.context(self.context(session)?);
        }
        if needs.repeat {
            compactor = compactor.repeat(self.repeat(session)?);
        }
        let cut = compactor.run().map_err(SessionError::from)?;
        if !needs.queries {
            let kept = cut.layers.iter().map(|layer| layer.kept.clone()).collect();
            self.selections.insert(known, kept);
        }
        Ok(cut)
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
    pub(crate) fn repeat(&self, session: &WorkerSession) -> Result<&[Tensor]> {
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
