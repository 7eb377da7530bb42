//! The pursuit of one head.

use candle_core::Tensor;

use super::omp::Omp;
use crate::bounded::{Bounded, mirror};
use crate::config::BetaMethod;
use crate::error::Result;
use crate::fits::are_few;
use crate::layout::to_f32;
use crate::reference::{logits, weights_at};
use crate::scene::Scene;

/// Steps of each refit of few rows: it begins where the last one ended, and one key changes little.
const REFIT_STEPS: usize = 8;
/// Rounds of each refit of many rows, at most.
const REFIT_ROUNDS: usize = 3;
/// Passes that drop keys and look for others, at most.
const DROP_ROUNDS: usize = 8;
/// Of the weights of many rows while keys are looked for, as in the reference: wider than those of the fit that comes after, so
/// that a key with nothing to give stands in no other's way.
const WIDE: (f64, f64) = (1e-12, 1_096.633_158_428_458_5);

/// As many slots as `ranked` has, which the scores alone would keep; protected ones stay and come first.
///
/// Minimises ‖Φ_kept w − Z‖ greedily (AM, arXiv 2602.16284, section 3, Algorithm "OMP"): of the keys that are left, the one
/// whose weights correlate most with the mass not yet explained, and then the weights of all kept keys anew: for their optimum
/// where the bias fit would be solved for its own, and by a few steps where rows are few and an optimum would leave nothing to
/// look for. What stands in a key's span comes along while there is room.
pub(super) fn pursue(
    scene: &Scene<'_>,
    omp: &Omp,
    (layer, head): (usize, usize),
    ranked: &[u32],
) -> Result<Vec<u32>> {
    let cache = &scene.layers[layer];
    let seq_len = cache.seq_len();
    if ranked.len() >= seq_len {
        return Ok(ranked.to_vec());
    }
    let part = |tensor: &Tensor| -> Result<Tensor> { to_f32(&tensor.narrow(0, head, 1)?) };
    let bias = cache.bias.as_ref().map(part).transpose()?;
    let s = logits(&part(&scene.queries[layer])?, &part(&cache.keys)?, bias.as_ref(), cache.scale)?;
    let max = scene.observed[layer].max.narrow(0, head, 1)?;
    // Transposed: a key's weights over all queries lie side by side.
    let mut columns: Vec<f32> =
        weights_at(&s, &max)?.squeeze(0)?.t()?.contiguous()?.flatten_all()?.to_vec1()?;
    let mut mass: Vec<f32> = scene.observed[layer].mass.narrow(0, head, 1)?.flatten_all()?.to_vec1()?;
    weigh_rows(&mut columns, &mut mass, omp.row_power as f32);
    let (bounds, exact) = match scene.config.beta {
        BetaMethod::Nnls { iterations, lower, upper, .. } => {
            let exact = iterations.is_none_or(|steps| steps == 0) && !are_few(mass.len(), ranked.len());
            (if exact { WIDE } else { (lower.exp(), upper.exp()) }, exact)
        }
        BetaMethod::Zero => ((1.0, 1.0), false),
    };
    let dead = |slot: usize| scene.is_padding(layer, head, slot);
    let mut pursuit = Pursuit {
        columns: &columns,
        mass: &mass,
        bounds,
        exact,
        open: (0..seq_len).map(|slot| !dead(slot)).collect(),
        found: Vec::new(),
        weights: Vec::new(),
        residual: mass.clone(),
        gram: Vec::new(),
        image: Vec::new(),
    };
    for slot in (0..seq_len).filter(|slot| scene.is_protected(layer, *slot)) {
        pursuit.take(slot);
    }
    let protected = pursuit.found.len();
    pursuit.refit()?;
    for _ in 0..DROP_ROUNDS {
        pursuit.fill(omp, ranked.len(), |slot| scene.span_of(layer, slot))?;
        let Some(cutoff) = omp.drop_below else { break };
        pursuit.refit()?;
        if !pursuit.drop_below(cutoff.exp(), protected) {
            break;
        }
        if exact {
            pursuit.refit()?;
        }
    }
    let mut slots: Vec<u32> = pursuit.found.iter().map(|slot| *slot as u32).collect();
    slots.sort_unstable();
    Ok(slots)
}

/// Divides every row of Φ and Z by its mass to this power.
fn weigh_rows(columns: &mut [f32], mass: &mut [f32], power: f32) {
    if power == 0.0 {
        return;
    }
    let by: Vec<f32> = mass.iter().map(|z| z.powf(-power)).collect();
    for rows in columns.chunks_exact_mut(by.len()).chain([mass]) {
        rows.iter_mut().zip(&by).for_each(|(row, by)| *row *= by);
    }
}

struct Pursuit<'a> {
    /// Φ, key by key.
    columns: &'a [f32],
    /// Z.
    mass: &'a [f32],
    /// Of w.
    bounds: (f64, f64),
    /// Whether refits are solved for their optimum.
    exact: bool,
    /// Slots that may still be taken.
    open: Vec<bool>,
    found: Vec<usize>,
    weights: Vec<f64>,
    /// Z − Φ_found w.
    residual: Vec<f32>,
    /// The lower triangle of Φ_foundᵀ Φ_found, row behind row, for optima.
    gram: Vec<f64>,
    /// Φ_foundᵀ Z, likewise.
    image: Vec<f64>,
}

impl Pursuit<'_> {
    fn column(&self, slot: usize) -> &[f32] {
        let n = self.mass.len();
        &self.columns[slot * n..(slot + 1) * n]
    }

    /// Keeps a slot. What it is worth shows at the next refit; until then it takes nothing away, or where few steps are to
    /// find out, what it is worth by itself.
    fn take(&mut self, slot: usize) {
        self.open[slot] = false;
        self.found.push(slot);
        let n = self.mass.len();
        let column = &self.columns[slot * n..(slot + 1) * n];
        if self.exact {
            for other in &self.found {
                self.gram.push(f64::from(dot(&self.columns[other * n..(other + 1) * n], column)));
            }
            self.image.push(f64::from(dot(column, self.mass)));
            self.weights.push(self.bounds.0);
        } else {
            self.weights.push(1.0);
            add(&mut self.residual, column, -1.0);
        }
    }

    /// Adds keys until there are `count`, or none is left.
    fn fill(
        &mut self,
        omp: &Omp,
        count: usize,
        around: impl Fn(usize) -> std::ops::Range<usize>,
    ) -> Result<()> {
        let mut steps = 0;
        while self.found.len() < count {
            let phase = omp.phase(self.found.len());
            let best = self.best(phase.keys_per_step);
            if best.is_empty() {
                break;
            }
            for centre in best {
                // The nearest first, so that a span that does not fit is cut at its far end.
                let mut span: Vec<usize> = around(centre).collect();
                span.sort_by_key(|slot| (slot.abs_diff(centre), *slot));
                for slot in span {
                    if self.found.len() < count && self.open[slot] {
                        self.take(slot);
                    }
                }
            }
            steps += 1;
            if steps % phase.refit_every == 0 {
                self.refit()?;
            }
        }
        Ok(())
    }

    /// The open keys with the largest correlation Φ_jᵀ r, best first; equal ones by position.
    fn best(&self, count: usize) -> Vec<usize> {
        let mut best: Vec<(f32, usize)> = Vec::with_capacity(count + 1);
        for slot in (0..self.open.len()).filter(|slot| self.open[*slot]) {
            let correlation = dot(self.column(slot), &self.residual);
            if best.len() == count && correlation <= best[count - 1].0 {
                continue;
            }
            let at = best.partition_point(|(other, _)| *other >= correlation);
            best.insert(at, (correlation, slot));
            best.truncate(count);
        }
        best.into_iter().map(|(_, slot)| slot).collect()
    }

    /// Fits the weights of all keys to ‖Φ_found w − Z‖² within their bounds.
    fn refit(&mut self) -> Result<()> {
        if self.exact {
            return self.solve();
        }
        self.descend(REFIT_STEPS);
        Ok(())
    }

    /// To their optimum.
    fn solve(&mut self) -> Result<()> {
        let size = self.found.len();
        if size == 0 {
            return Ok(());
        }
        let mut gram = vec![0.0; size * size];
        let mut rows = &self.gram[..];
        for (i, row) in gram.chunks_exact_mut(size).enumerate() {
            let (lower, rest) = rows.split_at(i + 1);
            row[..=i].copy_from_slice(lower);
            rows = rest;
        }
        mirror(&mut gram, size);
        let squared = self.mass.iter().map(|z| f64::from(*z).powi(2)).sum();
        let bounded = Bounded { gram: &gram, image: &self.image, squared, bounds: self.bounds };
        self.weights = bounded.solve(&self.weights, REFIT_ROUNDS)?;
        self.explain();
        Ok(())
    }

    /// A few steps of projected gradient on ‖Φ_found w − Z‖², from the weights as they are; none raises it.
    fn descend(&mut self, steps: usize) {
        let n = self.mass.len();
        for _ in 0..steps {
            let mut gradient = Vec::with_capacity(self.found.len());
            let mut image = vec![0.0; n];
            for slot in &self.found {
                let g = dot(self.column(*slot), &self.residual);
                gradient.push(g);
            }
            for (slot, g) in self.found.iter().zip(&gradient) {
                add(&mut image, &self.columns[slot * n..(slot + 1) * n], *g);
            }
            // The exact length along the gradient; clamping can only undo a part of the step, so it is checked below.
            let (along, across) = (dot(&gradient, &gradient), dot(&image, &image));
            if across <= f32::MIN_POSITIVE {
                return;
            }
            let before = dot(&self.residual, &self.residual);
            let mut step = along / across;
            loop {
                let moved: Vec<f64> = self
                    .weights
                    .iter()
                    .zip(&gradient)
                    .map(|(w, g)| (w + f64::from(step * g)).clamp(self.bounds.0, self.bounds.1))
                    .collect();
                let mut residual = self.mass.to_vec();
                for (slot, w) in self.found.iter().zip(&moved) {
                    add(&mut residual, &self.columns[slot * n..(slot + 1) * n], -*w as f32);
                }
                if dot(&residual, &residual) <= before {
                    (self.weights, self.residual) = (moved, residual);
                    break;
                }
                step *= 0.5;
                if step <= along / across * 1e-3 {
                    return;
                }
            }
        }
    }

    /// What the weights leave of the mass.
    fn explain(&mut self) {
        let n = self.mass.len();
        self.residual = self.mass.to_vec();
        for (slot, w) in self.found.iter().zip(&self.weights) {
            add(&mut self.residual, &self.columns[slot * n..(slot + 1) * n], -*w as f32);
        }
    }

    /// Drops keys whose weight is at most `cutoff`, the first `protected` excepted; they do not come back. False where
    /// there was none, or nothing is left to take their place.
    fn drop_below(&mut self, cutoff: f64, protected: usize) -> bool {
        let stays: Vec<bool> =
            self.weights.iter().enumerate().map(|(i, w)| i < protected || *w > cutoff).collect();
        let dropped = stays.iter().filter(|stays| !**stays).count();
        let left = self.open.iter().filter(|open| **open).count();
        if dropped == 0 || left < dropped {
            return false;
        }
        if self.exact {
            let mut rows = &self.gram[..];
            let mut gram = Vec::with_capacity(rows.len());
            for (i, kept) in stays.iter().enumerate() {
                let (row, rest) = rows.split_at(i + 1);
                if *kept {
                    gram.extend(those(row, &stays));
                }
                rows = rest;
            }
            (self.gram, self.image) = (gram, those(&self.image, &stays));
        }
        (self.found, self.weights) = (those(&self.found, &stays), those(&self.weights, &stays));
        self.explain();
        true
    }
}

/// What stays of a list.
fn those<T: Copy>(list: &[T], stays: &[bool]) -> Vec<T> {
    list.iter().zip(stays).filter(|(_, stays)| **stays).map(|(x, _)| *x).collect()
}

fn add(sum: &mut [f32], column: &[f32], factor: f32) {
    for (sum, value) in sum.iter_mut().zip(column) {
        *sum += factor * value;
    }
}

/// In eight running sums, which the compiler turns into vector code.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let (a_chunks, b_chunks) = (a.chunks_exact(8), b.chunks_exact(8));
    let tail: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a_chunks.zip(b_chunks) {
        for (sum, (x, y)) in sums.iter_mut().zip(x.iter().zip(y)) {
            *sum += x * y;
        }
    }
    sums.iter().sum::<f32>() + tail
}
