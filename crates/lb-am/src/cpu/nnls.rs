//! Bounded least squares of one head; the twin of `reference/nnls.rs` on slices.

use lb_kernels::panel::{PANEL, PanelRow, add_dots, weighted_sum};

use crate::reference::{FLOOR, POWER_ROUNDS, TINY};

/// A matrix `[n, t]` of entries >= 0, column by column: a line for each column, in panels of rows.
pub(crate) struct Columns<'a> {
    /// `[panels, t]`; rows that do not count are 0.
    pub(crate) panels: &'a [PanelRow<f32>],
    pub(crate) t: usize,
}

/// A list with an entry for each row, in the matrix's panels.
type Image = Vec<PanelRow<f32>>;

impl Columns<'_> {
    /// A v.
    pub(crate) fn image(&self, v: &[f32]) -> Image {
        self.panels.chunks_exact(self.t).map(|lines| weighted_sum(lines, v)).collect()
    }

    /// Aᵀ u.
    pub(crate) fn back(&self, u: &[PanelRow<f32>]) -> Vec<f32> {
        let mut out = vec![0.0; self.t];
        for (lines, u) in self.panels.chunks_exact(self.t).zip(u) {
            add_dots(lines, u, &mut out);
        }
        out
    }

    /// As the `lipschitz` of the reference.
    fn lipschitz(&self) -> f32 {
        let mut v = vec![1f32; self.t];
        for _ in 0..POWER_ROUNDS {
            v = self.back(&self.image(&v));
            let largest = v.iter().fold(TINY as f32, |largest, x| largest.max(*x));
            for x in &mut v {
                *x = (*x / largest).max(FLOOR as f32);
            }
        }
        let image = self.back(&self.image(&v));
        image.iter().zip(&v).fold(TINY as f32, |largest, (image, v)| largest.max(image / v))
    }

    /// The weight that all columns could share, as the start that [`NnlsStart::Shared`](crate::NnlsStart) names.
    pub(crate) fn shared_weight(&self, y: &[PanelRow<f32>]) -> f32 {
        let rows = self.image(&vec![1.0; self.t]);
        let (mut along, mut norm) = (TINY as f32, TINY as f32);
        for (row, y) in rows.iter().flatten().zip(y.iter().flatten()) {
            along += row * y;
            norm += row * row;
        }
        along / norm
    }
}

/// Minimises ‖A w − y‖² from `w` on; the steps of the reference's `projected_gradient`.
pub(crate) fn descend(
    a: &Columns<'_>,
    y: &[PanelRow<f32>],
    bounds: (f64, f64),
    iterations: usize,
    mut w: Vec<f32>,
) -> Vec<f32> {
    if iterations == 0 {
        return w;
    }
    let (lower, upper) = (bounds.0 as f32, bounds.1 as f32);
    let step = 1.0 / a.lipschitz();
    let mut image = a.image(&w);
    let mut objective = squared_distance(&image, y);
    let (mut ahead, mut ahead_image) = (w.clone(), image.clone());
    let mut momentum = 1.0f64;
    for _ in 0..iterations {
        let gradient = a.back(&difference(&ahead_image, y));
        let next: Vec<f32> =
            ahead.iter().zip(gradient).map(|(w, g)| (w - g * step).clamp(lower, upper)).collect();
        let next_image = a.image(&next);
        let next_objective = squared_distance(&next_image, y);
        let better = next_objective <= objective;
        let (before, before_image) = (w.clone(), image.clone());
        if better {
            (w, image, objective) = (next.clone(), next_image.clone(), next_objective);
        }
        let grown = f64::midpoint(1.0, (1.0 + 4.0 * momentum * momentum).sqrt());
        let (along, past) = ((momentum / grown) as f32, ((momentum - 1.0) / grown) as f32);
        let carry = |best: f32, next: f32, before: f32| best + (next - best) * along + (best - before) * past;
        for (j, ahead) in ahead.iter_mut().enumerate() {
            *ahead = carry(w[j], next[j], before[j]);
        }
        for (p, line) in ahead_image.iter_mut().enumerate() {
            for (c, ahead) in line.iter_mut().enumerate() {
                *ahead = carry(image[p][c], next_image[p][c], before_image[p][c]);
            }
        }
        momentum = grown;
    }
    w
}

fn difference(a: &[PanelRow<f32>], b: &[PanelRow<f32>]) -> Image {
    let line = |(a, b): (&PanelRow<f32>, &PanelRow<f32>)| {
        let mut line = [0.0; PANEL];
        for ((line, a), b) in line.iter_mut().zip(a).zip(b) {
            *line = a - b;
        }
        line
    };
    a.iter().zip(b).map(line).collect()
}

/// ‖a − b‖².
pub(crate) fn squared_distance(a: &[PanelRow<f32>], b: &[PanelRow<f32>]) -> f32 {
    difference(a, b).iter().flatten().map(|x| x * x).sum()
}
