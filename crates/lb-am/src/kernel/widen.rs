//! 16 bits to f32, exactly, in the widest vectors of the machine.

use pulp::Arch;

/// bf16 is the upper half of an f32.
pub(crate) fn bf16(from: &[u16], to: &mut [f32]) {
    Arch::new().dispatch(|| {
        for (bits, wide) in from.iter().zip(&mut *to) {
            *wide = f32::from_bits(u32::from(*bits) << 16);
        }
    });
}

/// Infinities and NaN do not survive.
pub(crate) fn f16(from: &[u16], to: &mut [f32]) {
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
pub(super) fn finite_f16(bits: u16) -> f32 {
    let scale = f32::from_bits((127 + 112) << 23);
    let bits = u32::from(bits);
    let size = f32::from_bits((bits & 0x7FFF) << 13) * scale;
    f32::from_bits(size.to_bits() | (bits & 0x8000) << 16)
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    type Exact = fn(u16) -> f32;
    type Widen = fn(&[u16], &mut [f32]);

    /// Every finite number there is, subnormal ones and both zeros included, to the bit.
    #[test]
    fn widening_is_exact() {
        let finite = |exact: fn(u16) -> f32| -> Vec<u16> {
            (0..=u16::MAX).filter(|bits| exact(*bits).is_finite()).collect()
        };
        let cases: [(Exact, Widen); 2] = [
            (|bits| bf16::from_bits(bits).to_f32(), super::bf16),
            (|bits| f16::from_bits(bits).to_f32(), super::f16),
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
