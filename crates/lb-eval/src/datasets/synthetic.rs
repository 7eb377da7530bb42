//! A small set in LongBench v2's schema, made by our own generator and marked as synthetic by its domain.
//!
//! `lb-episodes --bundle` writes it; a test makes it again and compares.

use super::Item;
use super::reader::{Entry, from_text};
use crate::episodes::{Difficulty, Episode, EpisodeConfig, LongBenchItem};
use crate::{Error, Result};

/// The file: one item a line.
pub const BUNDLED: &str = include_str!("../../data/longbench_v2_synthetic.jsonl");

/// First seed of the bundled episodes; far from those that tables and training use.
const FIRST_SEED: u64 = 7_700_000;
const EPISODES: u64 = 20;
const QUESTIONS: usize = 3;
/// Words of the shortest and the longest log.
const WORDS: (usize, usize) = (80, 880);

/// The items of the bundled file, drawn anew.
///
/// # Errors
/// None in practice: the configuration is a valid one.
pub fn generate() -> Result<Vec<LongBenchItem>> {
    let mut items = Vec::new();
    for i in 0..EPISODES {
        // Lengths in even steps, easy and hard in turn.
        let words = WORDS.0 + (WORDS.1 - WORDS.0) * i as usize / (EPISODES as usize - 1);
        let difficulty = if i % 2 == 0 { Difficulty::Easy } else { Difficulty::Hard };
        let config = EpisodeConfig {
            difficulty: Some(difficulty),
            ..EpisodeConfig::held_out((words, words), QUESTIONS)
        };
        items.extend(Episode::generate(FIRST_SEED + i, &config)?.long_bench_items());
    }
    Ok(items)
}

/// The bundled file's text, drawn anew.
///
/// # Errors
/// As [`generate`].
pub fn render() -> Result<String> {
    let mut text = String::new();
    for item in generate()? {
        let line = serde_json::to_string(&item);
        let path = std::path::PathBuf::from("longbench_v2_synthetic.jsonl");
        text.push_str(&line.map_err(|source| Error::Json { path, line_number: 1, source })?);
        text.push('\n');
    }
    Ok(text)
}

/// The bundled items.
///
/// # Errors
/// [`Error::Dataset`] or [`Error::Item`] where the file in the binary is damaged.
pub fn bundled() -> Result<Vec<Item>> {
    from_text(BUNDLED)
        .map(|entry| match entry {
            Entry::Item(item) => Ok(item),
            Entry::Fault(fault) => {
                Err(Error::Item { path: "the bundled set".into(), source: Box::new(fault) })
            }
        })
        .collect()
}
