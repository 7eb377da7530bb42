//! Queries from a residual stream that has run through what was compacted before (AM, arXiv 2602.16284).

use std::time::{Duration, Instant};

use candle_core::Tensor;
use lb_am::{Budget, Compaction, Compactor, ErrorTarget, LayerKv, Report, Selected, budgets};

use crate::brief::{Made, kept_by};
use crate::briefing::ReusedTask;
use crate::queries::Extra;
use crate::session::WorkerSession;
use crate::{BriefConfig, Error, Result, TaskState, merge};

/// What must be known of all layers before the first one is compacted.
struct Plan {
    compaction: Compaction,
    units: Option<Vec<u32>>,
    selected: Option<Selected>,
    counts: Option<Vec<Vec<usize>>>,
    /// What the selection reads besides the task's queries.
    extra: Extra,
    /// How an error target was met, by the queries of the full cache.
    target: Option<ErrorTarget>,
    /// Tokens that were read to know it, and the time that took.
    prefilled: usize,
    elapsed: Duration,
}

impl WorkerSession {
    /// Compacts layer by layer while the task runs through them.
    ///
    /// The task's own state, where it is kept, was computed over the briefing, so [`TaskState::Reuse`] answers like
    /// [`TaskState::Recompute`] here. Time of the task's pass between the layers is counted as compaction.
    pub(crate) fn on_policy(&self, task: &[u32], config: &BriefConfig) -> Result<Made> {
        let seq_len = self.held.tokens.len();
        let plan = self.plan(task, &config.compaction)?;
        let (mut reports, mut layers) = (Vec::new(), Vec::new());
        let mut replace = |index: usize, queries: &Tensor, layer: LayerKv| {
            let (layer, queries) = ([layer], [queries.clone()]);
            let own = plan.selected.as_ref().map(|selected| selected.layer(index));
            let extra = plan.extra.layer(index);
            let mut compactor = Compactor::new(&layer, &queries, &plan.compaction);
            compactor = extra.to(self.knowing(compactor, plan.units.as_deref()));
            if let Some(own) = &own {
                compactor = compactor.selected(own);
            }
            if let Some(counts) = &plan.counts {
                compactor = compactor.counts(&counts[index..=index]);
            }
            let mut compacted = compactor.run().map_err(|error| at_layer(error, index))?;
            reports.push(compacted.report);
            let compacted = compacted.layers.remove(0);
            layers.push(compacted.clone());
            Ok(compacted)
        };
        let replaced = self.worker.model().forward_replacing(task, &self.held.cache, &mut replace)?;
        let mut cache = replaced.cache;
        let reused = match config.task_state {
            TaskState::Recompute => None,
            TaskState::Reuse => {
                let last = |index: usize| {
                    let slots = cache.slot_count(index);
                    cache.layer_range(index, slots - task.len(), slots)
                };
                let layers = (0..cache.num_layers()).map(last).collect::<lb_model::Result<_>>()?;
                Some(ReusedTask { layers, logits: replaced.captured.logits })
            }
        };
        cache.truncate(seq_len)?;
        let shared = plan.selected.as_ref().is_some_and(|selected| selected.masks.len() == 1);
        Ok(Made {
            cache,
            kept_by: kept_by(&[(0, layers)], seq_len),
            report: Report {
                error_target: plan.target,
                ..merge::of_layers(reports, shared).ok_or(Error::Empty { arg: "layers" })?
            },
            reused,
            prefilled: plan.prefilled + task.len(),
            queries: plan.elapsed,
        })
    }

    fn plan(&self, task: &[u32], compaction: &Compaction) -> Result<Plan> {
        let start = Instant::now();
        let mut plan = Plan {
            compaction: compaction.clone(),
            units: self.units_of(compaction.spans, 0, self.held.tokens.len()),
            selected: None,
            counts: None,
            extra: self.extra_queries(&compaction.selection)?,
            target: None,
            prefilled: 0,
            elapsed: Duration::ZERO,
        };
        let search = matches!(compaction.budget, Budget::ErrorBelow { .. });
        // What looks at all layers together selects by the full cache, before the first one is compacted.
        let together = compaction.selection.selector().needs_all_layers();
        if search || together {
            let (captured, _) = self.task_pass(task)?;
            let layers = self.held.cache.layers()?;
            let resolved = {
                let compactor = Compactor::new(&layers, &captured.queries, &plan.compaction);
                plan.extra.to(self.knowing(compactor, plan.units.as_deref())).resolve()?
            };
            (plan.compaction, plan.target) = resolved;
            if together {
                let compactor = Compactor::new(&layers, &captured.queries, &plan.compaction);
                let compactor = plan.extra.to(self.knowing(compactor, plan.units.as_deref()));
                plan.selected = Some(compactor.select()?);
            }
            plan.prefilled += task.len();
        }
        if compaction.head_budgets.is_some() {
            plan.counts = Some(budgets::counts(&self.held.cache.layers()?, &plan.compaction)?);
            // The counts are what the budgets say, and a single layer has no shares of the whole.
            plan.compaction.head_budgets = None;
        }
        plan.prefilled += plan.extra.prefilled;
        plan.elapsed = start.elapsed();
        Ok(plan)
    }
}

/// A layer that is compacted alone is layer 0 to the compaction.
fn at_layer(error: lb_am::Error, index: usize) -> lb_am::Error {
    match error {
        lb_am::Error::Layer { source, .. } => lb_am::Error::Layer { index, source },
        lb_am::Error::NonFinite { arg, .. } => lb_am::Error::NonFinite { arg, layer: index },
        other => other,
    }
}
