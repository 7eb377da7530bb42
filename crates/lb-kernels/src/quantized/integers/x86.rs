//! Which products of integers an x86 machine has.

#![allow(unsafe_code, reason = "functions of vectors, behind a check that the machine has them")]
#![allow(clippy::unused_self, reason = "`self` is the proof of that check")]

use super::super::{QuantFormat, QuantizedSlice};
use super::rounded::{self, Rounded};
use super::{avx2, avx512};

/// Proof that the machine sums products of bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Integers(Vectors);

#[derive(Clone, Copy, Debug)]
enum Vectors {
    Avx2,
    Avx512,
}

impl Integers {
    /// The widest vectors that the machine has; `None` without AVX2, and for formats that have no such product.
    pub(crate) fn detect(kind: QuantFormat) -> Option<Self> {
        if !rounded::has(kind) {
            return None;
        }
        let vectors =
            if avx512::detect() { Some(Vectors::Avx512) } else { avx2::detect().then_some(Vectors::Avx2) };
        vectors.map(Self)
    }

    /// All that the machine has.
    #[cfg(test)]
    pub(super) fn every() -> Vec<Self> {
        let avx512 = avx512::detect().then_some(Self(Vectors::Avx512));
        let avx2 = avx2::detect().then_some(Self(Vectors::Avx2));
        avx512.into_iter().chain(avx2).collect()
    }

    /// `x`, `[tokens, columns]`, to meet weights of `kind`.
    pub(crate) fn round(self, x: &[f32], columns: usize, kind: QuantFormat) -> Rounded {
        #[target_feature(enable = "avx2,fma")]
        fn round(x: &[f32], columns: usize, kind: QuantFormat) -> Rounded {
            Rounded::new(x, columns, kind)
        }
        // SAFETY: `self` exists only where the features are.
        unsafe { round(x, columns, kind) }
    }

    /// Rows of activations against rows of blocks: `out` is `[rows, tokens]`. Each row of blocks is read from memory once.
    ///
    /// # Numerics
    ///
    /// f32 sums over exact products of integers. A row's result is the same, to the bit, in whatever company it comes.
    pub(crate) fn gemv(self, x: &Rounded, weight: QuantizedSlice<'_>, columns: usize, out: &mut [f32]) {
        // SAFETY: `self` exists only where the features are.
        unsafe {
            match self.0 {
                Vectors::Avx2 => avx2::gemv(x, weight, columns, out),
                Vectors::Avx512 => avx512::gemv(x, weight, columns, out),
            }
        }
    }
}
