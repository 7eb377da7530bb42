//! Comparisons of tensors with plain numbers.

use candle_core::{DType, Tensor};

/// f32 against f64 or against another order of summation, on logits of about ±20.
pub const F32: f64 = 1e-4;

/// All entries in order.
pub fn flat(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Largest absolute difference; infinite when lengths differ or one side is not finite.
pub fn distance(a: &[f64], b: &[f64]) -> f64 {
    if a.len() != b.len() {
        return f64::INFINITY;
    }
    let differences =
        a.iter().zip(b).map(|(a, b)| if a.to_bits() == b.to_bits() { 0.0 } else { (a - b).abs() });
    differences.fold(0.0, |max, d| if d.is_nan() { f64::INFINITY } else { f64::max(max, d) })
}

/// Asserts that no two entries differ by more.
#[track_caller]
pub fn assert_close(a: &[f64], b: &[f64], tolerance: f64) {
    let d = distance(a, b);
    assert!(d <= tolerance, "differ by {d}, more than {tolerance}");
}

/// Equal down to the bit.
#[track_caller]
pub fn assert_same(a: &Tensor, b: &Tensor) {
    assert_eq!(a.dims(), b.dims());
    assert_eq!(a.dtype(), b.dtype());
    let bits = |t: &Tensor| -> Vec<u64> { flat(t).iter().map(|x| x.to_bits()).collect() };
    assert!(bits(a) == bits(b), "differ by {}", distance(&flat(a), &flat(b)));
}
