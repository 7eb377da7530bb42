//! A naive reference for `lb-am`: plain loops in f64, one head at a time, sharing no code with the crate.

use candle_core::{DType, Tensor};
use lb_am::{HeadAgg, LayerKv, ScoreAgg};

/// A matrix, row by row.
pub type Rows = Vec<Vec<f64>>;

/// One KV head of one layer with the queries that read it.
#[derive(Clone)]
pub struct Head {
    /// `[slots][head_dim]`.
    pub keys: Rows,
    /// `[slots][head_dim]`.
    pub values: Rows,
    /// One for each slot.
    pub bias: Vec<f64>,
    /// `[queries][head_dim]`.
    pub queries: Rows,
    /// What q · k is multiplied with.
    pub scale: f64,
}

/// Attention of all queries of a head.
pub struct Attention {
    /// The largest logit of each query.
    pub max: Vec<f64>,
    /// The sum of exp(logit - max) of each query.
    pub mass: Vec<f64>,
    /// `[queries][slots]`.
    pub probabilities: Rows,
    /// `[queries][head_dim]`.
    pub output: Rows,
}

/// A tensor of three dimensions.
pub fn rows3(tensor: &Tensor) -> Vec<Rows> {
    tensor.to_dtype(DType::F64).unwrap().to_vec3().unwrap()
}

/// A tensor of two dimensions.
pub fn rows2(tensor: &Tensor) -> Rows {
    tensor.to_dtype(DType::F64).unwrap().to_vec2().unwrap()
}

/// The heads of a layer, exactly as stored.
pub fn heads(layer: &LayerKv, queries: &Tensor) -> Vec<Head> {
    let (keys, values, queries) = (rows3(&layer.keys), rows3(&layer.values), rows3(queries));
    let bias = match &layer.bias {
        Some(bias) => rows2(bias),
        None => vec![vec![0.0; keys[0].len()]; keys.len()],
    };
    let mut heads = Vec::new();
    for h in 0..keys.len() {
        heads.push(Head {
            keys: keys[h].clone(),
            values: values[h].clone(),
            bias: bias[h].clone(),
            queries: queries[h].clone(),
            scale: f64::from(layer.scale),
        });
    }
    heads
}

impl Head {
    /// s = scale · q · k + b.
    pub fn logit(&self, query: usize, slot: usize) -> f64 {
        let mut dot = 0.0;
        for (q, k) in self.queries[query].iter().zip(&self.keys[slot]) {
            dot += q * k;
        }
        dot * self.scale + self.bias[slot]
    }

    /// Attention of every query to every slot.
    pub fn attend(&self) -> Attention {
        let width = self.values[0].len();
        let mut all = Attention { max: vec![], mass: vec![], probabilities: vec![], output: vec![] };
        for i in 0..self.queries.len() {
            let logits: Vec<f64> = (0..self.keys.len()).map(|j| self.logit(i, j)).collect();
            let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let mass: f64 = logits.iter().map(|s| (s - max).exp()).sum();
            let row: Vec<f64> = logits.iter().map(|s| (s - max).exp() / mass).collect();
            let mut output = vec![0.0; width];
            for (p, value) in row.iter().zip(&self.values) {
                for (o, v) in output.iter_mut().zip(value) {
                    *o += p * v;
                }
            }
            all.max.push(max);
            all.mass.push(mass);
            all.probabilities.push(row);
            all.output.push(output);
        }
        all
    }

    /// The same head over some of its slots, with another bias and other values.
    #[must_use]
    pub fn briefed(&self, kept: &[u32], bias: &[f64], values: &Rows) -> Self {
        let keys = kept.iter().map(|slot| self.keys[*slot as usize].clone()).collect();
        Self { keys, values: values.clone(), bias: bias.to_vec(), ..self.clone() }
    }

    /// Values of some slots.
    pub fn values_of(&self, kept: &[u32]) -> Rows {
        kept.iter().map(|slot| self.values[*slot as usize].clone()).collect()
    }

    /// Aggregate over queries of the attention to each slot.
    pub fn scores(&self, score: ScoreAgg) -> Vec<f64> {
        let p = self.attend().probabilities;
        let n = p.len() as f64;
        (0..self.keys.len())
            .map(|j| {
                let column = p.iter().map(|row| row[j]);
                match score {
                    ScoreAgg::Mean => column.sum::<f64>() / n,
                    ScoreAgg::Max => column.fold(0.0, f64::max),
                    ScoreAgg::Rms => (column.map(|p| p * p).sum::<f64>() / n).sqrt(),
                    other => panic!("no oracle for {other:?}"),
                }
            })
            .collect()
    }

    /// ‖Φ_kept w − Z‖² and ‖Z‖²; the shift and Z are those of the full cache.
    pub fn mass_objective(&self, kept: &[u32], w: &[f64]) -> (f64, f64) {
        let full = self.attend();
        let (mut error, mut total) = (0.0, 0.0);
        for i in 0..self.queries.len() {
            let mut covered = 0.0;
            for (slot, w) in kept.iter().zip(w) {
                covered += (self.logit(i, *slot as usize) - full.max[i]).exp() * w;
            }
            error += (covered - full.mass[i]).powi(2);
            total += full.mass[i].powi(2);
        }
        (error, total)
    }

    /// The bounded minimiser of the mass objective, by exact cyclic coordinate descent.
    pub fn best_weights(&self, kept: &[u32], bound: f64, rounds: usize) -> Vec<f64> {
        let full = self.attend();
        let n = self.queries.len();
        let phi = |i: usize, slot: u32| (self.logit(i, slot as usize) - full.max[i]).exp();
        let columns: Rows = kept.iter().map(|slot| (0..n).map(|i| phi(i, *slot)).collect()).collect();
        let mut w = vec![1.0; kept.len()];
        let mut residual: Vec<f64> =
            (0..n).map(|i| full.mass[i] - columns.iter().map(|column| column[i]).sum::<f64>()).collect();
        for _ in 0..rounds {
            for (w, column) in w.iter_mut().zip(&columns) {
                let norm: f64 = column.iter().map(|a| a * a).sum();
                if norm == 0.0 {
                    continue;
                }
                let along: f64 = column.iter().zip(&residual).map(|(a, r)| a * r).sum();
                let next = (*w + along / norm).clamp((-bound).exp(), bound.exp());
                for (r, a) in residual.iter_mut().zip(column) {
                    *r -= a * (next - *w);
                }
                *w = next;
            }
        }
        w
    }
}

/// Mean or maximum over heads.
pub fn across(scores: &[Vec<f64>], across: HeadAgg) -> Vec<f64> {
    (0..scores[0].len())
        .map(|j| {
            let column = scores.iter().map(|row| row[j]);
            match across {
                HeadAgg::Mean => column.sum::<f64>() / scores.len() as f64,
                HeadAgg::Max => column.fold(0.0, f64::max),
                other => panic!("no oracle for {other:?}"),
            }
        })
        .collect()
}

/// The largest score at most `kernel / 2` positions away.
pub fn pool(scores: &[f64], kernel: usize) -> Vec<f64> {
    (0..scores.len())
        .map(|j| {
            let near = (0..scores.len()).filter(|i| i.abs_diff(j) <= kernel / 2);
            near.map(|i| scores[i]).fold(0.0, f64::max)
        })
        .collect()
}

/// The middle one, or the mean of the two.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| a.partial_cmp(b).unwrap());
    f64::midpoint(sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2])
}

/// Median, and median distance from it.
pub fn median_and_mad(values: &[f64]) -> (f64, f64) {
    let centre = median(values);
    (centre, median(&values.iter().map(|v| (v - centre).abs()).collect::<Vec<_>>()))
}

/// argmin ‖X C − Y‖² + λ' Σ ω_j ‖C_j − V_j‖² by its normal equations, whatever the shape of X; `lambda` is relative
/// to the mean diagonal of X Ω⁻¹ Xᵀ. A prior of `None` is a ridge to zero.
pub fn ridge(x: &Rows, y: &Rows, prior: Option<&Rows>, omega: &[f64], lambda: f64) -> Rows {
    let (n, t, d) = (x.len(), x[0].len(), y[0].len());
    let mut trace = 0.0;
    for row in x {
        for (value, omega) in row.iter().zip(omega) {
            trace += value * value / omega;
        }
    }
    let strength = lambda * trace / n as f64;
    let mut a = vec![vec![0.0; t]; t];
    let mut b = vec![vec![0.0; d]; t];
    for j in 0..t {
        for k in 0..t {
            a[j][k] = x.iter().map(|row| row[j] * row[k]).sum();
        }
        a[j][j] += strength * omega[j];
        for c in 0..d {
            let pull = prior.map_or(0.0, |prior| strength * omega[j] * prior[j][c]);
            b[j][c] = x.iter().zip(y).map(|(row, y)| row[j] * y[c]).sum::<f64>() + pull;
        }
    }
    gauss(a, b)
}

/// ‖X C − Y‖² + λ' Σ ω_j ‖C_j − V_j‖², what [`ridge`] minimises.
pub fn ridge_objective(x: &Rows, y: &Rows, prior: &Rows, omega: &[f64], lambda: f64, c: &Rows) -> f64 {
    let mut trace = 0.0;
    let mut objective = 0.0;
    for (x, y) in x.iter().zip(y) {
        trace += x.iter().zip(omega).map(|(value, omega)| value * value / omega).sum::<f64>();
        for (column, want) in y.iter().enumerate() {
            let got: f64 = x.iter().zip(c).map(|(x, row)| x * row[column]).sum();
            objective += (got - want).powi(2);
        }
    }
    let strength = lambda * trace / x.len() as f64;
    for ((c, prior), omega) in c.iter().zip(prior).zip(omega) {
        objective += strength * omega * c.iter().zip(prior).map(|(c, v)| (c - v).powi(2)).sum::<f64>();
    }
    objective
}

/// Σ ‖errors‖² of a ridge with each query left out in turn, by fitting as often as there are queries. The strength is
/// that of the fit with all queries.
pub fn left_out_error(x: &Rows, y: &Rows, prior: &Rows, omega: &[f64], lambda: f64) -> f64 {
    let mut trace = 0.0;
    for row in x {
        trace += row.iter().zip(omega).map(|(value, omega)| value * value / omega).sum::<f64>();
    }
    let strength = lambda * trace / x.len() as f64;
    let mut error = 0.0;
    for out in 0..x.len() {
        let without = |rows: &Rows| -> Rows {
            rows.iter().enumerate().filter(|(i, _)| *i != out).map(|(_, row)| row.clone()).collect()
        };
        let (rest, targets) = (without(x), without(y));
        // `ridge` scales λ by the rows it sees; undone here, so that the strength stays.
        let mut own = 0.0;
        for row in &rest {
            own += row.iter().zip(omega).map(|(value, omega)| value * value / omega).sum::<f64>();
        }
        let fitted = ridge(&rest, &targets, Some(prior), omega, strength * rest.len() as f64 / own);
        for (c, want) in y[out].iter().enumerate() {
            let got: f64 = x[out].iter().zip(&fitted).map(|(x, row)| x * row[c]).sum();
            error += (got - want).powi(2);
        }
    }
    error
}

/// ω_j = (g_j / mean g)^p within [0.01, 100].
pub fn importance(scores: &[f64], kept: &[u32], exponent: f64) -> Vec<f64> {
    let g: Vec<f64> = kept.iter().map(|slot| scores[*slot as usize]).collect();
    let mean = g.iter().sum::<f64>() / g.len() as f64;
    g.iter().map(|g| (g / mean).powf(exponent).clamp(0.01, 100.0)).collect()
}

/// Gaussian elimination with partial pivoting.
fn gauss(mut a: Rows, mut b: Rows) -> Rows {
    let size = a.len();
    for i in 0..size {
        let pivot = (i..size).max_by(|r, s| a[*r][i].abs().partial_cmp(&a[*s][i].abs()).unwrap()).unwrap();
        a.swap(i, pivot);
        b.swap(i, pivot);
        for r in i + 1..size {
            let factor = a[r][i] / a[i][i];
            let (above, below) = a.split_at_mut(r);
            for (x, y) in below[0].iter_mut().zip(&above[i]).skip(i) {
                *x -= factor * y;
            }
            let (above, below) = b.split_at_mut(r);
            for (x, y) in below[0].iter_mut().zip(&above[i]) {
                *x -= factor * y;
            }
        }
    }
    for i in (0..size).rev() {
        for c in 0..b[i].len() {
            let known: f64 = (i + 1..size).map(|k| a[i][k] * b[k][c]).sum();
            b[i][c] = (b[i][c] - known) / a[i][i];
        }
    }
    b
}

/// ‖a − b‖ / ‖b‖ over all entries.
pub fn relative_error(a: &Rows, b: &Rows) -> f64 {
    let (mut error, mut total) = (0.0, 0.0);
    for (a, b) in a.iter().flatten().zip(b.iter().flatten()) {
        error += (a - b) * (a - b);
        total += b * b;
    }
    (error / total).sqrt()
}
