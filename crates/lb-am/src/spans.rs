//! Spans: a position is as important as the most important position near it.

/// Max-pool of an odd width `kernel`, centred, cut off at both ends; a width of 1 changes nothing.
pub(crate) fn max_pool(scores: &[f32], kernel: usize) -> Vec<f32> {
    let reach = kernel / 2;
    (0..scores.len())
        .map(|j| {
            let window = &scores[j.saturating_sub(reach)..(j + reach + 1).min(scores.len())];
            window.iter().copied().fold(f32::NEG_INFINITY, f32::max)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::max_pool;

    #[test]
    fn pools_over_a_centred_window_cut_off_at_the_ends() {
        let scores = [5.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0];
        assert_eq!(max_pool(&scores, 3), [5.0, 5.0, 1.0, 1.0, 1.0, 0.0, 0.0]);
        assert_eq!(max_pool(&scores, 1), scores);
        assert_eq!(max_pool(&scores, 255), [5.0; 7]);
        assert!(max_pool(&[], 9).is_empty());
    }
}
