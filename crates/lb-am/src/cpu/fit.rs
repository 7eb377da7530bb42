//! Biases and values of one head: the twins of [`beta`](crate::beta) and [`values`](crate::values) on slices.
//!
//! Logits, weights and attention lie slot by slot with the queries side by side, in panels, as the kernels leave them.

use std::time::{Duration, Instant};

use super::nnls::{Columns, descend, squared_distance};
use crate::cholesky::Systems;
use crate::config::{BetaMethod, Compaction, NnlsStart, RowWeighting, ValuesMethod};
use crate::error::Result;
use crate::kernel::fit::{
    Line, PANEL, Rows, Soften, exp_shifted, multiply, panels_of, scale_columns, scaled_lines,
};
use crate::values::{LEAST_SQUARES_LAMBDA, omega_of};

/// The systems of the dual form stay well conditioned down to this λ however few slots are kept.
const SAFE_LAMBDA: f64 = 1e-3;

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
    pub(crate) head_dim: usize,
    /// To the nearest number that the cache can hold.
    pub(crate) round: fn(f32) -> f32,
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

/// Squared norms behind a [`BetaFit`](crate::BetaFit).
#[derive(Clone, Copy, Default)]
pub(crate) struct BetaPart {
    pub(crate) before: f64,
    pub(crate) after: f64,
    pub(crate) mass: f64,
    pub(crate) clamped: usize,
}

/// Squared norms behind a [`ValuesFit`](crate::ValuesFit).
#[derive(Clone, Copy, Default)]
pub(crate) struct ValuesPart {
    pub(crate) before: f64,
    pub(crate) after: f64,
    pub(crate) output: f64,
    pub(crate) jitter: f64,
}

/// λ, the exponent of the importance and whether the originals pull, of a method that is fitted here in the dual form.
pub(crate) fn dual_of(method: ValuesMethod, n: usize, shortest: usize) -> Option<(f64, f64, bool)> {
    let (lambda, exponent, to_original) = match method {
        ValuesMethod::Ridge { lambda, importance } => (lambda, importance, true),
        ValuesMethod::RidgeToZero { lambda } => (lambda, 0.0, false),
        ValuesMethod::LeastSquares => (LEAST_SQUARES_LAMBDA, 0.0, false),
        ValuesMethod::Copy | ValuesMethod::RidgeLeaveOneOut => return None,
    };
    (n < shortest || lambda >= SAFE_LAMBDA).then_some((lambda, exponent, to_original))
}

/// Whether [`Head::fit`] knows these methods.
pub(crate) fn knows(config: &Compaction, n: usize, shortest: usize) -> bool {
    let beta = !matches!(config.beta, BetaMethod::Nnls { start: NnlsStart::LeastSquares, .. });
    beta && (config.values == ValuesMethod::Copy || dual_of(config.values, n, shortest).is_some())
}

impl Head<'_> {
    pub(crate) fn fit(&self, config: &Compaction) -> Result<HeadFit> {
        let mut fit = HeadFit::default();
        let start = Instant::now();
        let mut logits = self.logits();
        let beta = match config.beta {
            BetaMethod::Zero => None,
            nnls => Some(self.beta(&logits, nnls, &mut fit.beta)),
        };
        let total = |(j, carried): (usize, &f32)| (self.round)(carried + beta.as_ref().map_or(0.0, |beta| beta[j]));
        fit.bias = self.carried.iter().enumerate().map(total).collect();
        fit.beta_time = start.elapsed();
        let start = Instant::now();
        if let (Some(output), Some(dual)) = (self.output, dual_of(config.values, self.n(), self.t())) {
            self.attention(&mut logits, &fit.bias);
            fit.values = self.dual(&logits, output, dual, &mut fit.value)?;
        }
        fit.values_time = start.elapsed();
        Ok(fit)
    }

    fn n(&self) -> usize {
        self.max.len()
    }

    fn t(&self) -> usize {
        self.carried.len()
    }

    /// Columns that count in a panel.
    fn used(&self, panel: usize) -> usize {
        PANEL.min(self.n() - panel * PANEL)
    }

    /// q · k / √d + carried bias, `[panels, t]`.
    fn logits(&self) -> Vec<Vec<Line<f32>>> {
        let scale = 1.0 / (self.head_dim as f32).sqrt();
        let scaled: Vec<f32> = self.queries.iter().map(|q| q * scale).collect();
        let keys = Rows::packed(self.keys, self.t(), self.head_dim);
        let panels = panels_of(&scaled, self.head_dim);
        let one_panel = |(panel, queries): (usize, &Vec<Line<f32>>)| {
            let mut lines: Vec<Line<f32>> = self.carried.iter().map(|bias| [*bias; PANEL]).collect();
            multiply(keys, queries, self.used(panel), &mut lines);
            lines
        };
        panels.iter().enumerate().map(one_panel).collect()
    }

    /// A list with an entry for each query, in panels; others are `other`.
    fn lines(&self, list: &[f32], other: f32) -> Vec<Line<f32>> {
        let line = |part: &[f32]| {
            let mut line = [other; PANEL];
            line[..part.len()].copy_from_slice(part);
            line
        };
        list.chunks(PANEL).map(line).collect()
    }

    fn beta(&self, logits: &[Vec<Line<f32>>], method: BetaMethod, part: &mut BetaPart) -> Vec<f32> {
        let BetaMethod::Nnls { iterations, lower, upper, start, rows } = method else { return Vec::new() };
        let bounds = (lower.exp(), upper.exp());
        let max = self.lines(self.max, 0.0);
        let mass = self.lines(self.mass, 0.0);
        let relative: Vec<f32> = self.mass.iter().map(|mass| 1.0 / mass).collect();
        let absolute = vec![1.0; self.n()];
        // Columns of no query are weights of 0.
        let by = self.lines(if rows == RowWeighting::Relative { &relative } else { &absolute }, 0.0);
        let weights = |by: &[Line<f32>]| -> Vec<Vec<Line<f32>>> {
            let one_panel = |(p, lines): (usize, &Vec<Line<f32>>)| {
                let mut out = vec![[0.0; PANEL]; self.t()];
                exp_shifted(lines, &max[p], &by[p], &mut out);
                out
            };
            logits.iter().enumerate().map(one_panel).collect()
        };
        let panels = weights(&by);
        let columns = Columns { panels: &panels, t: self.t() };
        let y = if rows == RowWeighting::Relative { self.lines(&absolute, 0.0) } else { mass.clone() };
        let first = match start {
            NnlsStart::Shared => columns.shared_weight(&y).clamp(bounds.0 as f32, bounds.1 as f32),
            _ => 1.0,
        };
        let w = descend(&columns, &y, bounds, iterations, vec![first; self.t()]);
        let own;
        let plain = if rows == RowWeighting::Relative {
            own = weights(&self.lines(&absolute, 0.0));
            Columns { panels: &own, t: self.t() }
        } else {
            columns
        };
        part.before = f64::from(squared_distance(&plain.image(&vec![1.0; self.t()]), &mass));
        part.after = f64::from(squared_distance(&plain.image(&w), &mass));
        part.mass = self.mass.iter().map(|mass| f64::from(*mass).powi(2)).sum();
        let taken = plain.back(&self.lines(&absolute, 0.0));
        let at_bound = |w: f32| w <= bounds.0 as f32 || w >= bounds.1 as f32;
        part.clamped = w.iter().zip(taken).filter(|(w, mass)| *mass > 0.0 && at_bound(**w)).count();
        w.into_iter().map(f32::ln).collect()
    }

    /// From logits with the carried bias to attention with the stored one, in place.
    fn attention(&self, logits: &mut [Vec<Line<f32>>], stored: &[f32]) {
        for (panel, lines) in logits.iter_mut().enumerate() {
            for (line, (stored, carried)) in lines.iter_mut().zip(stored.iter().zip(self.carried)) {
                // Padding stays padding; the difference of two infinities is none.
                if *carried != f32::NEG_INFINITY && stored != carried {
                    let more = stored - carried;
                    line.iter_mut().for_each(|logit| *logit += more);
                }
            }
            let (mut max, mut mass) = ([f32::NEG_INFINITY; PANEL], [0.0; PANEL]);
            let used = self.used(panel);
            Soften { weights: lines, scale: 1.0, used, max: &mut max, mass: &mut mass, output: &mut [] }.run();
            let mut inverse = [0.0; PANEL];
            for (inverse, mass) in inverse.iter_mut().zip(mass).take(used) {
                *inverse = 1.0 / mass;
            }
            scale_columns(lines, &inverse);
        }
    }

    /// Y − X V, `[n, d]`, for values V `[t, d]`.
    fn residual(&self, attention: &[Vec<Line<f32>>], output: &[f32], values: &[f32]) -> Vec<f32> {
        let d = self.head_dim;
        let mut residual = output.to_vec();
        for (panel, lines) in attention.iter().enumerate() {
            let mut sums = vec![[0.0; PANEL]; d];
            multiply(Rows::columns(values, d), lines, self.used(panel), &mut sums);
            for (column, row) in residual[panel * PANEL * d..].chunks_exact_mut(d).take(PANEL).enumerate() {
                row.iter_mut().zip(&sums).for_each(|(y, line)| *y -= line[column]);
            }
        }
        residual
    }

    /// Values V + Ω⁻¹ Xᵀ (X Ω⁻¹ Xᵀ + λI)⁻¹ (Y − X V), or without V.
    fn dual(
        &self,
        attention: &[Vec<Line<f32>>],
        output: &[f32],
        (lambda, exponent, to_original): (f64, f64, bool),
        part: &mut ValuesPart,
    ) -> Result<Vec<f32>> {
        let (n, t, d) = (self.n(), self.t(), self.head_dim);
        let residual = self.residual(attention, output, self.values);
        let inverse: Vec<f32> =
            omega_of(self.importance, exponent, t).into_iter().map(|omega| (1.0 / omega) as f32).collect();
        let mut matrices = self.gram(attention, &inverse);
        let scale = (0..n).map(|i| matrices[i * n + i]).sum::<f64>() / n as f64;
        (0..n).for_each(|i| matrices[i * n + i] += lambda * scale);
        let goal = if to_original { &residual[..] } else { output };
        let right = goal.iter().map(|x| f64::from(*x)).collect();
        let mut systems = Systems { size: n, columns: d, matrices, right };
        part.jitter = systems.solve()?;
        let mut values = self.change(attention, &systems.right, &inverse);
        for (value, original) in values.iter_mut().zip(self.values) {
            *value = (self.round)(if to_original { original + *value } else { *value });
        }
        part.before = squared_norm(&residual);
        part.after = squared_norm(&self.residual(attention, output, &values));
        part.output = squared_norm(output);
        Ok(values)
    }

    /// X Ω⁻¹ Xᵀ, `[n, n]`; the lower triangle is all that is read.
    fn gram(&self, attention: &[Vec<Line<f32>>], inverse: &[f32]) -> Vec<f64> {
        let (n, t) = (self.n(), self.t());
        let mut gram = vec![0f64; n * n];
        let mut softened = vec![[0.0; PANEL]; t];
        for (right, lines) in attention.iter().enumerate() {
            scaled_lines(lines, inverse, &mut softened);
            for (left, rows) in attention.iter().enumerate().skip(right) {
                let count = self.used(left);
                let rows = Rows { data: rows.as_flattened(), rows: count, row_step: 1, k_step: PANEL };
                let mut block = [[0.0; PANEL]; PANEL];
                multiply(rows, &softened, self.used(right), &mut block);
                for (i, line) in block.iter().enumerate().take(count) {
                    let at = (left * PANEL + i) * n + right * PANEL;
                    for (to, from) in gram[at..at + self.used(right)].iter_mut().zip(line) {
                        *to = f64::from(*from);
                    }
                }
            }
        }
        gram
    }

    /// Ω⁻¹ Xᵀ D, `[t, d]`.
    fn change(&self, attention: &[Vec<Line<f32>>], dual: &[f64], inverse: &[f32]) -> Vec<f32> {
        let (n, t, d) = (self.n(), self.t(), self.head_dim);
        let mut change = vec![0f32; t * d];
        for first in (0..d).step_by(PANEL) {
            let width = PANEL.min(d - first);
            let mut lines = vec![[0.0; PANEL]; t];
            for (panel, rows) in attention.iter().enumerate() {
                let used = self.used(panel);
                let mut right = vec![[0.0; PANEL]; used];
                for (row, line) in right.iter_mut().enumerate() {
                    let from = &dual[(panel * PANEL + row) * d + first..][..width];
                    line.iter_mut().zip(from).for_each(|(to, from)| *to = *from as f32);
                }
                debug_assert!(panel * PANEL + used <= n);
                let rows = Rows { data: rows.as_flattened(), rows: t, row_step: PANEL, k_step: 1 };
                multiply(rows, &right, width, &mut lines);
            }
            for ((to, line), inverse) in change.chunks_exact_mut(d).zip(&lines).zip(inverse) {
                to[first..first + width].iter_mut().zip(line).for_each(|(to, x)| *to = x * inverse);
            }
        }
        change
    }
}

fn squared_norm(values: &[f32]) -> f64 {
    values.iter().map(|value| f64::from(*value).powi(2)).sum()
}
