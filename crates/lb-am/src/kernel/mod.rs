//! Kernels for the CPU: numbers in slices, in the widest vectors of the machine.
//!
//! They are what scoring, fits and the worker's attention and weights have in common. Each has a plain twin of tensor
//! operations, which other devices run and tests compare with.

mod ahead;
mod attention;
mod blocks;
mod dots;
mod exp;
mod few;
mod gated;
mod glance;
mod heads;
mod held;
mod lines;
mod narrow;
mod norm;
mod numbers;
mod product;
mod soften;
mod tile;
mod weight;
mod widen;

pub use attention::{Question, ROWS, Scratch, Slots, Watch, Watched, attend};
pub use blocks::{BlockKind, Blocks};
pub use gated::{gate, gate_gelu};
pub use heads::Heads;
pub use held::{Held, packed_heads};
pub use narrow::{to_bf16, to_f16};
pub use norm::Norm;
pub use numbers::Numbers;
pub use product::product;
pub use weight::Weight;

/// What the fits of [`cpu`](crate::cpu) are made of.
pub(crate) mod fit {
    pub(crate) use super::lines::{add_dots, exp_shifted, scale_columns, scaled_lines, weighted_sum};
    pub(crate) use super::soften::Soften;
    pub(crate) use super::tile::{Line, PANEL, Rows, multiply, panels_of};
}
