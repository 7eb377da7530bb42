//! Biases of one head, and the attention that its values (`values.rs`) are fitted under: the twin of `reference/beta.rs` on slices.
//!
//! Logits, weights and attention lie slot by slot with the queries side by side, in panels, as the kernels leave them.

use std::time::{Duration, Instant};

use candle_core::DType;
use lb_kernels::panel::{
    MatrixView, OnlineSoftmax, PANEL, PanelRow, exp_shifted, matmul_panel, pack_panels, scale_columns,
};

use super::exact::Exact;
use super::gather::round_to;
use super::nnls::{Columns, descend, squared_distance};
use crate::bounded::{Bounded, ROUNDS, mirror};
use crate::config::{BetaMethod, Compaction, NnlsStart, RowWeighting, ValuesMethod};
use crate::error::Result;
use crate::fits::{BetaPart, Pull, ValuesPart, are_few};

/// What the fits of one head need.
pub(crate) struct Head<'a> {
    /// `[n, d]`.
    pub(crate) queries: &'a [f32],
    /// Kept keys `[t, d]`.
    pub(crate) keys: &'a [f32],
    /// Kept values `[t, d]`.
    pub(crate) values: &'a [f32],
    /// Bias on the kept slots already.
    pub(crate) carried: &'a [f32],
    /// Scores of the kept slots.
    pub(crate) importance: &'a [f32],
    /// Row maxima over the full cache, `[n]`.
    pub(crate) max: &'a [f32],
    /// Mass of the full cache at these.
    pub(crate) mass: &'a [f32],
    /// Output of the full cache `[n, d]`, where values are fitted.
    pub(crate) output: Option<&'a [f32]>,
    pub(crate) width: usize,
    /// Of q · k.
    pub(crate) scale: f32,
    /// What can be stored of biases and values.
    pub(crate) dtype: DType,
}

/// Memory that one thread uses again and again: fresh memory costs more than the sums in it.
#[derive(Default)]
pub(crate) struct Buffers {
    /// Logits, then attention, `[panels, t]`.
    logits: Vec<PanelRow<f32>>,
    /// Weights Φ, `[panels, t]`.
    weights: Vec<PanelRow<f32>>,
    /// `[t]`.
    lines: Vec<PanelRow<f32>>,
    /// `[t, d]` in f32, where the cache is not.
    pub(crate) wide: [Vec<f32>; 6],
}

/// Results of one head, and what they add to the report.
#[derive(Default)]
pub(crate) struct HeadFit {
    /// The bias as it is stored.
    pub(crate) bias: Vec<f32>,
    /// Values `[t, d]`, rounded; none where they are copied.
    pub(crate) values: Vec<f32>,
    pub(crate) beta: BetaPart,
    pub(crate) value: ValuesPart,
    pub(crate) beta_time: Duration,
    pub(crate) values_time: Duration,
}

/// Whether [`Head::fit`] knows these methods.
pub(crate) fn knows(config: &Compaction) -> bool {
    let beta = !matches!(config.beta, BetaMethod::Nnls { start: NnlsStart::LeastSquares, .. });
    beta && config.values != ValuesMethod::RidgeLeaveOneOut
}

impl Head<'_> {
    /// Both fits; the biases take so many steps, or are solved for their optimum.
    pub(crate) fn fit(
        &self,
        config: &Compaction,
        steps: Option<usize>,
        buffers: &mut Buffers,
    ) -> Result<HeadFit> {
        let mut fit = HeadFit::default();
        let start = Instant::now();
        let Buffers { logits, weights, lines, .. } = buffers;
        let pulled = self.output.zip(Pull::of(config.values));
        // Where nothing is fitted nobody asks for them.
        if config.beta != BetaMethod::Zero || pulled.is_some() {
            self.logits(logits);
        }
        let beta = match config.beta {
            BetaMethod::Zero => None,
            nnls => Some(self.beta(logits, [weights, lines], nnls, steps, &mut fit.beta)?),
        };
        fit.bias = self.carried.to_vec();
        if let Some(beta) = beta {
            fit.bias.iter_mut().zip(beta).for_each(|(bias, beta)| *bias += beta);
        }
        round_to(self.dtype, &mut fit.bias);
        fit.beta_time = start.elapsed();
        let start = Instant::now();
        if let Some((output, pull)) = pulled {
            self.attention(logits, &fit.bias);
            fit.values = self.ridge(logits, lines, output, pull, &mut fit.value)?;
        }
        fit.values_time = start.elapsed();
        Ok(fit)
    }

    pub(super) fn n(&self) -> usize {
        self.max.len()
    }

    pub(super) fn t(&self) -> usize {
        self.carried.len()
    }

    /// Columns that count in a panel.
    pub(super) fn used(&self, panel: usize) -> usize {
        PANEL.min(self.n() - panel * PANEL)
    }

    /// scale · q · k + carried bias, `[panels, t]`.
    pub(super) fn logits(&self, out: &mut Vec<PanelRow<f32>>) {
        let scaled: Vec<f32> = self.queries.iter().map(|q| q * self.scale).collect();
        let keys = MatrixView::packed(self.keys, self.t(), self.width);
        let panels = pack_panels(&scaled, self.width);
        out.resize(panels.len() * self.t(), [0.0; PANEL]);
        for (panel, (queries, lines)) in panels.iter().zip(out.chunks_exact_mut(self.t())).enumerate() {
            lines.iter_mut().zip(self.carried).for_each(|(line, bias)| line.fill(*bias));
            matmul_panel(keys, queries, self.used(panel), lines);
        }
    }

    /// β, from the logits, in so many steps or for the optimum; `weights` is left with Φ.
    fn beta(
        &self,
        logits: &[PanelRow<f32>],
        [weights, lines]: [&mut Vec<PanelRow<f32>>; 2],
        method: BetaMethod,
        steps: Option<usize>,
        part: &mut BetaPart,
    ) -> Result<Vec<f32>> {
        let BetaMethod::Nnls { lower, upper, start, rows, .. } = method else { return Ok(Vec::new()) };
        let bounds = (lower.exp(), upper.exp());
        let max = in_panels(self.max);
        let mass = in_panels(self.mass);
        let relative: Vec<f32> = self.mass.iter().map(|mass| 1.0 / mass).collect();
        let absolute = vec![1.0; self.n()];
        // Columns of no query are weights of 0.
        let by = in_panels(if rows == RowWeighting::Relative { &relative } else { &absolute });
        weights.resize(logits.len(), [0.0; PANEL]);
        let weigh = |by: &[PanelRow<f32>], weights: &mut [PanelRow<f32>]| {
            let panels = logits.chunks_exact(self.t()).zip(weights.chunks_exact_mut(self.t()));
            for (p, (lines, out)) in panels.enumerate() {
                exp_shifted(lines, &max[p], &by[p], out);
            }
        };
        weigh(&by, weights);
        let columns = Columns { panels: &*weights, t: self.t() };
        let y = if rows == RowWeighting::Relative { in_panels(&absolute) } else { mass.clone() };
        let w = if let Some(steps) = steps {
            let first = match start {
                NnlsStart::Shared => columns.shared_weight(&y).clamp(bounds.0 as f32, bounds.1 as f32),
                _ => 1.0,
            };
            descend(&columns, &y, bounds, steps, vec![first; self.t()])
        } else {
            let y = if rows == RowWeighting::Relative { &absolute } else { self.mass };
            self.optimum(weights, lines, y, bounds)?
        };
        if rows == RowWeighting::Relative {
            weigh(&in_panels(&absolute), weights);
        }
        let plain = Columns { panels: &*weights, t: self.t() };
        part.before = f64::from(squared_distance(&plain.image(&vec![1.0; self.t()]), &mass));
        part.after = f64::from(squared_distance(&plain.image(&w), &mass));
        part.mass = self.mass.iter().map(|mass| f64::from(*mass).powi(2)).sum();
        let taken = plain.back(&in_panels(&absolute));
        let at_bound = |w: f32| w <= bounds.0 as f32 || w >= bounds.1 as f32;
        part.clamped = w.iter().zip(taken).filter(|(w, mass)| *mass > 0.0 && at_bound(**w)).count();
        Ok(w.into_iter().map(f32::ln).collect())
    }

    /// The w within bounds that minimises ‖Φ w − y‖².
    fn optimum(
        &self,
        weights: &[PanelRow<f32>],
        lines: &mut Vec<PanelRow<f32>>,
        y: &[f32],
        bounds: (f64, f64),
    ) -> Result<Vec<f32>> {
        let (n, t) = (self.n(), self.t());
        // An optimum of few rows leaves less over than what rounding makes of products in f32.
        let (mut gram, image) = if are_few(n, t) {
            let exact = Exact { attention: weights, n, t };
            let y: Vec<f64> = y.iter().copied().map(f64::from).collect();
            (exact.gram(), exact.back(&y, 1))
        } else {
            self.normal_equations(weights, lines, y, 1)
        };
        mirror(&mut gram, t);
        let squared = y.iter().map(|y| f64::from(*y).powi(2)).sum();
        let bounded = Bounded { gram: &gram, image: &image, squared, bounds };
        let w = bounded.solve(&vec![bounded.shared_weight(); t], ROUNDS)?;
        Ok(w.into_iter().map(|w| w as f32).collect())
    }

    /// From logits with the carried bias to attention with the stored one, in place.
    pub(super) fn attention(&self, logits: &mut [PanelRow<f32>], stored: &[f32]) {
        for (panel, lines) in logits.chunks_exact_mut(self.t()).enumerate() {
            for (line, (stored, carried)) in lines.iter_mut().zip(stored.iter().zip(self.carried)) {
                // Padding stays padding; the difference of two infinities is none.
                if *carried != f32::NEG_INFINITY && stored.to_bits() != carried.to_bits() {
                    let more = stored - carried;
                    for logit in line {
                        *logit += more;
                    }
                }
            }
            let (mut max, mut mass) = ([f32::NEG_INFINITY; PANEL], [0.0; PANEL]);
            let used = self.used(panel);
            OnlineSoftmax {
                weights: lines,
                scale: 1.0,
                used,
                max: &mut max,
                mass: &mut mass,
                output: &mut [],
            }
            .run();
            let mut inverse = [0.0; PANEL];
            for (inverse, mass) in inverse.iter_mut().zip(mass).take(used) {
                *inverse = 1.0 / mass;
            }
            scale_columns(lines, &inverse);
        }
    }
}

/// A list with an entry for each query, in panels; what does not count is 0.
fn in_panels(list: &[f32]) -> Vec<PanelRow<f32>> {
    let line = |part: &[f32]| {
        let mut line = [0.0; PANEL];
        line[..part.len()].copy_from_slice(part);
        line
    };
    list.chunks(PANEL).map(line).collect()
}
