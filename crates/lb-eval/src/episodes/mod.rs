//! Briefing episodes: the log of an orchestrator at work, and questions that only the log answers.
//!
//! An episode is a small world of facts, told in a random order as findings, guesses, rejected branches,
//! corrections and tool output. The same generator writes the training data of the built-in worker
//! ([`Split::Train`]) and the evaluation items ([`Split::HeldOut`]): names and sentence patterns of the held-out
//! split never occur in training.

mod items;
mod lexicon;
mod narrate;
mod paraphrase;
mod questions;
mod teller;
mod wording;
mod world;

use lb_session::{Segment, Source as Tag};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

pub use items::{DOMAIN, LongBenchItem};
pub use lexicon::split_of;
pub(crate) use teller::Teller;
pub use world::Relation;

use crate::{Error, Result};

/// Which names and sentence patterns an episode draws from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// What the built-in worker was trained on.
    Train,
    /// Names and patterns that training never shows.
    HeldOut,
}

/// How many traps an episode holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Difficulty {
    /// Few guesses and corrections; names differ from their first syllable on.
    Easy,
    /// Many guesses and repeated corrections, names that share a syllable, hops through corrected facts.
    Hard,
}

impl Difficulty {
    /// The name used in reports and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Easy => "easy",
            Self::Hard => "hard",
        }
    }
}

/// What a question asks of the trajectory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// One fact, stated once.
    OneHop,
    /// Two facts, joined by an item or a person that the question does not name.
    TwoHop,
    /// One fact that was first stated wrongly; the last correction counts.
    Corrected,
    /// How many items share a status.
    Count,
    /// Which of two or three items is rated higher, lower or highest.
    Comparison,
}

impl Kind {
    /// Every kind, in the order of reports.
    pub const ALL: [Kind; 5] = [Kind::OneHop, Kind::TwoHop, Kind::Corrected, Kind::Count, Kind::Comparison];

    /// The name used in reports and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Kind::OneHop => "one-hop",
            Kind::TwoHop => "two-hop",
            Kind::Corrected => "corrected",
            Kind::Count => "count",
            Kind::Comparison => "comparison",
        }
    }
}

/// Where a line of the log comes from; the same tags as the worker's trajectory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LineKind {
    /// A confirmed finding (a worker's reply).
    Finding,
    /// The orchestrator's own thoughts: guesses, rejected branches, plans.
    Reasoning,
    /// Output of a tool.
    Tool,
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Where it comes from.
    pub source: LineKind,
    /// The sentence, without its tag.
    pub text: String,
}

impl From<&Line> for Segment {
    fn from(line: &Line) -> Self {
        let tag = match line.source {
            LineKind::Finding => Tag::Finding,
            LineKind::Reasoning => Tag::Reasoning,
            LineKind::Tool => Tag::Tool,
        };
        Segment::new(tag, line.text.clone())
    }
}

/// A question with its one right answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// What it asks of the trajectory.
    pub kind: Kind,
    /// Of the episode it belongs to.
    pub difficulty: Difficulty,
    /// The question.
    pub text: String,
    /// The whole answer; exact match decides.
    pub answer: String,
    /// Which relation the answer comes from.
    pub relation: Relation,
    /// Four choices, the answer among them, for the LongBench v2 form.
    pub choices: Vec<String>,
    /// The steps to the answer, where there are any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
}

/// What a reader has found out by a point of the question: an aid in training, not for the worker to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The question up to that point.
    pub upto: String,
    /// The entity in between, or the rating of the item just named.
    pub value: String,
}

/// A log and the questions about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Episode {
    /// The seed it was drawn from.
    pub seed: u64,
    /// Names and patterns.
    pub split: Split,
    /// Traps.
    pub difficulty: Difficulty,
    /// The log, oldest line first.
    pub lines: Vec<Line>,
    /// Questions about it.
    pub questions: Vec<Question>,
}

/// What to draw.
#[derive(Clone, Debug, PartialEq)]
pub struct EpisodeConfig {
    /// Names and patterns.
    pub split: Split,
    /// `None` draws easy and hard in equal parts.
    pub difficulty: Option<Difficulty>,
    /// Length of the log in words, drawn uniformly; 10 to 20,000.
    pub words: (usize, usize),
    /// Questions an episode, 1 to 1,000 (fewer where the facts allow no more).
    pub questions: usize,
    /// First lessons for a worker in training: one sentence pattern a relation, no guesses and no noise; without a
    /// focus, no corrections and one-hop questions only.
    pub plain: bool,
    /// Lessons of one kind: relations that give rise to it, and its questions only (one-hop where there is none).
    pub focus: Option<Kind>,
}

impl EpisodeConfig {
    /// Held-out episodes of `words` words with `questions` questions each.
    pub fn held_out(words: (usize, usize), questions: usize) -> Self {
        Self { split: Split::HeldOut, difficulty: None, words, questions, plain: false, focus: None }
    }

    /// # Errors
    /// [`Error::Config`] names the field that is out of range.
    pub fn validate(&self) -> Result<()> {
        let (low, high) = self.words;
        if low < 10 || high > 20_000 || low > high {
            return Err(Error::config("words", format!("{low}..{high}"), "want 10 <= low <= high <= 20000"));
        }
        if !(1..=1000).contains(&self.questions) {
            return Err(Error::config("questions", self.questions, "want 1 to 1000"));
        }
        Ok(())
    }
}

/// How an episode is told.
#[derive(Clone, Copy, Debug)]
struct Style {
    split: Split,
    difficulty: Difficulty,
    plain: bool,
    focus: Option<Kind>,
}

/// Words a fact takes, tags and noise around it counted in: where the search for the right number of facts starts.
const WORDS_PER_FACT: f64 = 16.0;
/// How far a log may miss the length that was drawn.
const LENGTH_TOLERANCE: f64 = 0.1;
const LENGTH_ATTEMPTS: usize = 8;

impl Episode {
    /// The episode of a seed: the same seed and configuration give the same episode.
    ///
    /// # Errors
    /// [`Error::Config`] where the configuration is out of range.
    pub fn generate(seed: u64, config: &EpisodeConfig) -> Result<Self> {
        config.validate()?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // Each split has its own stream, so that equal seeds share nothing.
        rng.set_stream(match config.split {
            Split::Train => 1,
            Split::HeldOut => 2,
        });
        loop {
            let words = rng.random_range(config.words.0..=config.words.1);
            let difficulty = config.difficulty.unwrap_or(if rng.random_bool(0.5) {
                Difficulty::Easy
            } else {
                Difficulty::Hard
            });
            let style = Style { split: config.split, difficulty, plain: config.plain, focus: config.focus };
            let (mut world, lines) = fit(words, style, &mut rng);
            let questions = questions::draw(&mut world, config.questions, &mut rng);
            if !questions.is_empty() {
                return Ok(Self { seed, split: config.split, difficulty, lines, questions });
            }
        }
    }

    /// Length of the log in words.
    pub fn words(&self) -> usize {
        count_words(&self.lines)
    }
}

fn count_words(lines: &[Line]) -> usize {
    lines.iter().map(|l| l.text.split_whitespace().count() + 1).sum()
}

/// A world whose log is about `words` long. How many words a fact takes depends on the relations and traps drawn, so
/// the same stream of chance is told again with another number of facts until the length fits.
fn fit(words: usize, style: Style, rng: &mut ChaCha8Rng) -> (world::World, Vec<Line>) {
    let mut n_facts = ((words as f64 / WORDS_PER_FACT) as usize).max(2);
    let mut best: Option<(f64, world::World, Vec<Line>, ChaCha8Rng)> = None;
    for _ in 0..LENGTH_ATTEMPTS {
        let mut stream = rng.clone();
        let mut world = world::World::draw(n_facts, style, &mut stream);
        let lines = narrate::narrate(&mut world, &mut stream);
        let ratio = count_words(&lines) as f64 / words as f64;
        let miss = (ratio - 1.0).abs();
        if best.as_ref().is_none_or(|(least, ..)| miss < *least) {
            best = Some((miss, world, lines, stream));
        }
        // Half a step at a time, since another number of facts may draw other relations.
        let next = ((n_facts as f64 * (1.0 + 1.0 / ratio) / 2.0).round() as usize).max(2);
        if miss <= LENGTH_TOLERANCE || next == n_facts {
            break;
        }
        n_facts = next;
    }
    let (_, world, lines, stream) = best.expect("there is at least one attempt");
    *rng = stream;
    (world, lines)
}

/// `pattern` with each `{key}` replaced.
fn fill(pattern: &str, pairs: &[(&str, &str)]) -> String {
    pairs.iter().fold(pattern.to_owned(), |text, (key, value)| text.replace(&format!("{{{key}}}"), value))
}
