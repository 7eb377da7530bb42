//! Positions drawn by lot.

use super::split;
use crate::config::Protected;

/// `kept_len` positions, the protected ones and others drawn without replacement, ascending.
///
/// At least the protected positions and at most all `seq_len` are returned. The same seed gives the same positions on
/// every platform: the generator is SplitMix64 (Steele, Lea and Flood, 2014), not a library's whose stream may change.
pub fn random_positions(seq_len: usize, kept_len: usize, protect: Protected, seed: u64) -> Vec<u32> {
    let (mut kept, mut rest) = split(seq_len, protect);
    let draws = kept_len.saturating_sub(kept.len()).min(rest.len());
    let mut state = seed;
    // The first `draws` steps of a Fisher-Yates shuffle.
    for i in 0..draws {
        let j = i + below(&mut state, (rest.len() - i) as u64) as usize;
        rest.swap(i, j);
    }
    kept.extend_from_slice(&rest[..draws]);
    kept.sort_unstable();
    kept
}

/// A number below `bound` by multiply-shift; its bias is bound / 2^64.
fn below(state: &mut u64, bound: u64) -> u64 {
    ((u128::from(split_mix(state)) * u128::from(bound)) >> 64) as u64
}

fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_generator_is_split_mix() {
        // First outputs of the reference implementation for the seed 1234567.
        let mut state = 1_234_567;
        assert_eq!(super::split_mix(&mut state), 6_457_827_717_110_365_317);
        assert_eq!(super::split_mix(&mut state), 3_203_168_211_198_807_973);
    }
}
