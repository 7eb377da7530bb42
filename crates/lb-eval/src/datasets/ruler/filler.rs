//! Prose that says nothing: sentences put together by lot, and words and keys for the tasks.

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

const WHO: &[&str] = &[
    "The baker",
    "An old teacher",
    "The night guard",
    "A young surveyor",
    "My neighbour",
    "The ferryman",
    "The librarian",
    "A tired courier",
    "The gardener",
    "Her cousin",
    "The clockmaker",
    "A travelling cook",
    "The mayor",
    "One of the carpenters",
    "The choir master",
    "A retired pilot",
];
const DID: &[&str] = &[
    "walked past",
    "painted",
    "described",
    "looked for",
    "swept",
    "measured",
    "remembered",
    "left",
    "photographed",
    "repaired",
    "admired",
    "drew a map of",
    "asked about",
    "returned to",
    "waited near",
    "slept in",
];
const WHAT: &[&str] = &[
    "the stone bridge",
    "an empty orchard",
    "the harbour wall",
    "a row of tall poplars",
    "the market hall",
    "the long staircase",
    "a field of barley",
    "the small theatre",
    "the station clock",
    "a quiet courtyard",
    "the flooded path",
    "the blue gate",
    "an unfinished roof",
    "the mill pond",
    "a narrow lane",
    "the green house",
];
const WHEN: &[&str] = &[
    "before breakfast",
    "in the first week of autumn",
    "while it rained",
    "on a windy afternoon",
    "after the concert",
    "long before sunrise",
    "at the end of the season",
    "without saying a word",
    "and came home late",
    "as the bells rang",
    "for the third time",
    "with a basket of apples",
    "although nobody had asked",
    "and thought of the sea",
    "when the fog lifted",
    "during the holidays",
];
const ADJECTIVES: &[&str] = &[
    "amber", "brisk", "calm", "dusty", "eager", "faint", "gentle", "hollow", "idle", "jolly", "keen",
    "lucid", "mellow", "narrow", "olive", "plain", "quick", "rustic", "silent", "tidy", "upper", "vivid",
    "woolly", "young",
];
const MATERIALS: &[&str] = &[
    "brass", "clay", "copper", "cotton", "glass", "ivory", "linen", "marble", "oak", "paper", "pine",
    "quartz", "silk", "silver", "slate", "steel", "stone", "straw", "tin", "velvet",
];
const THINGS: &[&str] = &[
    "anchor", "basket", "candle", "drawer", "easel", "fountain", "goblet", "hammer", "inkwell", "jacket",
    "kettle", "lantern", "mirror", "needle", "organ", "pillow", "quilt", "ribbon", "saddle", "teapot", "urn",
    "violin", "wagon", "yarn",
];
const ONSETS: &[&str] = &["b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z"];
const NUCLEI: &[&str] = &["a", "e", "i", "o", "u"];

fn pick<'a>(table: &[&'a str], rng: &mut ChaCha8Rng) -> &'a str {
    table.choose(rng).copied().unwrap_or_default()
}

/// One sentence; there are 65,536.
pub(super) fn sentence(rng: &mut ChaCha8Rng) -> String {
    format!("{} {} {} {}.", pick(WHO, rng), pick(DID, rng), pick(WHAT, rng), pick(WHEN, rng))
}

/// A key of three words that is not in `taken`; there are 11,520, behind them numbered ones.
pub(super) fn key(taken: &mut std::collections::HashSet<String>, rng: &mut ChaCha8Rng) -> String {
    const PLAIN_DRAWS: usize = 12;
    for attempt in 0.. {
        let words = [pick(ADJECTIVES, rng), pick(MATERIALS, rng), pick(THINGS, rng)].join("-");
        let key =
            if attempt < PLAIN_DRAWS { words } else { format!("{words}-{}", rng.random_range(0..10_000)) };
        if taken.insert(key.clone()) {
            return key;
        }
    }
    unreachable!("numbered keys do not run out")
}

/// A made-up word of three syllables that is not in `taken`; there are 343,000.
pub(super) fn word(taken: &mut std::collections::HashSet<String>, rng: &mut ChaCha8Rng) -> String {
    loop {
        let word: String = (0..3).map(|_| [pick(ONSETS, rng), pick(NUCLEI, rng)].concat()).collect();
        if taken.insert(word.clone()) {
            return word;
        }
    }
}

/// Sentences that grow on demand, always the same from one seed.
pub(super) struct Stream<T> {
    made: Vec<T>,
    rng: ChaCha8Rng,
}

impl<T: Clone> Stream<T> {
    pub(super) fn new(rng: ChaCha8Rng) -> Self {
        Self { made: Vec::new(), rng }
    }

    /// The first `n`, drawn with `make` where they are new.
    pub(super) fn first(&mut self, n: usize, mut make: impl FnMut(&mut ChaCha8Rng) -> T) -> &[T] {
        while self.made.len() < n {
            self.made.push(make(&mut self.rng));
        }
        &self.made[..n]
    }
}

/// `needles` put among `lines` so that each has its share, 0 to 1, of the lines before it.
pub(super) fn insert(lines: &[String], needles: &[(f64, String)]) -> Vec<String> {
    let mut placed: Vec<(usize, usize)> = needles
        .iter()
        .enumerate()
        .map(|(i, (depth, _))| ((depth * lines.len() as f64).round() as usize, i))
        .collect();
    placed.sort_unstable();
    let mut text = Vec::with_capacity(lines.len() + needles.len());
    let mut next = placed.into_iter().peekable();
    for (at, line) in lines.iter().map(Some).chain([None]).enumerate() {
        while let Some((_, needle)) = next.next_if(|(place, _)| *place <= at) {
            text.push(needles[needle].1.clone());
        }
        text.extend(line.cloned());
    }
    text
}
