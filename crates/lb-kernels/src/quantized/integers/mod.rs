//! The same products in integers: AVX-512's sums of four products of bytes (VNNI), for a few rows of activations.
//!
//! An activation is an integer of 21 bits under a scale for every 32 of them, in three bytes: that is as near to the f32 number as
//! f32 sums are to each other, so nothing is lost against the portable twin (`gemv.rs`). A byte of a weight is unsigned; what its
//! format subtracts from every number is taken off in whole lanes.
//!
//! Like `microkernel_bf16.rs` a module of intrinsics; tests hold it and its twin together.

#[cfg(target_arch = "x86_64")]
mod rounded;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(not(target_arch = "x86_64"))]
pub(crate) use none::Integers;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::Integers;

#[cfg(not(target_arch = "x86_64"))]
mod none {
    use super::super::{QuantFormat, QuantizedSlice};

    /// Nothing is rounded for nobody.
    #[derive(Debug)]
    pub(crate) enum Rounded {}

    /// No machine of this kind has such sums here.
    #[derive(Clone, Copy, Debug)]
    pub(crate) enum Integers {}

    impl Integers {
        pub(crate) fn detect(_: QuantFormat, _: usize) -> Option<Self> {
            None
        }

        pub(crate) fn round(self, _: &[f32], _: usize, _: QuantFormat) -> Rounded {
            match self {}
        }

        pub(crate) fn gemv(self, _: &Rounded, _: QuantizedSlice<'_>, _: &mut [f32]) {
            match self {}
        }
    }
}
