//! The same products in integers, for a few rows of activations: the machine's sums of products of bytes.
//!
//! An activation is an integer of 23 bits (21 where it meets weights of eight) under a scale for every 32 of them, in three
//! bytes: that is as near to the f32 number as f32 sums are to each other, so nothing is lost against the portable twin
//! (`gemv.rs`). On x86 a byte of a weight is unsigned, and what its format subtracts from every number is taken off in whole
//! lanes; NEON's products are of signed bytes, so it is taken off first.
//!
//! Activations are made once and met by every row of the weight, so they take the order in which blocks hold their numbers, such
//! that two vectors of weights have the same scales by lane: their products are one sum of integers.
//!
//! Like `microkernel_bf16.rs` modules of intrinsics; tests hold them and their twin together.

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx2_blocks;
#[cfg(target_arch = "x86_64")]
mod avx2_k_quants;
#[cfg(target_arch = "x86_64")]
mod avx2_legacy_quants;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512_blocks;
#[cfg(target_arch = "x86_64")]
mod avx512_k_quants;
#[cfg(target_arch = "x86_64")]
mod avx512_legacy_quants;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
mod neon_blocks;
#[cfg(target_arch = "aarch64")]
mod neon_k_quants;
#[cfg(target_arch = "aarch64")]
mod neon_legacy_quants;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod rounded;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod scales;
#[cfg(test)]
pub(super) mod tests;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "aarch64")]
pub(crate) use aarch64::Integers;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) use none::Integers;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::Integers;

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod none {
    use super::super::{QuantFormat, QuantizedSlice};

    /// Nothing is rounded for nobody.
    #[derive(Debug)]
    pub(crate) enum Rounded {}

    /// No machine of this kind has such sums here.
    #[derive(Clone, Copy, Debug)]
    pub(crate) enum Integers {}

    impl Integers {
        pub(crate) fn detect(_: QuantFormat) -> Option<Self> {
            None
        }

        #[cfg(test)]
        pub(super) fn every() -> Vec<Self> {
            Vec::new()
        }

        pub(crate) fn round(self, _: &[f32], _: usize, _: QuantFormat) -> Rounded {
            match self {}
        }

        pub(crate) fn gemv(self, _: &Rounded, _: QuantizedSlice<'_>, _: usize, _: &mut [f32]) {
            match self {}
        }
    }
}
