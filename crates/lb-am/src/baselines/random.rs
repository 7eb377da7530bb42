//! Positions drawn by lot.

use super::{Scene, split};
use crate::config::Protected;
use crate::error::Result;
use crate::kept::Kept;

/// The slots of [`random_positions`] in every layer and head; where a head has padding, drawn from the rest of it.
pub(super) fn select(scene: &Scene<'_>, seed: u64) -> Result<Vec<Kept>> {
    let head = |layer: usize, head: usize| -> Vec<u32> {
        let (mut kept, rest) = split(scene.layers()[layer].seq_len(), scene.protect);
        let is_dead = |slot: &u32| scene.padding[layer].is_dead_in(head, *slot as usize);
        let (dead, mut live): (Vec<u32>, Vec<u32>) = rest.into_iter().partition(is_dead);
        let room = scene.budget(layer).saturating_sub(kept.len());
        let draws = room.min(live.len());
        shuffle_head(&mut live, draws, seed);
        kept.extend(live[..draws].iter().chain(&dead[..(room - draws).min(dead.len())]));
        kept.sort_unstable();
        kept
    };
    (0..scene.layers().len()).map(|layer| scene.common(layer, |h| Ok(head(layer, h)))).collect()
}

/// `kept_len` positions, the protected ones and others drawn without replacement, ascending.
///
/// At least the protected positions and at most all `seq_len` are returned. The same seed gives the same positions on
/// every platform: the generator is SplitMix64 (Steele, Lea and Flood, 2014), not a library's whose stream may change.
pub fn random_positions(seq_len: usize, kept_len: usize, protect: Protected, seed: u64) -> Vec<u32> {
    let (mut kept, mut rest) = split(seq_len, protect);
    let draws = kept_len.saturating_sub(kept.len()).min(rest.len());
    shuffle_head(&mut rest, draws, seed);
    kept.extend_from_slice(&rest[..draws]);
    kept.sort_unstable();
    kept
}

/// The first `draws` steps of a Fisher-Yates shuffle.
fn shuffle_head(slots: &mut [u32], draws: usize, seed: u64) {
    let mut state = seed;
    for i in 0..draws {
        let j = i + below(&mut state, (slots.len() - i) as u64) as usize;
        slots.swap(i, j);
    }
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
