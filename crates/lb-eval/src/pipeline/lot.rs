//! What is drawn by lot, the same on every machine.

use serde::{Deserialize, Serialize};

/// Which part of a set an item belongs to, where settings are chosen on one part and reported on the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Settings are chosen here.
    Validation,
    /// Results are reported here.
    #[default]
    Test,
}

/// The part of a document.
pub(crate) fn part(seed: u64, validation_share: f64, cluster: u64) -> Part {
    // The upper 53 bits are a number in [0, 1).
    let lot = (mixed(cluster ^ mixed(seed)) >> 11) as f64 / (1_u64 << 53) as f64;
    if lot < validation_share { Part::Validation } else { Part::Test }
}

/// The number of a text (FNV-1a, 64 bits).
pub(crate) fn fingerprint(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The finaliser of splitmix64: neighbouring numbers come far apart.
pub(crate) fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
