//! Conversions between f32 and 16 bits, in the widest vectors of the machine.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use pulp::Arch;

/// f32 to bf16, rounded to the nearest: ties go to the even number; infinities stay, and NaN stays one.
pub fn f32_to_bf16(from: &[f32], to: &mut [bf16]) {
    let to: &mut [u16] = to.reinterpret_cast_mut();
    // One instruction for four numbers where there is one.
    #[cfg(target_arch = "aarch64")]
    if let Some(bf16) = crate::microkernel_bf16::Bf16Microkernel::detect() {
        return bf16.round(from, to);
    }
    Arch::new().dispatch(|| {
        for (x, to) in from.iter().zip(&mut *to) {
            let bits = x.to_bits();
            let rounded = bits.wrapping_add(0x7FFF + (bits >> 16 & 1));
            let quiet = bits | 0x0040_0000;
            *to = (if x.is_nan() { quiet } else { rounded } >> 16) as u16;
        }
    });
}

/// f32 to f16, like [`f32_to_bf16`]; what is too large becomes infinite. Panics where the lengths differ.
pub fn f32_to_f16(from: &[f32], to: &mut [f16]) {
    to.convert_from_f32_slice(from);
}

/// bf16 to f32, exactly: bf16 is the upper half of an f32.
pub(crate) fn bf16_to_f32(from: &[u16], to: &mut [f32]) {
    Arch::new().dispatch(|| {
        for (bits, wide) in from.iter().zip(&mut *to) {
            *wide = f32::from_bits(u32::from(*bits) << 16);
        }
    });
}

/// f16 to f32, exactly. Infinities and NaN do not survive.
pub(crate) fn f16_to_f32(from: &[u16], to: &mut [f32]) {
    Arch::new().dispatch(|| {
        for (bits, wide) in from.iter().zip(&mut *to) {
            *wide = finite_f16(*bits);
        }
    });
}

/// Exponent and fraction moved to their places, and the bias of the exponent made good by a product, which is exact for
/// subnormal numbers as well.
#[inline(always)]
#[allow(clippy::inline_always, reason = "part of loops in vectors")]
pub(crate) fn finite_f16(bits: u16) -> f32 {
    let scale = f32::from_bits((127 + 112) << 23);
    let bits = u32::from(bits);
    let size = f32::from_bits((bits & 0x7FFF) << 13) * scale;
    f32::from_bits(size.to_bits() | (bits & 0x8000) << 16)
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    /// Numbers between any two neighbours, halves and the ends included, as the scalar conversion has them.
    #[test]
    fn rounding_is_to_the_nearest() {
        let below = [0u32, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF];
        let all: Vec<f32> = (0..=u32::from(u16::MAX))
            .flat_map(|high| below.map(|low| f32::from_bits(high << 16 | low)))
            .collect();
        let mut got = vec![bf16::ZERO; all.len()];
        super::f32_to_bf16(&all, &mut got);
        for (x, got) in all.iter().zip(got) {
            assert_eq!(got.to_bits(), bf16::from_f32(*x).to_bits(), "{x:e}");
        }
    }

    type Exact = fn(u16) -> f32;
    type Widen = fn(&[u16], &mut [f32]);

    /// Every finite number there is, subnormal ones and both zeros included, to the bit.
    #[test]
    fn widening_is_exact() {
        let finite = |exact: fn(u16) -> f32| -> Vec<u16> {
            (0..=u16::MAX).filter(|bits| exact(*bits).is_finite()).collect()
        };
        let cases: [(Exact, Widen); 2] = [
            (|bits| bf16::from_bits(bits).to_f32(), super::bf16_to_f32),
            (|bits| f16::from_bits(bits).to_f32(), super::f16_to_f32),
        ];
        for (exact, widen) in cases {
            let bits = finite(exact);
            let mut wide = vec![0.0; bits.len()];
            widen(&bits, &mut wide);
            for (bits, wide) in bits.into_iter().zip(wide) {
                assert_eq!(wide.to_bits(), exact(bits).to_bits(), "{bits:#x}");
            }
        }
    }
}
