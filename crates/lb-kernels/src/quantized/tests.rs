//! Blocks as bf16 against blocks as f32.

use half::bf16;
use half::slice::HalfFloatSliceExt;

use super::integers::tests::blocks;
use super::{QuantFormat, QuantizedSlice};
use crate::microkernel_bf16::Bf16Microkernel;

/// The nearest bf16 number, or its neighbour where the last bit of an f32 decides; whole units and a shorter rest.
#[test]
fn blocks_are_rounded_as_their_numbers_are() {
    let Some(kernel) = Bf16Microkernel::detect() else {
        eprintln!("skipped: no products of bf16 here");
        return;
    };
    for kind in [
        QuantFormat::Q4_0,
        QuantFormat::Q4_1,
        QuantFormat::Q5_0,
        QuantFormat::Q5_1,
        QuantFormat::Q8_0,
        QuantFormat::Q2K,
        QuantFormat::Q3K,
        QuantFormat::Q4K,
        QuantFormat::Q5K,
        QuantFormat::Q6K,
    ] {
        for count in [256, 512, 3 * kind.numbers(), 7 * kind.numbers()] {
            let bytes = blocks(kind, count, 11);
            let weight = QuantizedSlice::new(kind, &bytes).unwrap();
            let (mut wide, mut narrow) = (vec![0f32; count], vec![bf16::ZERO; count]);
            weight.to_f32(&mut wide);
            weight.to_bf16(kernel, narrow.reinterpret_cast_mut());
            let largest = wide.iter().fold(0f32, |a, b| a.max(b.abs()));
            for (at, (got, want)) in narrow.iter().zip(&wide).enumerate() {
                let far = (got.to_f32() - want).abs();
                let step = want.abs() * f32::from(bf16::EPSILON) / 2.0 + 1e-6 * largest;
                assert!(far <= step, "{kind:?}, {count}, number {at}: {got} for {want}");
            }
        }
    }
}
