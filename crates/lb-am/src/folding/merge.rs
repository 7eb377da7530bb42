//! Each slot that goes is merged into the kept one of the most similar key.

use super::nearest::nearest;
use super::{Head, row};

/// Stands in for a score of 0.
const NO_SCORE: f64 = 1e-30;
/// The largest weight of a slot that goes to that of the one it is merged into: kvfold's, e³⁰.
const MAX_WEIGHT: f64 = 1.068_647_458_152_446_3e13;
/// Keeps a weight of two values of zeros defined: kvpress's.
const TINY: f64 = 1e-6;

/// Weighted sums for each kept slot, beside its own value of weight 1.
struct Sums {
    width: usize,
    values: Vec<f64>,
    weights: Vec<f64>,
}

impl Sums {
    fn new(head: &Head<'_>) -> Self {
        let count = head.into.len();
        Self { width: head.width, values: vec![0.0; count * head.width], weights: vec![0.0; count] }
    }

    fn add(&mut self, index: usize, weight: f64, value: &[f32]) {
        let sums = &mut self.values[index * self.width..][..self.width];
        sums.iter_mut().zip(value).for_each(|(sum, x)| *sum += weight * f64::from(*x));
        self.weights[index] += weight;
    }

    /// The mean of each kept value with what came in; the others stay as they are, to the bit.
    fn store(&self, head: &mut Head<'_>) {
        for ((slot, sums), weight) in head.into.iter().zip(self.values.chunks(self.width)).zip(&self.weights)
        {
            if *weight > 0.0 {
                let value = &mut head.values[slot * self.width..][..self.width];
                value.iter_mut().zip(sums).for_each(|(x, sum)| {
                    *x = ((f64::from(*x) + sum) / (1.0 + weight)) as f32;
                });
            }
        }
    }
}

/// See [`Folding::Mass`](crate::Folding::Mass).
pub(super) fn mass(mut head: Head<'_>) {
    let mut sums = Sums::new(&head);
    let score = |slot: usize| f64::from(head.scores[slot]).max(NO_SCORE);
    let found = nearest(head.keys, head.width, &head.into, &head.gone);
    for (slot, (index, _)) in head.gone.iter().zip(found) {
        let weight = (score(*slot) / score(head.into[index])).min(MAX_WEIGHT);
        sums.add(index, weight, row(head.values, head.width, *slot));
    }
    sums.store(&mut head);
    for (slot, weight) in head.into.iter().zip(&sums.weights) {
        head.bias[*slot] += weight.ln_1p() as f32;
    }
}

/// See [`Folding::Similar`](crate::Folding::Similar).
pub(super) fn similar(mut head: Head<'_>, threshold: f64) {
    let mut sums = Sums::new(&head);
    let norm = |slot: usize| {
        let value = row(head.values, head.width, slot);
        value.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt()
    };
    let found = nearest(head.keys, head.width, &head.into, &head.gone);
    for (slot, (index, cosine)) in head.gone.iter().zip(found) {
        let cosine = f64::from(cosine);
        if cosine >= threshold {
            let (own, other) = (norm(*slot), norm(head.into[index]));
            let weight = cosine.max(0.0) * own / (own + other + TINY);
            sums.add(index, weight, row(head.values, head.width, *slot));
        }
    }
    sums.store(&mut head);
}
