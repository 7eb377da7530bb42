//! Queries from a residual stream that has run through what was compacted before (AM, arXiv 2602.16284).

use std::time::{Duration, Instant};

use candle_core::Tensor;
use lb_am::{Budget, Compaction, ErrorTarget, LayerKv, Report, Selected, budgets};

use super::cut::{CutCache, compactor, kept_by};
use super::merge;
use super::{BriefConfig, ReusedTask, TaskState};
use crate::context::{Reader, unit_starts};
use crate::queries::Extra;
use crate::{Error, Result};

/// What must be known of all layers before the first one is compacted.
struct Plan {
    compaction: Compaction,
    units: Option<Vec<u32>>,
    /// What the selection reads besides the task's queries.
    extra: Extra,
    selected: Option<Selected>,
    counts: Option<Vec<Vec<usize>>>,
    /// How an error target was met, by the queries of the full cache.
    target: Option<ErrorTarget>,
    /// Tokens that were read to know it, and the time that took.
    prefilled: usize,
    elapsed: Duration,
}

/// Compacts layer by layer while the task runs through them.
///
/// The task's own state, where it is kept, was computed over the briefing, so [`TaskState::Reuse`] answers like
/// [`TaskState::Recompute`] here. Time of the task's pass between the layers is counted as compaction.
pub(super) fn on_policy(reader: Reader<'_>, task: &[u32], config: &BriefConfig) -> Result<CutCache> {
    let (context, seq_len) = (reader.context, reader.context.seq_len());
    let (plan, bits) = (Plan::make(reader, task, config)?, config.storage.bits());
    let (mut reports, mut layers) = (Vec::new(), Vec::new());
    let mut replace = |model_layer: usize, queries: &Tensor, layer: LayerKv| {
        // The plan is for the layers that attend to everything, and only those come here.
        let index = reports.len();
        let (layer, queries) = ([layer], [queries.clone()]);
        let own = plan.selected.as_ref().map(|selected| selected.layer(index));
        let extra = plan.extra.layer(index);
        let compactor = compactor(context, &layer, &queries, &plan.compaction, plan.units.as_deref());
        let mut compactor = extra.to(compactor).packed(bits);
        if let Some(own) = &own {
            compactor = compactor.selected(own);
        }
        if let Some(counts) = &plan.counts {
            compactor = compactor.counts(&counts[index..=index]);
        }
        let mut compacted = compactor.run().map_err(|error| at_layer(error, model_layer))?;
        reports.push(compacted.report);
        let compacted = compacted.layers.remove(0);
        layers.push(compacted.clone());
        Ok(compacted)
    };
    let replaced = context.model().forward_replacing(task, &context.full.cache, &mut replace)?;
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
    let report = Report {
        error_target: plan.target,
        ..merge::of_layers(reports, shared).ok_or(Error::Empty { arg: "layers" })?
    };
    Ok(CutCache {
        reused,
        prefilled: plan.prefilled + task.len(),
        querying: plan.elapsed,
        ..CutCache::new(cache, kept_by(&[(0, layers)], seq_len), report)
    })
}

impl Plan {
    fn make(reader: Reader<'_>, task: &[u32], config: &BriefConfig) -> Result<Self> {
        let (start, context, compaction) = (Instant::now(), reader.context, &config.compaction);
        let mut plan = Self {
            compaction: compaction.clone(),
            units: unit_starts(context, compaction.spans, 0, context.seq_len()),
            extra: Extra::of(reader, &compaction.selection)?,
            selected: None,
            counts: None,
            target: None,
            prefilled: 0,
            elapsed: Duration::ZERO,
        };
        let search = matches!(compaction.budget, Budget::ErrorBelow { .. });
        // What looks at all layers together selects by the full cache, before the first one is compacted.
        let together = compaction.needs_all_layers();
        if search || together {
            let model = context.worker().config();
            let queries = model.of_global_layers(reader.capture_behind_all(task)?.0.queries);
            let layers = model.of_global_layers(context.full.cache.layers()?);
            let units = plan.units.as_deref();
            let searching = compactor(context, &layers, &queries, &plan.compaction, units);
            let resolved = plan.extra.to(searching).packed(config.storage.bits()).resolve()?;
            (plan.compaction, plan.target) = resolved;
            if together {
                let compactor = compactor(context, &layers, &queries, &plan.compaction, units);
                plan.selected = Some(plan.extra.to(compactor).select()?);
            }
            plan.prefilled += task.len();
        }
        if compaction.head_budgets.is_some() {
            let layers = context.worker().config().of_global_layers(context.full.cache.layers()?);
            plan.counts = Some(budgets::counts(&layers, &plan.compaction)?);
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
