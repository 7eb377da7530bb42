//! Names of items, people and places.
//!
//! Most names are two syllables drawn from an inventory of their own kind; some are free letter
//! sequences, so that a worker cannot rely on a closed list. A name belongs to one split for ever:
//! the split is a hash of the name, so training never sees a held-out name.

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::Split;

const ITEM_HEADS: &[&str] = &[
    "Vel", "Os", "Tar", "Kel", "Bran", "Dor", "Fen", "Gal", "Hal", "Ist", "Jor", "Lun", "Mor", "Nar", "Pol",
    "Quin", "Ras", "Sol", "Tor", "Ul", "Vor", "Wes", "Yar", "Zan", "Bel", "Cor", "Dun", "Er", "Fal", "Gor",
    "Hes", "Ir", "Kar", "Lor", "Mel", "Nim", "Or", "Pel", "Rin", "Sar",
];
const ITEM_TAILS: &[&str] = &[
    "mar", "lund", "wick", "mere", "holm", "stad", "crest", "garth", "thorn", "ness", "dan", "mont", "ver",
    "bek", "sund", "fax", "gon", "rik", "tas", "pex", "zor", "nak", "lix", "dro", "kett", "plin", "sko",
    "trell", "vang", "nor",
];
const PERSON_HEADS: &[&str] = &[
    "Ana", "Mi", "To", "Ka", "Se", "Ro", "Li", "Da", "Ju", "Ni", "Pa", "Ha", "Eli", "Va", "Bo", "Cla", "Em",
    "Fi", "Gre", "Hu", "Ina", "Jo", "Ke", "Lo", "Ma", "No", "Oli", "Pe", "Ra", "Sa", "Ti", "Ul", "Vi", "Wi",
    "Xa", "Yo", "Ze", "Al", "Be", "Ca",
];
const PERSON_TAILS: &[&str] = &[
    "ra", "lio", "den", "vin", "sa", "nak", "rek", "tta", "mus", "bel", "dia", "ner", "rin", "lo", "nia",
    "ster", "mond", "line", "das", "vik", "phie", "gan", "ria", "bert", "san", "tov", "zel", "quin", "fred",
    "mir",
];
const PLACE_HEADS: &[&str] = &[
    "Nor", "Es", "Wal", "Har", "Ash", "Birch", "Cold", "Deer", "East", "Fox", "Green", "High", "Iron",
    "King", "Long", "Mill", "New", "Oak", "Pine", "Red", "Silver", "Thorn", "Under", "Vine", "West", "White",
    "Wolf", "Stone", "Black", "Blue", "Clear", "Dry", "Elm", "Fern", "Gold", "Hazel", "Lake", "Maple",
    "Rose", "Sand",
];
const PLACE_TAILS: &[&str] = &[
    "haven", "field", "gate", "ford", "burn", "fall", "land", "moor", "port", "reach", "ridge", "shore",
    "vale", "wood", "worth", "bay", "bridge", "brook", "cliff", "glen", "heath", "hill", "marsh", "mouth",
    "cove", "croft", "dale", "ton", "side", "well",
];
const CONSONANTS: &[&str] =
    &["b", "c", "d", "f", "g", "h", "j", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "br", "st", "tr"];
const VOWELS: &[&str] = &["a", "e", "i", "o", "u", "ua", "ei"];

/// Kinds of item; common words, shared by both splits.
pub(super) const NOUNS: &[&str] = &[
    "ledger", "relay", "vault", "beacon", "archive", "engine", "chart", "valve", "letter", "sensor",
    "mirror", "tower", "pump", "file", "crate", "signal", "map", "lens", "drum", "panel",
];

/// One name in ten is a free letter sequence.
const FREE_NAME_SHARE: f64 = 0.1;
/// One name in five is held out.
const HELD_OUT_PER_MILLE: u64 = 200;

/// What a name names; each kind has its own inventory of syllables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NameKind {
    Item,
    Person,
    Place,
}

/// FNV-1a: stable across platforms and releases, unlike the standard hasher.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

/// The split that a name belongs to.
pub fn split_of(name: &str) -> Split {
    if (fnv1a(name) >> 17) % 1000 < HELD_OUT_PER_MILLE { Split::HeldOut } else { Split::Train }
}

fn draw(kind: NameKind, rng: &mut ChaCha8Rng) -> String {
    if rng.random_bool(FREE_NAME_SHARE) {
        return free_name(rng);
    }
    let (heads, tails) = match kind {
        NameKind::Item => (ITEM_HEADS, ITEM_TAILS),
        NameKind::Person => (PERSON_HEADS, PERSON_TAILS),
        NameKind::Place => (PLACE_HEADS, PLACE_TAILS),
    };
    format!("{}{}", pick(heads, rng), pick(tails, rng))
}

fn free_name(rng: &mut ChaCha8Rng) -> String {
    let mut name = String::new();
    for _ in 0..rng.random_range(2..=3) {
        name.push_str(pick(CONSONANTS, rng));
        name.push_str(pick(VOWELS, rng));
    }
    if rng.random_bool(0.4) {
        name.push_str(pick(CONSONANTS, rng));
    }
    capitalise(&name)
}

/// Draws of a near-duplicate before any name will do: a split may hold only a few names with one head.
const NEAR_DRAWS: usize = 20;

/// A fresh name of `split` that is not in `taken`; it is added there. A near-duplicate shares the head of `near`.
pub(super) fn fresh_name(
    kind: NameKind,
    split: Split,
    near: Option<&str>,
    taken: &mut std::collections::HashSet<String>,
    rng: &mut ChaCha8Rng,
) -> String {
    let head =
        near.and_then(|near| ITEM_HEADS.iter().filter(|h| near.starts_with(**h)).max_by_key(|h| h.len()));
    for attempt in 0.. {
        let name = match head {
            Some(head) if attempt < NEAR_DRAWS => format!("{head}{}", pick(ITEM_TAILS, rng)),
            _ => draw(kind, rng),
        };
        if split_of(&name) == split && taken.insert(name.clone()) {
            return name;
        }
    }
    unreachable!("free letter sequences do not run out")
}

/// A uniformly drawn entry of a table that is never empty.
pub(super) fn pick<'a>(table: &[&'a str], rng: &mut ChaCha8Rng) -> &'a str {
    table.choose(rng).copied().unwrap_or_default()
}

/// `text` with its first letter in upper case.
pub(super) fn capitalise(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|c| c.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
