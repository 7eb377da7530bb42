//! From numbers to grids and codes.

use half::f16;
use pulp::Arch;

use super::{GROUP, Grids, Shape};
use crate::error::{Error, Result};

impl Shape {
    pub(super) fn pack_head(self, rows: &[f32], codes: &mut [u8], grid: &mut [f16]) -> Result<()> {
        if let Some(x) = rows.iter().find(|x| !x.is_finite()) {
            return Err(Error::Range(*x));
        }
        let (width, line, entries) = (self.width, self.line(), self.entries());
        let together = self.together();
        let mut group = Group {
            low: vec![0.0; entries],
            high: vec![0.0; entries],
            zeros: vec![0.0; width],
            inverse: vec![0.0; width],
        };
        let groups = rows.chunks(together * width).zip(codes.chunks_mut(together * line));
        for ((rows, codes), grid) in groups.zip(grid.chunks_exact_mut(2 * entries)) {
            Arch::new().dispatch(|| group.find_extremes(self, rows));
            group.find_grids(self, grid)?;
            Arch::new().dispatch(|| group.encode(self, rows, codes));
        }
        Ok(())
    }
}

/// What is known of the rows that share their grids.
struct Group {
    /// The smallest number by grid.
    low: Vec<f32>,
    /// The largest.
    high: Vec<f32>,
    /// The zero by channel.
    zeros: Vec<f32>,
    /// 1 / step by channel; 0 for a step of 0.
    inverse: Vec<f32>,
}

impl Group {
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "what is not inlined into a dispatch runs without its vectors")]
    fn find_extremes(&mut self, shape: Shape, rows: &[f32]) {
        self.low.fill(f32::INFINITY);
        self.high.fill(f32::NEG_INFINITY);
        for row in rows.chunks_exact(shape.width) {
            let extremes = self.low.iter_mut().zip(&mut self.high);
            match shape.grids {
                Grids::PerChannel => {
                    for ((low, high), x) in extremes.zip(row) {
                        *low = low.min(*x);
                        *high = high.max(*x);
                    }
                }
                Grids::PerRow => {
                    for ((low, high), part) in extremes.zip(row.chunks(GROUP)) {
                        *low = part.iter().copied().fold(*low, f32::min);
                        *high = part.iter().copied().fold(*high, f32::max);
                    }
                }
            }
        }
    }

    fn find_grids(&mut self, shape: Shape, grid: &mut [f16]) -> Result<()> {
        let (zeros, steps) = grid.split_at_mut(shape.entries());
        let extremes = self.low.iter().zip(&self.high);
        for (entry, ((low, high), (zero, step))) in extremes.zip(zeros.iter_mut().zip(steps)).enumerate() {
            let out = || Error::Range(if low.abs() > high.abs() { *low } else { *high });
            (*zero, *step) = grid_of(*low, *high, shape.bits.top()).ok_or_else(out)?;
            let (zero, step) = (zero.to_f32(), step.to_f32());
            let channels = match shape.grids {
                Grids::PerChannel => entry..entry + 1,
                Grids::PerRow => entry * GROUP..shape.width.min((entry + 1) * GROUP),
            };
            self.zeros[channels.clone()].fill(zero);
            self.inverse[channels].fill(if step > 0.0 { 1.0 / step } else { 0.0 });
        }
        Ok(())
    }

    #[inline(always)]
    #[allow(clippy::inline_always, reason = "what is not inlined into a dispatch runs without its vectors")]
    fn encode(&self, shape: Shape, rows: &[f32], codes: &mut [u8]) {
        let top = f32::from(shape.bits.top());
        for (row, codes) in rows.chunks_exact(shape.width).zip(codes.chunks_exact_mut(shape.line())) {
            for part in 0..shape.bits.per_byte() {
                let ((first, count), shift) = (shape.part(part), part * shape.bits.count());
                if count == 0 {
                    break;
                }
                let grids = self.zeros[first..].iter().zip(&self.inverse[first..]);
                let numbers = row[first..first + count].iter().zip(grids);
                for (code, (x, (zero, inverse))) in codes.iter_mut().zip(numbers) {
                    // No number is below its zero, so that cutting off rounds to the nearest.
                    *code |= (((x - zero) * inverse + 0.5).min(top) as u8) << shift;
                }
            }
        }
    }
}

/// The zero and the step of the finest grid in f16 that has numbers from `low` to `high` between its ends; none where f16
/// does not reach.
fn grid_of(low: f32, high: f32, top: u8) -> Option<(f16, f16)> {
    let near = f16::from_f32(low);
    let zero = if near.to_f32() <= low { near } else { below(near) };
    let step = (high - zero.to_f32()) / f32::from(top);
    let near = f16::from_f32(step);
    // A step is never negative: the next one up has the next bits.
    let step = if near.to_f32() >= step { near } else { f16::from_bits(near.to_bits() + 1) };
    (zero.is_finite() && step.is_finite()).then_some((zero, step))
}

/// The next smaller number.
fn below(x: f16) -> f16 {
    match x.to_bits() {
        0 | 0x8000 => f16::from_bits(0x8001),
        bits if bits & 0x8000 == 0 => f16::from_bits(bits - 1),
        bits => f16::from_bits(bits + 1),
    }
}
