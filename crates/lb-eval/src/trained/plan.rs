//! What is to be trained, and when it is measured.

use lb_session::{BriefConfig, Handoff};
use lb_train::Learning;
use serde::{Deserialize, Serialize};

use crate::pipeline::Shard;
use crate::{Error, Result};

/// What the worker makes up lessons behind, in turns.
pub const PROMPTS: [&str; 6] = [
    "Repeat what was said, word for word, from the beginning.",
    "Sum up what was found so far.",
    "Which names, numbers and places were mentioned, and what was said of each?",
    "Ask a question about what was said, and answer it.",
    "Which facts would somebody need who goes on from here?",
    "Repeat the last things that were said, word for word.",
];

/// Which briefings are trained, on how much, and after which steps they are measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainedPlan {
    /// Briefings to begin with, as text: `latent-briefing:keep=0.1`.
    pub briefings: Vec<String>,
    /// Steps after which a briefing is measured, ascending; 0 is the closed form. Default: 0, 10, 20, 50, 100, 200.
    pub steps: Vec<usize>,
    /// Lessons, 1 to 256, of [`PROMPTS`] in turns. Default: 12.
    pub lessons: usize,
    /// Tokens of a lesson's answer at most, 1 to 1024. Default: 48.
    pub lesson_tokens: usize,
    /// Tokens of a target at most, 1 to 4096. Default: 64.
    pub target_tokens: usize,
    /// Of AdamW. Default: 0.01.
    pub rate: f64,
    /// Whether values are trained. Default: true.
    pub values: bool,
    /// Whether biases are. Default: true.
    pub biases: bool,
    /// Of the lessons.
    pub seed: u64,
    /// Which part of the trajectories; where one run is on several machines. Default: all.
    #[serde(skip)]
    pub shard: Shard,
}

impl Default for TrainedPlan {
    fn default() -> Self {
        Self {
            briefings: vec!["latent-briefing:keep=0.1".to_owned()],
            steps: vec![0, 10, 20, 50, 100, 200],
            lessons: 12,
            lesson_tokens: 48,
            target_tokens: 64,
            rate: Learning::default().rate,
            values: true,
            biases: true,
            seed: 0,
            shard: Shard::default(),
        }
    }
}

impl TrainedPlan {
    /// Checks every range.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field; [`Error::Session`] for a briefing that is none.
    pub fn validate(&self) -> Result<()> {
        let within = |field, value: usize, most: usize, reason| {
            if (1..=most).contains(&value) { Ok(()) } else { Err(Error::config(field, value, reason)) }
        };
        within("lessons", self.lessons, 256, "want 1 to 256")?;
        within("lesson_tokens", self.lesson_tokens, 1024, "want 1 to 1024")?;
        within("target_tokens", self.target_tokens, 4096, "want 1 to 4096")?;
        if self.steps.is_empty() || !self.steps.is_sorted_by(|a, b| a < b) {
            return Err(Error::config("steps", format!("{:?}", self.steps), "want ascending numbers"));
        }
        if !(self.rate > 0.0 && self.rate <= 1.0) {
            return Err(Error::config("rate", self.rate, "want above 0, at most 1"));
        }
        if !self.values && !self.biases {
            return Err(Error::config("values", false, "want values or biases to train"));
        }
        self.configs().map(|_| ())
    }

    pub(super) fn configs(&self) -> Result<Vec<BriefConfig>> {
        if self.briefings.is_empty() {
            return Err(Error::config("briefings", "none", "want at least one"));
        }
        let config = |text: &String| match text.parse::<Handoff>()? {
            Handoff::LatentBriefing(config) => Ok(config.as_ref().clone()),
            _ => {
                Err(Error::config("briefings", text, "want latent-briefing, as in latent-briefing:keep=0.1"))
            }
        };
        self.briefings.iter().map(config).collect()
    }

    pub(super) fn learning(&self) -> Learning {
        Learning { rate: self.rate, values: self.values, biases: self.biases }
    }
}
