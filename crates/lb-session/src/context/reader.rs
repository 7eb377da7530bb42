//! Tokens read behind a cache, until the call is ended.

use std::borrow::BorrowMut;

use candle_core::Tensor;
use lb_model::{Captured, KvCache};

use super::Context;
use crate::guard::{Guard, UNGUARDED};
use crate::{Error, Result, Segment, Task, prompt};

/// The worker at work over a context for one call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    pub(crate) context: &'a Context,
    /// Ends the call.
    pub(crate) guard: &'a Guard,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(context: &'a Context, guard: &'a Guard) -> Self {
        Self { context, guard }
    }

    /// For what nothing ends before it is done.
    pub(crate) fn unguarded(context: &'a Context) -> Self {
        Self::new(context, &UNGUARDED)
    }

    /// The tokens that a task is read as.
    pub(crate) fn task_tokens(self, task: &Task) -> Result<Vec<u32>> {
        let settings = &self.context.settings;
        settings.prompt.task(&settings.worker, task, &mut || self.guard.goes_on())
    }

    /// The same for several; what is wrong with one is an [`Error::Call`] with its number.
    pub(crate) fn tokens_of(self, tasks: &[&Task]) -> Result<Vec<Vec<u32>>> {
        let tokens =
            |(index, task): (usize, &&Task)| self.task_tokens(task).map_err(|error| error.in_call(index));
        tasks.iter().enumerate().map(tokens).collect()
    }

    /// The tokens of a line of the trajectory, whole.
    pub(crate) fn line(self, segment: &Segment) -> Result<Vec<u32>> {
        let worker = self.context.worker();
        let most = worker.config().position_limit();
        Ok(prompt::line(worker, segment, None, most, &mut || self.guard.goes_on())?.0)
    }

    /// Reads `tokens` behind `cache`; the logits of the last one.
    pub(crate) fn prefill(self, tokens: &[u32], cache: &mut KvCache) -> Result<Tensor> {
        let mut go_on = |_, _| self.guard.goes_on();
        let (model, options) = (self.context.model(), &self.context.settings.prefill);
        let read = model.prefill_batch_while(&[tokens], &mut [cache], options, &mut go_on);
        Ok(read.map_err(Error::of_only_sequence)?.remove(0))
    }

    /// The same for several.
    pub(crate) fn prefill_batch(
        self,
        tokens: &[Vec<u32>],
        caches: &mut [impl BorrowMut<KvCache>],
    ) -> Result<Vec<Tensor>> {
        let mut go_on = |_, _| self.guard.goes_on();
        let (model, options) = (self.context.model(), &self.context.settings.prefill);
        let read = model.prefill_batch_while(tokens, caches, options, &mut go_on);
        read.map_err(|error| Error::of_sequence(error, |index| index))
    }

    /// Reads `tokens` behind `cache` and hands out their queries.
    pub(crate) fn capture(self, tokens: &[u32], cache: &mut KvCache) -> Result<Captured> {
        let mut go_on = |_, _| self.guard.goes_on();
        let (model, options) = (self.context.model(), &self.context.settings.prefill);
        let read = model.prefill_capturing_batch_while(&[tokens], &mut [cache], options, &mut go_on);
        Ok(read.map_err(Error::of_only_sequence)?.remove(0))
    }

    /// Reads `tokens` behind a fork of the full cache, which is the second of what comes back.
    pub(crate) fn capture_behind_all(self, tokens: &[u32]) -> Result<(Captured, KvCache)> {
        let mut fork = self.context.full.cache.fork();
        Ok((self.capture(tokens, &mut fork)?, fork))
    }
}
