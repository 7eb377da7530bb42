//! Whether numbers are numbers.

use candle_core::Tensor;
use lb_kernels::{CpuTensors, FloatSlice, contiguous_heads};
use pulp::Arch;
use rayon::prelude::*;

use crate::error::Result;

/// Reads the numbers where they lie, which is far cheaper than arithmetic in half precision.
pub(super) fn is_finite(tensor: &Tensor) -> Result<bool> {
    let tensor = contiguous_heads(tensor)?;
    let held = CpuTensors::new(&[&tensor])?;
    for head in 0..tensor.dim(0)? {
        let finite = match held.head(0, head)? {
            // An exponent of all ones is that of infinities and NaN.
            FloatSlice::F32(x) => all(x, |x| x.to_bits() & 0x7F80_0000 != 0x7F80_0000),
            FloatSlice::F16(x) => all(x, |x| x.to_bits() & 0x7C00 != 0x7C00),
            FloatSlice::Bf16(x) => all(x, |x| x.to_bits() & 0x7F80 != 0x7F80),
        };
        if !finite {
            return Ok(false);
        }
    }
    Ok(true)
}

fn all<T: Copy + Sync>(values: &[T], holds: impl Fn(T) -> bool + Sync) -> bool {
    // `&` instead of `&&`: without an early exit the compiler turns a chunk into vector code.
    let chunk_holds = |chunk: &[T]| chunk.iter().fold(true, |so_far, value| so_far & holds(*value));
    values.par_chunks(1 << 16).all(|chunk| Arch::new().dispatch(|| chunk_holds(chunk)))
}
