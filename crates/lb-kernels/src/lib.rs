//! CPU kernels on slices, in the widest vectors of the machine: what attention, its compaction and a decoder's weights
//! have in common.
//!
//! | Kernel | What it computes |
//! |---|---|
//! | [`attend`] | softmax attention of a block of queries over the slots of one KV head, with running sums; few queries take a path of their own, as in decoding |
//! | [`gemm`] | `x Wᵀ` by packed panels; few rows of `x` as matrix-vector products |
//! | [`RmsNorm`], [`NormRope`], [`silu_mul`], [`gelu_tanh_mul`] | norms, norm and rotation of heads in one pass, the gates of feed-forward blocks |
//! | [`PackedRows`] | keys and values in 8, 4 or 2 bits; attention unpacks them tile by tile |
//! | [`f32_to_bf16`], [`f32_to_f16`], [`FloatSlice::to_f32`] | conversions |
//! | [`panel`] | products and sums over packed panels, for fits made elsewhere |
//!
//! Slices are f32, bf16 or f16 ([`FloatSlice`]), keys and values in few bits ([`PackedSlice`]), or blocks of a GGUF file ([`QuantizedSlice`]), read where they lie. Only
//! [`CpuTensors`] knows candle's tensors: it hands out their bytes. No kernel allocates on the path of a slot or a row;
//! threads are rayon's.
//!
//! Each kernel has a twin of tensor operations or plain loops that tests hold it to, with a named tolerance.
//!
//! ```
//! use lb_kernels::{AttentionInput, FloatSlice, KvSlice, Scratch, attend};
//!
//! // One query of width 2 over two slots; the second is the better match.
//! let (keys, values) = ([0f32, 0.0, 4.0, 0.0], [1f32, 0.0, 0.0, 1.0]);
//! let slots = [KvSlice { keys: FloatSlice::F32(&keys).into(), values: FloatSlice::F32(&values).into(), bias: None }];
//! let input = AttentionInput {
//!     queries: &[1.0, 0.0],
//!     head_dim: 2,
//!     scale: 0.5,
//!     chunks: &slots,
//!     hidden: None,
//!     visible: None,
//!     allow_bf16: false,
//!     output: true,
//!     observe: None,
//! };
//! let mut out = [0f32; 2];
//! attend(&input, &mut Scratch::default(), &mut out);
//! let share = 1.0 / (1.0 + (-2f32).exp());
//! assert!((out[1] - share).abs() < 1e-6 && (out[0] + out[1] - 1.0).abs() < 1e-6);
//! ```

mod attention;
mod convert;
mod cpu_tensors;
mod decode_attention;
mod decode_products;
mod error;
mod exp;
mod float_slice;
mod gated_mul;
mod gemm;
mod gemv;
mod kv_rows;
mod microkernel;
mod microkernel_bf16;
#[cfg(target_arch = "aarch64")]
mod microkernel_bf16_neon;
mod norm_rope;
mod online_softmax;
mod packed_rows;
mod packed_tensors;
mod panel_ops;
mod prefetch;
mod quantized;
mod rms_norm;
#[cfg(test)]
mod test_numbers;
mod weight;

pub use attention::{AttentionInput, KvSlice, Observation, Observe, QUERY_BLOCK, Scratch, attend};
pub use convert::{f32_to_bf16, f32_to_f16};
pub use cpu_tensors::{CpuTensors, contiguous_heads};
pub use error::{Error, Result};
pub use float_slice::FloatSlice;
pub use gated_mul::{gelu_tanh_mul, silu_mul};
pub use gemm::gemm;
pub use kv_rows::KvRows;
pub use norm_rope::NormRope;
pub use online_softmax::QueryAgg;
pub use packed_rows::{GROUP, Grids, PackedBits, PackedRows, PackedSlice};
pub use quantized::{QuantFormat, QuantizedSlice};
pub use rms_norm::RmsNorm;
pub use weight::Weight;

/// Products and sums over packed panels: what a fit of many queries against the slots of a head is made of.
///
/// A panel is `[depth][`[`PANEL`](panel::PANEL)`]`: [`PanelRow`](panel::PanelRow)s, one for each slot or each number of a
/// head's width, with the queries side by side in them. Columns that no query fills hold zeros, or what nobody reads.
pub mod panel {
    pub use crate::microkernel::{MatrixView, PANEL, PanelRow, matmul_panel, pack_panels};
    pub use crate::online_softmax::OnlineSoftmax;
    pub use crate::panel_ops::{add_dots, exp_shifted, scale_columns, scaled_rows, weighted_sum};
}

/// The examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
