//! `x Wᵀ` for many rows of activations: weights are read where they lie, activations become panels.
//!
//! Each thread takes a run of weight rows. A block of them that fits the second cache meets panel after panel, so that
//! weights come from memory once.

use half::bf16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

use super::float_slice::{FloatSlice, pack_pairs};
use super::gemv;
use super::microkernel::{MatrixView, PANEL, PanelRow, matmul_panel, pack_column};
use super::microkernel_bf16::{Bf16Microkernel, Bf16Pair};
use super::weight::Weight;

/// Lines of a panel at a time: with 192 bytes each they stay in the second cache while rows come and go.
const DEPTH: usize = 1024;
/// Bytes of weights that meet one panel after another.
const BLOCK: usize = 384 << 10;
/// Weight rows of a block, at most.
const BLOCK_ROWS: usize = 64;
/// Pieces of work for each thread, so that none waits long for the last.
const PIECES: usize = 4;

/// `x Wᵀ`. A few rows of activations, as in decoding, meet the weights one by one (`gemv.rs`): a row's result is
/// then the same, to the bit, in whatever company it comes.
///
/// # Shapes
///
/// `x` `[tokens, columns]`, `weight` `[rows, columns]`, `out` `[tokens, rows]`.
///
/// # Numerics
///
/// f32, with 16-bit weights widened exactly and those in blocks as their format says. Where `allow_bf16` says
/// so, there are more than 48 rows, weights are bf16 or in blocks and the machine multiplies bf16, `x` and what was in blocks are
/// rounded to bf16 and sums are f32: long inputs are read faster, and what is decoded, in batches too, is exact.
pub fn gemm(x: &[f32], weight: Weight<'_>, columns: usize, allow_bf16: bool, out: &mut [f32]) {
    if x.is_empty() || weight.is_empty() {
        return out.fill(0.0);
    }
    let rows = weight.len() / columns;
    if gemv::is_for(x.len() / columns, weight) {
        return gemv::gemv(x, weight, columns, out);
    }
    let narrow = matches!(weight, Weight::Dense(FloatSlice::Bf16(_)) | Weight::Quantized(_));
    let native = columns.is_multiple_of(2) && narrow;
    let bf16 = Bf16Microkernel::detect().filter(|_| allow_bf16 && native && x.len() > PANEL * columns);
    if bf16.is_some() {
        let panels = packed(x, columns, columns / 2, pack_pairs);
        Work { panels, weight, rows, columns, bf16 }.run(out, &Work::pairs);
    } else {
        let panels = packed(x, columns, columns, pack_column);
        Work { panels, weight, rows, columns, bf16 }.run(out, &Work::plain);
    }
}

/// Panels of `depth` lines, behind one another; `put` writes a row to a column of its panel.
fn packed<T: Copy + Default + Send>(
    x: &[f32],
    columns: usize,
    depth: usize,
    put: impl Fn(&[f32], &mut [PanelRow<T>], usize) + Sync,
) -> Vec<PanelRow<T>> {
    let panels = x.len().div_ceil(PANEL * columns);
    let mut lines = vec![[T::default(); PANEL]; panels * depth];
    lines.par_chunks_mut(depth).zip(x.par_chunks(PANEL * columns)).for_each(|(lines, rows)| {
        for (column, row) in rows.chunks_exact(columns).enumerate() {
            put(row, lines, column);
        }
    });
    lines
}

struct Work<'a, T> {
    panels: Vec<PanelRow<T>>,
    weight: Weight<'a>,
    rows: usize,
    columns: usize,
    bf16: Option<Bf16Microkernel>,
}

/// Rows `first..first + count` of the weight, numbers `from..` of each, against some rows of a panel.
struct Step<'a, T> {
    block: Weight<'a>,
    count: usize,
    from: usize,
    lines: &'a [PanelRow<T>],
    used: usize,
}

/// Adds a step's products to the sums.
type Stepping<'a, W, T> = dyn Fn(&W, &Step<'_, T>, &mut [PanelRow<f32>]) + Sync + 'a;

impl<T: Sync> Work<'_, T> {
    fn run(&self, out: &mut [f32], step: &Stepping<'_, Self, T>) {
        let share = self.rows.div_ceil(PIECES * rayon::current_num_threads());
        let share = share.next_multiple_of(8).min(256);
        // Each piece writes its own columns of every row of the output.
        let mut pieces: Vec<Vec<&mut [f32]>> = Vec::new();
        pieces.resize_with(self.rows.div_ceil(share), Vec::new);
        for row in out.chunks_mut(self.rows) {
            for (piece, part) in pieces.iter_mut().zip(row.chunks_mut(share)) {
                piece.push(part);
            }
        }
        pieces.into_par_iter().enumerate().for_each(|(index, mut piece)| {
            self.piece(index * share, &mut piece, step);
        });
    }

    /// The weight rows from `first` on, as many as the slices of `out` are long.
    fn piece(&self, first: usize, out: &mut [&mut [f32]], step: &Stepping<'_, Self, T>) {
        let columns = self.columns;
        let size = if self.bf16.is_some() { 2 } else { 4 };
        let together = (BLOCK / (columns * size) / 8 * 8).clamp(8, BLOCK_ROWS);
        let depth = self.panels.len() / out.len().div_ceil(PANEL);
        let (mut wide, mut narrow) = (Vec::new(), Vec::new());
        let mut sums = [[0f32; PANEL]; BLOCK_ROWS];
        let rows = out[0].len();
        for start in (0..rows).step_by(together) {
            let count = together.min(rows - start);
            let block = self.weight.range((first + start) * columns, count * columns);
            let block = match (self.bf16, block) {
                (Some(_), Weight::Dense(_)) => block,
                (Some(bf16), Weight::Quantized(block)) => {
                    narrow.resize(block.len(), bf16::ZERO);
                    block.to_bf16(bf16, narrow.reinterpret_cast_mut());
                    FloatSlice::Bf16(&narrow).into()
                }
                (None, block) => FloatSlice::F32(block.as_f32(&mut wide)).into(),
            };
            for (panel, out) in self.panels.chunks_exact(depth).zip(out.chunks_mut(PANEL)) {
                let sums = &mut sums[..count];
                sums.fill([0.0; PANEL]);
                for (part, lines) in panel.chunks(DEPTH).enumerate() {
                    let from = part * DEPTH * columns / depth;
                    step(self, &Step { block, count, from, lines, used: out.len() }, sums);
                }
                for (column, out) in out.iter_mut().enumerate() {
                    for (to, line) in out[start..start + count].iter_mut().zip(&*sums) {
                        *to = line[column];
                    }
                }
            }
        }
    }
}

impl Work<'_, f32> {
    fn plain(&self, step: &Step<'_, f32>, sums: &mut [PanelRow<f32>]) {
        let Weight::Dense(FloatSlice::F32(block)) = step.block else { return };
        let rows =
            MatrixView { data: &block[step.from..], count: step.count, row_step: self.columns, k_step: 1 };
        matmul_panel(rows, step.lines, step.used, sums);
    }
}

impl Work<'_, Bf16Pair> {
    fn pairs(&self, step: &Step<'_, Bf16Pair>, sums: &mut [PanelRow<f32>]) {
        let (Some(bf16), Weight::Dense(block)) = (self.bf16, step.block) else { return };
        let data = &block.bits()[step.from..];
        let rows = MatrixView { data, count: step.count, row_step: self.columns, k_step: 2 };
        bf16.matmul_panel(rows, step.lines, step.used, sums, &[]);
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::{FloatSlice, gemm};
    use crate::test_numbers::numbers;

    /// Relative to the sum of the products' sizes: f32 sums, and activations rounded to bf16.
    const F32: f64 = 1e-6;
    const ROUNDED: f64 = 4e-3;

    /// Against plain loops in f64; sizes around blocks, panels and depths.
    #[test]
    fn products_are_those_of_plain_loops() {
        for (tokens, rows, columns) in
            [(1, 1, 2), (5, 70, 1031), (13, 37, 130), (48, 64, 256), (49, 9, 1031), (100, 300, 2050)]
        {
            let (x, weight) = (numbers(tokens * columns, 1), numbers(rows * columns, 2));
            let bf: Vec<bf16> = weight.iter().map(|w| bf16::from_f32(*w)).collect();
            let half: Vec<f16> = weight.iter().map(|w| f16::from_f32(*w)).collect();
            let cases = [
                (FloatSlice::F32(&weight), false, F32),
                (FloatSlice::F16(&half), true, F32),
                (FloatSlice::Bf16(&bf), false, F32),
                (FloatSlice::Bf16(&bf), true, ROUNDED),
            ];
            for (numbers, round, tolerance) in cases {
                let mut wide = vec![0.0; weight.len()];
                numbers.to_f32(&mut wide);
                let mut out = vec![f32::NAN; tokens * rows];
                gemm(&x, numbers.into(), columns, round, &mut out);
                for (got, (x, w)) in out.iter().zip(
                    x.chunks_exact(columns).flat_map(|x| wide.chunks_exact(columns).map(move |w| (x, w))),
                ) {
                    let terms = || x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w));
                    let (want, size) = (terms().sum::<f64>(), terms().map(f64::abs).sum::<f64>());
                    let far = (f64::from(*got) - want).abs() / size;
                    assert!(far <= tolerance, "{tokens}x{rows}x{columns}, {round}: {far:e}");
                }
            }
        }
    }
}
