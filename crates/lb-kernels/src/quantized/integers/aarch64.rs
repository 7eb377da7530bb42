//! Which products of integers an ARM machine has.

#![allow(unsafe_code, reason = "functions of vectors, behind a check that the machine has them")]
#![allow(clippy::unused_self, reason = "`self` is the proof of that check")]

use super::super::{QuantFormat, QuantizedSlice};
use super::neon;
use super::rounded::{self, Rounded};

/// Proof that the machine sums products of bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Integers(());

impl Integers {
    /// `None` without dot products, and for formats that have no such product.
    pub(crate) fn detect(kind: QuantFormat) -> Option<Self> {
        (rounded::has(kind) && neon::detect()).then_some(Self(()))
    }

    /// All that the machine has.
    #[cfg(test)]
    pub(super) fn every() -> Vec<Self> {
        neon::detect().then_some(Self(())).into_iter().collect()
    }

    /// `x`, `[tokens, columns]`, to meet weights of `kind`.
    pub(crate) fn round(self, x: &[f32], columns: usize, kind: QuantFormat) -> Rounded {
        Rounded::new(x, columns, kind)
    }

    /// Rows of activations against rows of blocks: `out` is `[rows, tokens]`. Each row of blocks is read from memory once.
    ///
    /// # Numerics
    ///
    /// f32 sums over exact products of integers. A row's result is the same, to the bit, in whatever company it comes.
    pub(crate) fn gemv(self, x: &Rounded, weight: QuantizedSlice<'_>, columns: usize, out: &mut [f32]) {
        // SAFETY: `self` exists only where the features are.
        unsafe { neon::gemv(x, weight, columns, out) }
    }
}
