//! e^x in vectors: no crate of vectors has it.

#![allow(clippy::inline_always, reason = "what is not inlined into a dispatch runs without its vectors")]

use pulp::Simd;

/// Below this e^x is taken for 0; it is the smallest normal number of f32.
const LOWEST: f32 = -87.3;
/// Above this e^x is taken for what it is here, about 2^127.
const HIGHEST: f32 = 88.0;
/// Added and taken away, it rounds to an integer; the sum's low bits are that integer.
const ROUND: f32 = 12_582_912.0;
/// ln 2 in two parts, the first with so few bits that its product with an integer is exact.
const LN2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
/// e^r on |r| <= ln 2 / 2 behind 1 + r + r² ·, the highest power first (Cephes, `expf`).
const TERMS: [f32; 6] = [1.987_569_2e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5];

/// e^x of each number.
///
/// # Numerics
///
/// Within 2e-7 of the value for x in −87.3..=88; 0 below, including −∞, and 2^127 above.
#[inline(always)]
pub(crate) fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let splat = |x: f32| simd.splat_f32s(x);
    let live = simd.greater_than_f32s(x, splat(LOWEST));
    let x = simd.min_f32s(simd.max_f32s(x, splat(LOWEST)), splat(HIGHEST));
    let shifted = simd.mul_add_e_f32s(x, splat(std::f32::consts::LOG2_E), splat(ROUND));
    let n = simd.sub_f32s(shifted, splat(ROUND));
    let r = simd.mul_add_e_f32s(n, splat(-LN2[0]), x);
    let r = simd.mul_add_e_f32s(n, splat(-LN2[1]), r);
    let mut sum = splat(TERMS[0]);
    for term in &TERMS[1..] {
        sum = simd.mul_add_e_f32s(sum, r, splat(*term));
    }
    let value = simd.mul_add_e_f32s(simd.mul_f32s(r, r), sum, simd.add_f32s(r, splat(1.0)));
    // 2^n by adding n to the exponent; what is above n's bits is shifted out.
    let exponent = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(23));
    let scaled = simd.transmute_f32s_u32s(simd.add_u32s(simd.transmute_u32s_f32s(value), exponent));
    simd.select_f32s(live, scaled, splat(0.0))
}

#[cfg(test)]
mod tests {
    use pulp::{Arch, Simd, WithSimd};

    struct All<'a>(&'a mut [f32]);

    impl WithSimd for All<'_> {
        type Output = ();
        fn with_simd<S: Simd>(self, simd: S) {
            for x in S::as_mut_simd_f32s(self.0).0 {
                *x = super::exp(simd, *x);
            }
        }
    }

    #[test]
    fn is_the_exponential() {
        let numbers: Vec<f32> = (0..160_000).map(|i| i as f32 * 1.09e-3 - 87.2).collect();
        let mut got = numbers.clone();
        Arch::new().dispatch(All(&mut got));
        for (x, got) in numbers.iter().zip(got) {
            let want = f64::from(*x).exp();
            assert!((f64::from(got) / want - 1.0).abs() < 2e-7, "{x}: {got} instead of {want}");
        }
        let mut ends = [f32::NEG_INFINITY, -1e30, -88.0, 0.0].repeat(4);
        Arch::new().dispatch(All(&mut ends));
        assert_eq!(ends[..4], [0.0, 0.0, 0.0, 1.0]);
    }
}
