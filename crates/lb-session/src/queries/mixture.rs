//! Tokens of several sources.

use candle_core::Tensor;
use rand::SeedableRng;
use rand::seq::index::sample;
use rand_chacha::ChaCha8Rng;

use super::{QuerySource, gather};
use crate::Result;
use crate::context::Reader;

pub(super) fn mixed_queries(
    reader: Reader<'_>,
    parts: &[(QuerySource, f64)],
    cap: usize,
    seed: u64,
    task: &[u32],
) -> Result<(Vec<Tensor>, usize)> {
    let (model, group) = (reader.context.model(), reader.context.worker().config().group_size());
    let shares: Vec<f64> = parts.iter().map(|(_, share)| *share).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (mut drawn, mut read) = (Vec::new(), 0);
    for ((source, _), count) in parts.iter().zip(counts(&shares, cap)) {
        let (queries, own) = gather(reader, source, task)?;
        let tokens = queries[0].dim(1)? / group;
        let mut picked: Vec<u32> =
            sample(&mut rng, tokens, count.min(tokens)).iter().map(|token| token as u32).collect();
        picked.sort_unstable();
        drawn.push(model.pick_queries(&queries, &picked)?);
        read += own;
    }
    Ok((model.join_queries(&drawn)?, read))
}

/// `cap` shared out, at least one each; what rounding leaves over goes to the largest remainders.
fn counts(shares: &[f64], cap: usize) -> Vec<usize> {
    // More than any source has; keeps the sums below within range.
    let cap = cap.min(1 << 32);
    let (sum, free) = (shares.iter().sum::<f64>(), cap - shares.len());
    let wanted: Vec<f64> = shares.iter().map(|share| share / sum * free as f64).collect();
    let mut counts: Vec<usize> = wanted.iter().map(|want| 1 + want.floor() as usize).collect();
    let mut order: Vec<usize> = (0..shares.len()).collect();
    order.sort_by(|a, b| wanted[*b].fract().total_cmp(&wanted[*a].fract()).then(a.cmp(b)));
    let left = cap.saturating_sub(counts.iter().sum());
    for index in order.into_iter().cycle().take(left) {
        counts[index] += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::counts;

    #[test]
    fn shares_sum_to_the_cap() {
        assert_eq!(counts(&[1.0], 7), [7]);
        assert!(counts(&[1.0, 2.0], usize::MAX).iter().sum::<usize>() <= 1 << 32);
        assert_eq!(counts(&[3.0, 1.0], 10), [7, 3]);
        assert_eq!(counts(&[1.0, 1.0, 1e-9], 3), [1, 1, 1]);
        assert_eq!(counts(&[1.0, 1.0, 1.0], 8).iter().sum::<usize>(), 8);
    }
}
