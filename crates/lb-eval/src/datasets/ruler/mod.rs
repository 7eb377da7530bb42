//! Tasks in the manner of RULER, generated: a few statements to find, follow or count in a text of a chosen length.
//!
//! Structure and scoring are RULER's (Hsieh et al., "RULER: What's the Real Context Size of Your Long-Context Language
//! Models?", arXiv 2404.06654, section 3); every word of text is our own, so figures are not comparable with published
//! ones digit by digit. [`native`] asks the same things in words that the built-in worker was trained on.

mod aggregation;
mod filler;
mod fit;
mod native;
mod needles;
mod tracking;

use std::str::FromStr;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

pub(crate) use native::cost;
pub use native::{NativeConfig, NativeTask, native};

use super::TokenCount;
use super::item::{Dataset, Item, ItemKind, Meta};
use crate::{Error, Result};

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RulerTask {
    /// One number under one key.
    Needle,
    /// One number under one key, among numbers under other keys.
    MultiKey,
    /// Four numbers under one key.
    MultiValue,
    /// Four numbers under four keys.
    MultiQuery,
    /// Every variable that a value is handed on to.
    Tracking,
    /// The ten words of a list that come up most often.
    CommonWords,
    /// The three most frequent words of a coded text.
    FrequentWords,
}

impl RulerTask {
    /// Every task.
    pub const ALL: [Self; 7] = [
        Self::Needle,
        Self::MultiKey,
        Self::MultiValue,
        Self::MultiQuery,
        Self::Tracking,
        Self::CommonWords,
        Self::FrequentWords,
    ];

    /// The name used in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Needle => "needle",
            Self::MultiKey => "multi-key",
            Self::MultiValue => "multi-value",
            Self::MultiQuery => "multi-query",
            Self::Tracking => "tracking",
            Self::CommonWords => "common-words",
            Self::FrequentWords => "frequent-words",
        }
    }

    /// Tokens that are kept free for the answer, as in RULER.
    pub fn answer_tokens(self) -> usize {
        match self {
            Self::Needle | Self::MultiKey | Self::MultiValue | Self::MultiQuery => 128,
            Self::Tracking => 30,
            Self::CommonWords => 120,
            Self::FrequentWords => 50,
        }
    }
}

impl FromStr for RulerTask {
    type Err = Error;

    /// By [`name`](Self::name).
    fn from_str(text: &str) -> Result<Self> {
        let reason =
            "want needle, multi-key, multi-value, multi-query, tracking, common-words or frequent-words";
        Self::ALL
            .into_iter()
            .find(|task| task.name() == text)
            .ok_or_else(|| Error::config("task", text, reason))
    }
}

/// What the statements stand among.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Haystack {
    /// Prose.
    #[default]
    Prose,
    /// Statements of the same form about other keys, and nothing else; for [`RulerTask::MultiKey`] only.
    Needles,
}

/// One task to generate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RulerConfig {
    /// What is asked.
    pub task: RulerTask,
    /// Length of context, question and answer together, in tokens: 256 to 1,048,576. The text is as long as it can be
    /// within it.
    pub tokens: usize,
    /// Same seed, same item.
    pub seed: u64,
    /// How deep the statement that is asked for stands, 0 (start) to 1 (end); drawn by lot without it. The other
    /// statements of a task are always drawn. Without effect on the tasks of counting.
    pub depth: Option<f64>,
    /// What stands around.
    pub haystack: Haystack,
}

impl RulerConfig {
    /// A task of `tokens` tokens, at a depth drawn by lot, in prose.
    pub fn new(task: RulerTask, tokens: usize, seed: u64) -> Self {
        Self { task, tokens, seed, depth: None, haystack: Haystack::Prose }
    }

    /// # Errors
    /// [`Error::Config`] names the field that is out of range.
    pub fn validate(&self) -> Result<()> {
        if !(256..=1 << 20).contains(&self.tokens) {
            return Err(Error::config("tokens", self.tokens, "want 256 to 1048576"));
        }
        check_depth(self.depth)?;
        if self.haystack == Haystack::Needles && self.task != RulerTask::MultiKey {
            return Err(Error::config("haystack", "needles", "want the task multi-key for it"));
        }
        Ok(())
    }
}

/// `samples` items of every task at every length, with seeds from `seed` on.
///
/// # Errors
/// [`Error::Config`] without a task, a length or a sample; those of [`generate`].
pub fn suite(
    tasks: &[RulerTask],
    lengths: &[usize],
    samples: usize,
    seed: u64,
    count: TokenCount<'_>,
) -> Result<Vec<Item>> {
    for (field, value) in [("tasks", tasks.len()), ("lengths", lengths.len()), ("samples", samples)] {
        if value == 0 {
            return Err(Error::config(field, 0, "want at least one"));
        }
    }
    let mut items = Vec::new();
    for task in tasks {
        for tokens in lengths {
            for number in 0..samples as u64 {
                items.push(generate(&RulerConfig::new(*task, *tokens, seed.wrapping_add(number)), count)?);
            }
        }
    }
    Ok(items)
}

fn check_depth(depth: Option<f64>) -> Result<()> {
    match depth {
        Some(depth) if !(0.0..=1.0).contains(&depth) => Err(Error::config("depth", depth, "want 0 to 1")),
        _ => Ok(()),
    }
}

/// A text of some length and what is asked about it.
struct Draft {
    context: String,
    question: String,
    answers: Vec<String>,
    /// Where the statement that is asked for stands, 0 to 1.
    depth: Option<f64>,
}

/// The name of the length that was asked for in [`Meta::extra`].
pub(crate) const TOKENS: &str = "tokens";

/// The item of a configuration: the longest of its seed that fits.
///
/// # Errors
/// [`Error::Config`] for a configuration out of range or a length that not even the bare task fits in; what `count`
/// returns.
pub fn generate(config: &RulerConfig, count: TokenCount<'_>) -> Result<Item> {
    config.validate()?;
    let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
    rng.set_stream(config.task as u64 + 11);
    let budget = config.tokens.saturating_sub(config.task.answer_tokens());
    let mut build: Box<dyn FnMut(usize) -> Draft> = match config.task {
        RulerTask::Tracking => Box::new(tracking::draft(config.depth, rng)),
        RulerTask::CommonWords => Box::new(aggregation::common_words(config.tokens, rng)),
        RulerTask::FrequentWords => Box::new(aggregation::frequent_words(rng)),
        _ => Box::new(needles::draft(config, rng)),
    };
    let (draft, units, tokens) = fit::longest(budget, &mut build, count)?;
    let mut meta = Meta::default();
    let mut extra = |name: &str, value: String| meta.extra.insert(name.to_owned(), value);
    extra(TOKENS, config.tokens.to_string());
    extra("counted_tokens", tokens.to_string());
    extra("units", units.to_string());
    if let Some(depth) = draft.depth {
        extra("depth", format!("{depth:.3}"));
    }
    Ok(Item {
        id: format!("ruler-{}-{}-{}", config.task.name(), config.tokens, config.seed),
        dataset: Dataset::Ruler(config.task),
        context: draft.context.into(),
        question: draft.question,
        kind: ItemKind::Free { answers: draft.answers },
        difficulty: None,
        length_class: None,
        meta,
        line: 1,
    })
}
