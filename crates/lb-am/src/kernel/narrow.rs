//! f32 to 16 bits, rounded to the nearest, in the widest vectors of the machine.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use pulp::Arch;

/// Ties go to the even number; infinities stay, and NaN stays one.
pub fn to_bf16(from: &[f32], to: &mut [bf16]) {
    let to: &mut [u16] = to.reinterpret_cast_mut();
    Arch::new().dispatch(|| {
        for (x, to) in from.iter().zip(&mut *to) {
            let bits = x.to_bits();
            let rounded = bits.wrapping_add(0x7FFF + (bits >> 16 & 1));
            let quiet = bits | 0x0040_0000;
            *to = (if x.is_nan() { quiet } else { rounded } >> 16) as u16;
        }
    });
}

/// Like [`to_bf16`]; what is too large becomes infinite. Panics where the lengths differ.
pub fn to_f16(from: &[f32], to: &mut [f16]) {
    to.convert_from_f32_slice(from);
}

#[cfg(test)]
mod tests {
    use half::bf16;

    /// Numbers between any two neighbours, halves and the ends included, as the scalar conversion has them.
    #[test]
    fn rounding_is_to_the_nearest() {
        let below = [0u32, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF];
        let all: Vec<f32> = (0..=u32::from(u16::MAX))
            .flat_map(|high| below.map(|low| f32::from_bits(high << 16 | low)))
            .collect();
        let mut got = vec![bf16::ZERO; all.len()];
        super::to_bf16(&all, &mut got);
        for (x, got) in all.iter().zip(got) {
            assert_eq!(got.to_bits(), bf16::from_f32(*x).to_bits(), "{x:e}");
        }
    }
}
