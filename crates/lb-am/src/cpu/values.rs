//! Values of one head: the twin of `reference/values.rs` on slices.

use lb_kernels::panel::{MatrixView, PANEL, PanelRow, matmul_panel, scaled_rows};

use super::exact::Exact;
use super::fit::Head;
use super::gather::round_to;
use crate::cholesky::Systems;
use crate::error::Result;
use crate::fits::{EXACT_BELOW, Pull, ValuesPart, omega_of};

/// Panels of queries whose products are summed up in f32 before they are added in f64, so that rounding does not grow with
/// the queries.
const PANELS_TOGETHER: usize = 4;
/// Queries in them.
const QUERIES_TOGETHER: usize = PANELS_TOGETHER * PANEL;

/// X, and how products with it are taken.
enum Products<'a> {
    /// In f32, in panels, with memory to use.
    Narrow(&'a [PanelRow<f32>], &'a mut Vec<PanelRow<f32>>),
    /// In f64.
    Exact(Exact<'a>),
}

/// The D that a system gives.
struct Change {
    /// `[t, d]`.
    values: Vec<f32>,
    jitter: f64,
    /// ‖R − X D‖², where the system says so.
    left: Option<f64>,
}

impl Head<'_> {
    /// Values that minimise ‖X C2 − Y‖² + λ' Σ ω_j ‖C2_j − V_j‖², λ' = λ · mean diagonal of X Ω⁻¹ Xᵀ, or without V; by a system
    /// of min(n, t) rows.
    ///
    /// # Shapes
    ///
    /// `attention` X `[panels, t]`, `output` Y `[n, d]`; returns `[t, d]`. `lines` is memory to use.
    ///
    /// # Numerics
    ///
    /// Products in f32, sums over more than 192 queries and the system in f64; below a λ of 1e-3 all in f64.
    pub(super) fn ridge(
        &self,
        attention: &[PanelRow<f32>],
        lines: &mut Vec<PanelRow<f32>>,
        output: &[f32],
        pull: Pull,
        part: &mut ValuesPart,
    ) -> Result<Vec<f32>> {
        let residual = self.residual(attention, output, self.values);
        let goal = if pull.to_original { &residual[..] } else { output };
        let omega = omega_of(self.importance, pull.exponent, self.t());
        let products = if pull.lambda < EXACT_BELOW {
            Products::Exact(Exact { attention, n: self.n(), t: self.t() })
        } else {
            Products::Narrow(attention, lines)
        };
        let change = if self.n() < self.t() {
            self.dual(products, goal, &omega, pull.lambda)?
        } else {
            self.primal(products, goal, &omega, pull.lambda)?
        };
        let mut values = change.values;
        if pull.to_original {
            values.iter_mut().zip(self.values).for_each(|(value, original)| *value += original);
        }
        round_to(self.dtype, &mut values);
        part.before = squared_norm(&residual);
        part.after = change.left.unwrap_or_else(|| squared_norm(&self.residual(attention, output, &values)));
        part.output = squared_norm(output);
        part.jitter = change.jitter;
        Ok(values)
    }

    /// Y − X V, `[n, d]`, for values V `[t, d]`.
    fn residual(&self, attention: &[PanelRow<f32>], output: &[f32], values: &[f32]) -> Vec<f32> {
        let d = self.width;
        let mut residual = output.to_vec();
        for (panel, lines) in attention.chunks_exact(self.t()).enumerate() {
            let mut sums = vec![[0.0; PANEL]; d];
            matmul_panel(MatrixView::columns(values, d), lines, self.used(panel), &mut sums);
            for (column, row) in residual[panel * PANEL * d..].chunks_exact_mut(d).take(PANEL).enumerate() {
                row.iter_mut().zip(&sums).for_each(|(y, line)| *y -= line[column]);
            }
        }
        residual
    }

    /// D = Ω⁻¹ Xᵀ (X Ω⁻¹ Xᵀ + λ'I)⁻¹ R.
    fn dual(&self, mut products: Products<'_>, goal: &[f32], omega: &[f64], lambda: f64) -> Result<Change> {
        let n = self.n();
        let inverse: Vec<f64> = omega.iter().map(|omega| 1.0 / omega).collect();
        let narrow: Vec<f32> = inverse.iter().map(|x| *x as f32).collect();
        let mut matrices = match &mut products {
            Products::Exact(exact) => exact.outer_gram(&inverse),
            Products::Narrow(attention, lines) => self.gram(attention, lines, &narrow),
        };
        let scale = (0..n).map(|i| matrices[i * n + i]).sum::<f64>() / n as f64;
        (0..n).for_each(|i| matrices[i * n + i] += lambda * scale);
        let right = goal.iter().map(|x| f64::from(*x)).collect();
        let mut systems = Systems { size: n, columns: self.width, matrices, right };
        let jitter = systems.solve()?;
        let values = match &mut products {
            Products::Exact(exact) => {
                let back = exact.back(&systems.right, self.width);
                let rows = back.chunks_exact(self.width).zip(&inverse);
                rows.flat_map(|(row, inverse)| row.iter().map(move |x| (x * inverse) as f32)).collect()
            }
            Products::Narrow(attention, lines) => self.change(attention, lines, &systems.right, &narrow),
        };
        // (G + λ'I) U = R says what is left of R, R − G U, without another product with X.
        let held = scale * (lambda + jitter * (1.0 + lambda));
        let left = systems.right.iter().map(|x| (held * x).powi(2)).sum();
        Ok(Change { values, jitter, left: Some(left) })
    }

    /// X Ω⁻¹ Xᵀ, `[n, n]`; the lower triangle is all that is read.
    fn gram(
        &self,
        attention: &[PanelRow<f32>],
        softened: &mut Vec<PanelRow<f32>>,
        inverse: &[f32],
    ) -> Vec<f64> {
        let (n, t) = (self.n(), self.t());
        let mut gram = vec![0f64; n * n];
        softened.resize(t, [0.0; PANEL]);
        for (right, lines) in attention.chunks_exact(t).enumerate() {
            scaled_rows(lines, inverse, softened);
            for (left, rows) in attention.chunks_exact(t).enumerate().skip(right) {
                let count = self.used(left);
                let rows = MatrixView { data: rows.as_flattened(), count, row_step: 1, k_step: PANEL };
                let mut block = [[0.0; PANEL]; PANEL];
                matmul_panel(rows, softened, self.used(right), &mut block);
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
    fn change(
        &self,
        attention: &[PanelRow<f32>],
        lines: &mut Vec<PanelRow<f32>>,
        dual: &[f64],
        inverse: &[f32],
    ) -> Vec<f32> {
        let (n, t, d) = (self.n(), self.t(), self.width);
        let mut change = vec![0f32; t * d];
        for first in (0..d).step_by(PANEL) {
            let width = PANEL.min(d - first);
            lines.clear();
            lines.resize(t, [0.0; PANEL]);
            for (panel, rows) in attention.chunks_exact(t).enumerate() {
                let used = self.used(panel);
                let mut right = vec![[0.0; PANEL]; used];
                for (row, line) in right.iter_mut().enumerate() {
                    let from = &dual[(panel * PANEL + row) * d + first..][..width];
                    line.iter_mut().zip(from).for_each(|(to, from)| *to = *from as f32);
                }
                debug_assert!(panel * PANEL + used <= n);
                let rows = MatrixView { data: rows.as_flattened(), count: t, row_step: PANEL, k_step: 1 };
                matmul_panel(rows, &right, width, lines);
            }
            for ((to, line), inverse) in change.chunks_exact_mut(d).zip(&*lines).zip(inverse) {
                to[first..first + width].iter_mut().zip(line).for_each(|(to, x)| *to = x * inverse);
            }
        }
        change
    }

    /// D = Ω⁻¹ᐟ² (Ω⁻¹ᐟ² Xᵀ X Ω⁻¹ᐟ² + λ'I)⁻¹ Ω⁻¹ᐟ² Xᵀ R. With the weights on both sides of the product, λ' holds every slot
    /// alike and a jitter means what it means in the dual form: a larger λ.
    fn primal(&self, products: Products<'_>, goal: &[f32], omega: &[f64], lambda: f64) -> Result<Change> {
        let (n, t, d) = (self.n(), self.t(), self.width);
        let (mut matrices, mut right) = match products {
            Products::Exact(exact) => {
                let goal: Vec<f64> = goal.iter().map(|x| f64::from(*x)).collect();
                (exact.gram(), exact.back(&goal, d))
            }
            Products::Narrow(attention, turned) => self.normal_equations(attention, turned, goal, d),
        };
        let soft: Vec<f64> = omega.iter().map(|omega| omega.sqrt().recip()).collect();
        for (i, row) in matrices.chunks_exact_mut(t).enumerate() {
            row[..=i].iter_mut().zip(&soft).for_each(|(x, other)| *x *= soft[i] * other);
        }
        let scale_right = |right: &mut [f64]| {
            for (row, by) in right.chunks_exact_mut(d).zip(&soft) {
                for x in row {
                    *x *= by;
                }
            }
        };
        scale_right(&mut right);
        let scale = (0..t).map(|j| matrices[j * t + j]).sum::<f64>() / n as f64;
        (0..t).for_each(|j| matrices[j * t + j] += lambda * scale);
        let mut systems = Systems { size: t, columns: d, matrices, right };
        let jitter = systems.solve()?;
        scale_right(&mut systems.right);
        let values = systems.right.iter().map(|x| *x as f32).collect();
        Ok(Change { values, jitter, left: None })
    }

    /// Xᵀ X `[t, t]`, of which the lower triangle is filled and some of what is above, and Xᵀ R `[t, d]`.
    pub(super) fn normal_equations(
        &self,
        attention: &[PanelRow<f32>],
        turned: &mut Vec<PanelRow<f32>>,
        goal: &[f32],
        d: usize,
    ) -> (Vec<f64>, Vec<f64>) {
        let (n, t) = (self.n(), self.t());
        let (mut gram, mut right) = (vec![0f64; t * t], vec![0f64; t * d]);
        let blocks = t.div_ceil(PANEL);
        turned.resize(blocks * QUERIES_TOGETHER, [0.0; PANEL]);
        let mut goals = vec![[0f32; PANEL]; d.div_ceil(PANEL) * QUERIES_TOGETHER];
        for (some, panels) in attention.chunks(PANELS_TOGETHER * t).enumerate() {
            let first = some * QUERIES_TOGETHER;
            let depth = QUERIES_TOGETHER.min(n - first);
            turn(panels, t, depth, turned);
            for (query, row) in goal[first * d..].chunks_exact(d).take(depth).enumerate() {
                for (part, row) in row.chunks(PANEL).enumerate() {
                    goals[part * QUERIES_TOGETHER + query][..row.len()].copy_from_slice(row);
                }
            }
            for (block, lines) in turned.chunks_exact(QUERIES_TOGETHER).enumerate() {
                let from = block * PANEL;
                let count = PANEL.min(t - from);
                let slots =
                    MatrixView { data: lines[..depth].as_flattened(), count, row_step: 1, k_step: PANEL };
                let add = |panels: &[PanelRow<f32>], width: usize, out: &mut [f64]| {
                    for (part, lines) in panels.chunks_exact(QUERIES_TOGETHER).enumerate() {
                        let columns = part * PANEL..width.min((part + 1) * PANEL);
                        let mut sums = [[0.0; PANEL]; PANEL];
                        matmul_panel(slots, &lines[..depth], columns.len(), &mut sums);
                        for (out, sums) in out[from * width..].chunks_exact_mut(width).zip(&sums[..count]) {
                            out[columns.clone()]
                                .iter_mut()
                                .zip(sums)
                                .for_each(|(to, x)| *to += f64::from(*x));
                        }
                    }
                };
                add(&turned[..(block + 1) * QUERIES_TOGETHER], t, &mut gram);
                add(&goals, d, &mut right);
            }
        }
        (gram, right)
    }
}

/// From panels of queries, a line for each slot, to panels of slots, a line for each of `depth` queries.
fn turn(panels: &[PanelRow<f32>], t: usize, depth: usize, turned: &mut [PanelRow<f32>]) {
    for (panel, slots) in panels.chunks_exact(t).enumerate() {
        let first = panel * PANEL;
        let count = PANEL.min(depth - first);
        for (block, slots) in slots.chunks(PANEL).enumerate() {
            let lines = &mut turned[block * QUERIES_TOGETHER + first..][..count];
            for (slot, line) in slots.iter().enumerate() {
                for (to, x) in lines.iter_mut().zip(line) {
                    to[slot] = *x;
                }
            }
        }
    }
}

fn squared_norm(values: &[f32]) -> f64 {
    values.iter().map(|value| f64::from(*value).powi(2)).sum()
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::{Change, Exact, Head, Products, squared_norm};
    use crate::config::ValuesMethod;
    use crate::fits::{Pull, ValuesPart, omega_of};

    /// Of values or what they give, relative to the largest: with products in f64, and in f32.
    const EXACT: f32 = 1e-4;
    const NARROW: f32 = 2e-4;

    const WIDTH: usize = 20;

    /// Queries and slots: few, around one another and around panels, and many.
    const SIZES: [(usize, usize); 9] =
        [(1, 1), (7, 100), (47, 48), (48, 48), (49, 48), (100, 97), (192, 60), (193, 60), (1000, 30)];

    /// Numbers from a fixed seed, in [−1, 1) · `size`.
    fn numbers(count: usize, seed: u64, size: f32) -> Vec<f32> {
        let mut state = seed;
        let next = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * size
        };
        (0..count).map(next).collect()
    }

    fn farthest(a: &[f32], b: &[f32]) -> f32 {
        let largest = b.iter().fold(0f32, |largest, x| largest.max(x.abs()));
        a.iter().zip(b).fold(0f32, |far, (a, b)| far.max((a - b).abs())) / largest
    }

    #[test]
    fn both_forms_give_the_same_values() {
        for (n, t) in SIZES {
            let (queries, keys) = (numbers(n * WIDTH, 1, 3.0), numbers(t * WIDTH, 2, 1.0));
            let (values, output) = (numbers(t * WIDTH, 3, 1.0), numbers(n * WIDTH, 4, 1.0));
            let importance: Vec<f32> = numbers(t, 5, 1.0).into_iter().map(f32::abs).collect();
            let ones = vec![1.0; n];
            let head = Head {
                queries: &queries,
                keys: &keys,
                values: &values,
                carried: &vec![0.0; t],
                importance: &importance,
                max: &ones,
                mass: &ones,
                output: Some(&output),
                width: WIDTH,
                scale: 1.0,
                dtype: DType::F32,
            };
            let mut attention = Vec::new();
            head.logits(&mut attention);
            head.attention(&mut attention, head.carried);
            for method in [
                ValuesMethod::default(),
                ValuesMethod::Ridge { lambda: 0.01, importance: 2.0 },
                ValuesMethod::Ridge { lambda: 10.0, importance: 0.0 },
                ValuesMethod::RidgeToZero { lambda: 0.1 },
                ValuesMethod::LeastSquares,
            ] {
                let pull = Pull::of(method).unwrap();
                let omega = omega_of(&importance, pull.exponent, t);
                let exact = || Products::Exact(Exact { attention: &attention, n, t });
                let start = if pull.to_original { values.clone() } else { vec![0.0; values.len()] };
                let goal = head.residual(&attention, &output, &start);
                let fitted = |change: Change| -> Vec<f32> {
                    change.values.iter().zip(&start).map(|(change, start)| change + start).collect()
                };
                let dual = fitted(head.dual(exact(), &goal, &omega, pull.lambda).unwrap());
                let primal = fitted(head.primal(exact(), &goal, &omega, pull.lambda).unwrap());
                let mut part = ValuesPart::default();
                let got = head.ridge(&attention, &mut Vec::new(), &output, pull, &mut part).unwrap();
                for (other, tolerance) in [(&dual, EXACT), (&got, NARROW)] {
                    // Values that nothing holds may differ where what they give does not.
                    let far = if method == ValuesMethod::LeastSquares {
                        let give = |values| head.residual(&attention, &vec![0.0; output.len()], values);
                        farthest(&give(other), &give(&primal))
                    } else {
                        farthest(other, &primal)
                    };
                    assert!(far <= tolerance, "{n} queries, {t} slots, {method:?}: {far:e}");
                }
                // What the report says of either form is what is left.
                let left = squared_norm(&head.residual(&attention, &output, &got));
                let apart = (part.after - left).abs() / part.output;
                assert!(apart <= f64::from(NARROW), "{n} queries, {t} slots, {method:?}: {apart:e}");
            }
        }
    }
}
