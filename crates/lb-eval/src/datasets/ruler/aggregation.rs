//! Words that come up more often than others.

use std::collections::HashSet;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::Draft;
use super::filler::{Stream, word};

const COMMON: usize = 10;
/// Times that a common and a rare word come up, by the least tokens of the text: as in RULER, less in short texts.
const OFTEN_SELDOM: [(usize, (usize, usize)); 3] = [(4096, (30, 3)), (2048, (10, 1)), (0, (5, 1))];
/// The three words that are asked for.
const FREQUENT: usize = 3;
/// Exponent of the zeta distribution of frequencies, as in RULER.
const ALPHA: f64 = 2.0;
/// Words of the coded text that have frequencies of their own.
const RANKS: usize = 60;

/// A numbered list in which ten words come up most often; a unit is one rare word.
pub(super) fn common_words(tokens: usize, mut rng: ChaCha8Rng) -> impl FnMut(usize) -> Draft + use<> {
    let (often, seldom) =
        OFTEN_SELDOM.iter().find(|(least, _)| tokens >= *least).map_or((5, 1), |(_, times)| *times);
    let mut taken = HashSet::new();
    let common: Vec<String> = (0..COMMON).map(|_| word(&mut taken, &mut rng)).collect();
    let order = rng.clone();
    let mut rare = Stream::new(rng);
    move |units| {
        let rare = rare.first(units, |rng| word(&mut taken, rng));
        let mut list: Vec<&str> = Vec::with_capacity(COMMON * often + units * seldom);
        list.extend(common.iter().flat_map(|w| std::iter::repeat_n(w.as_str(), often)));
        list.extend(rare.iter().flat_map(|w| std::iter::repeat_n(w.as_str(), seldom)));
        list.shuffle(&mut order.clone());
        let lines: Vec<String> = list.iter().enumerate().map(|(i, w)| format!("{}. {w}", i + 1)).collect();
        Draft {
            context: format!(
                "A numbered list of words, some of which come up more often.\n{}",
                lines.join(" ")
            ),
            question: "Which ten words come up most often in the list? Answer with the words.".to_owned(),
            answers: common.clone(),
            depth: None,
        }
    }
}

/// A coded text whose word frequencies fall off as a power of their rank; a unit is ten words.
pub(super) fn frequent_words(mut rng: ChaCha8Rng) -> impl FnMut(usize) -> Draft + use<> {
    let mut taken = HashSet::new();
    let words: Vec<String> = (0..RANKS).map(|_| word(&mut taken, &mut rng)).collect();
    let shares: Vec<f64> = (1..=RANKS).map(|rank| (rank as f64).powf(-ALPHA)).collect();
    let total: f64 = shares.iter().sum();
    let seed: u64 = rand::Rng::random(&mut rng);
    move |units| {
        // Enough words that the third and the fourth differ, however short the text.
        let length = (units * 10 + 60) as f64;
        let mut text: Vec<&str> = Vec::new();
        for (word, share) in words.iter().zip(&shares) {
            let times = (length * share / total).round() as usize;
            text.extend(std::iter::repeat_n(word.as_str(), times));
        }
        text.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        Draft {
            context: format!("A text in code. Watch how often each coded word comes up.\n{}", text.join(" ")),
            question: "Which three coded words come up most often? Answer with the words.".to_owned(),
            answers: words[..FREQUENT].to_vec(),
            depth: None,
        }
    }
}
