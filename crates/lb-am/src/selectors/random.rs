//! Positions drawn by lot.

use super::{Budgets, Lists, Needs, Picked, Selector};
use crate::config::Protected;
use crate::error::Result;
use crate::mask::Ranking;
use crate::registry::{Factory, Spec};
use crate::scene::Scene;

const NAME: &str = "random";

/// Positions drawn by lot, the same ones in every layer and head; where a head has padding, drawn from the rest of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Random {
    /// Seed of the lot. Default 0.
    pub seed: u64,
}

pub(super) fn factory() -> Factory {
    let factory = Factory::new(NAME, "positions drawn by lot", |arguments| {
        Ok(Random { seed: arguments.get_or("seed", "a whole number", 0)? })
    });
    factory.key("seed", "same seed, same positions (0)")
}

impl Selector for Random {
    fn spec(&self) -> Spec {
        Spec::new(NAME).with_unless("seed", self.seed, &0)
    }

    fn needs(&self) -> Needs {
        Needs::NOTHING
    }

    fn budgets(&self) -> Budgets {
        Budgets::Counts
    }

    fn lists(&self) -> Lists {
        Lists::PerLayer
    }

    fn select(&self, scene: &Scene<'_>) -> Result<Picked> {
        let picked = scene.each_head(|layer, head| {
            let slots = scene.layers()[layer].seq_len();
            let taking_part = |slot: &u32| {
                let slot = *slot as usize;
                !scene.is_protected(layer, slot) && !scene.is_padding(layer, head, slot)
            };
            let mut live: Vec<u32> = (0..slots as u32).filter(taking_part).collect();
            let draws = live.len();
            shuffle_head(&mut live, draws, self.seed);
            // The sooner drawn, the higher.
            let mut scores = vec![0f64; slots];
            for (draw, slot) in live.iter().enumerate() {
                scores[*slot as usize] = (draws - draw) as f64;
            }
            scene.pick(layer, head, Ranking::by(&scene.pool(&scores)).padding_last())
        })?;
        Ok(picked.merged())
    }
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

/// Protected positions, and the others, both ascending.
pub(super) fn split(seq_len: usize, protect: Protected) -> (Vec<u32>, Vec<u32>) {
    (0..seq_len as u32).partition(|j| protect.covers(*j as usize, seq_len))
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
