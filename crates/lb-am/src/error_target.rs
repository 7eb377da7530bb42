//! The smallest budget whose estimated error is below a target.

use std::sync::OnceLock;

use candle_core::Tensor;
use lb_kernels::PackedBits;
use serde::{Deserialize, Serialize};

use crate::backend::{Backend, Observing};
use crate::compacted::Timing;
use crate::config::{Budget, Compaction, ValuesMethod};
use crate::error::{AtLayer, Result};
use crate::extra_queries::Extra;
use crate::fidelity::{Sums, layer_sums};
use crate::fitted::fit_all;
use crate::layout::{LayerKv, Padding};
use crate::observed::Observed;
use crate::scene::Scene;
use crate::scores::observe_all;
use crate::selected::Selected;
use crate::spans::SpanMap;

/// The search stops where the count is known this closely.
const RESOLUTION: f64 = 1.02;

/// How an error target was met.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorTarget {
    /// What was asked for.
    pub epsilon: f64,
    /// The estimate at the budget that was chosen.
    pub estimated: f64,
    /// Budgets that were tried.
    pub tried: usize,
    /// Whether the estimate was made on tokens that the fit had not seen. False for a task of a single token, whose
    /// error on itself is too small an estimate.
    pub held_out: bool,
}

/// Half of the task's tokens to select and fit by, the other half to measure on.
struct Fold {
    fitted: Vec<Tensor>,
    held_out: Vec<Tensor>,
    observed: Vec<Observed>,
}

/// What the search works on.
pub(crate) struct Search<'a> {
    pub(crate) backend: &'a dyn Backend,
    pub(crate) layers: &'a [LayerKv],
    pub(crate) queries: &'a [Tensor],
    pub(crate) extra: Extra<'a>,
    pub(crate) padding: &'a [Padding],
    pub(crate) spans: &'a SpanMap,
    pub(crate) config: &'a Compaction,
    /// What kept slots are stored in.
    pub(crate) bits: Option<PackedBits>,
    /// Query heads per KV head; rows are ordered (head, token).
    pub(crate) group_size: usize,
}

impl Search<'_> {
    /// The budget, as a keep ratio.
    pub(crate) fn run(&self, epsilon: f64, min_kept: usize) -> Result<(Budget, ErrorTarget)> {
        let folds = self.folds()?;
        let longest = self.layers.iter().map(LayerKv::seq_len).max().unwrap_or(1);
        let mut target = ErrorTarget { epsilon, estimated: 0.0, tried: 0, held_out: folds.len() > 1 };
        let mut estimate = |kept: usize| -> Result<f64> {
            target.tried += 1;
            self.estimate(&folds, kept as f64 / longest as f64)
        };
        let (mut low, mut high) = (min_kept.min(longest), longest);
        let mut estimated = estimate(low)?;
        if estimated < epsilon {
            high = low;
        } else {
            // Everything kept has no error at all, but for that of packing.
            estimated = if self.bits.is_some() { estimate(high)? } else { 0.0 };
        }
        while high as f64 > low as f64 * RESOLUTION && high > low + 1 {
            let middle = ((low as f64 * high as f64).sqrt().round() as usize).clamp(low + 1, high - 1);
            let error = estimate(middle)?;
            if error < epsilon {
                (high, estimated) = (middle, error);
            } else {
                low = middle;
            }
        }
        target.estimated = estimated;
        Ok((Budget::KeepRatio(high as f64 / longest as f64), target))
    }

    /// Even tokens to fit and odd ones to measure, and the other way round. A single token stands for both.
    fn folds(&self) -> Result<Vec<Fold>> {
        let rows = self.queries[0].dim(1)?;
        let tokens = rows / self.group_size;
        let pick = |odd: usize| -> Result<Vec<Tensor>> {
            self.queries
                .iter()
                .map(|queries| {
                    let rows: Vec<u32> = (0..queries.dim(1)?)
                        .filter(|row| row % tokens % 2 == odd)
                        .map(|row| row as u32)
                        .collect();
                    let index = Tensor::new(rows, queries.device())?;
                    Ok(queries.contiguous()?.index_select(&index, 1)?)
                })
                .collect()
        };
        let halves = if tokens < 2 {
            vec![(self.queries.to_vec(), self.queries.to_vec())]
        } else {
            let (even, odd) = (pick(0)?, pick(1)?);
            vec![(even.clone(), odd.clone()), (odd, even)]
        };
        let with_output = self.config.values != ValuesMethod::Copy;
        halves
            .into_iter()
            .map(|(fitted, held_out)| {
                let what = Observing { score: self.config.score, output: with_output };
                let observed = observe_all(self.backend, self.layers, &fitted, what)?;
                Ok(Fold { fitted, held_out, observed })
            })
            .collect()
    }

    fn estimate(&self, folds: &[Fold], ratio: f64) -> Result<f64> {
        let config = Compaction { budget: Budget::KeepRatio(ratio.min(1.0)), ..self.config.clone() };
        let mut sums = Sums::default();
        for fold in folds {
            let scene = Scene {
                backend: self.backend,
                layers: self.layers,
                queries: &fold.fitted,
                observed: &fold.observed,
                padding: self.padding,
                spans: self.spans,
                config: &config,
                bits: self.bits,
                counts: None,
                extra: self.extra,
                group_size: self.group_size,
                shared: OnceLock::new(),
                shared_out: OnceLock::new(),
            };
            let selected = Selected::by_selector(&scene)?;
            let fitted = fit_all(&scene, &selected, &mut Timing::default())?;
            for (index, ((layer, small), queries)) in
                self.layers.iter().zip(&fitted.layers).zip(&fold.held_out).enumerate()
            {
                layer_sums(self.backend, layer, &small.to_layer()?, queries)
                    .at_layer(index)?
                    .iter()
                    .for_each(|head| sums.add(head));
            }
        }
        Ok(sums.errors().relative_l2)
    }
}
