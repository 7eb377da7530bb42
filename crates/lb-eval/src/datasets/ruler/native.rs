//! The same tasks in words that the built-in worker was trained on, as episodes.

use std::collections::HashSet;
use std::str::FromStr;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::check_depth;
use crate::datasets::TokenCount;
use crate::datasets::item::{Dataset, Item, ItemKind, Meta};
use crate::episodes::{Difficulty, Episode, Kind, Line, Question, Relation, Split, Teller};
use crate::{Error, Result};

/// What is asked, and what stands around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NativeTask {
    /// One fact among lines that state none.
    Needle,
    /// One fact among facts of the same relation about other subjects.
    MultiKey,
    /// A fact that is corrected twice, among facts of the same relation; the last value counts.
    MultiValue,
    /// A chain of facts, among links of other items. Two hops are as in training, more are not.
    Tracking {
        /// Facts in the chain, 2 to 4.
        hops: u8,
    },
    /// How many items have a status, among items with others.
    Counting,
}

impl FromStr for NativeTask {
    type Err = Error;

    /// By [`name`](Self::name).
    fn from_str(text: &str) -> Result<Self> {
        let all = Self::ALL.into_iter().chain([Self::Tracking { hops: 4 }]);
        let reason = "want needle, multi-key, multi-value, tracking-2, tracking-3, tracking-4 or counting";
        all.into_iter().find(|task| task.name() == text).ok_or_else(|| Error::config("task", text, reason))
    }
}

impl NativeTask {
    /// The tasks of a usual run: chains of two and three facts.
    pub const ALL: [Self; 6] = [
        Self::Needle,
        Self::MultiKey,
        Self::MultiValue,
        Self::Tracking { hops: 2 },
        Self::Tracking { hops: 3 },
        Self::Counting,
    ];

    /// The name used in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Needle => "needle",
            Self::MultiKey => "multi-key",
            Self::MultiValue => "multi-value",
            Self::Tracking { hops: ..=2 } => "tracking-2",
            Self::Tracking { hops: 3 } => "tracking-3",
            Self::Tracking { .. } => "tracking-4",
            Self::Counting => "counting",
        }
    }

    /// The kind of question it is.
    pub fn kind(self) -> Kind {
        match self {
            Self::Needle | Self::MultiKey => Kind::OneHop,
            Self::MultiValue => Kind::Corrected,
            Self::Tracking { .. } => Kind::TwoHop,
            Self::Counting => Kind::Count,
        }
    }
}

/// One native task to generate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NativeConfig {
    /// What is asked.
    pub task: NativeTask,
    /// Tokens of the log, each line counted as the session writes it (`finding: ...` and a line end): 64 to 1,048,576.
    pub tokens: usize,
    /// Same seed, same episode.
    pub seed: u64,
    /// How deep the (first) statement that is asked for stands, 0 to 1; drawn by lot without it.
    pub depth: Option<f64>,
}

impl NativeConfig {
    /// A task of `tokens` tokens at a depth drawn by lot.
    pub fn new(task: NativeTask, tokens: usize, seed: u64) -> Self {
        Self { task, tokens, seed, depth: None }
    }

    /// # Errors
    /// [`Error::Config`] names the field that is out of range.
    pub fn validate(&self) -> Result<()> {
        if !(64..=1 << 20).contains(&self.tokens) {
            return Err(Error::config("tokens", self.tokens, "want 64 to 1048576"));
        }
        if let NativeTask::Tracking { hops } = self.task
            && !(2..=4).contains(&hops)
        {
            return Err(Error::config("hops", hops, "want 2 to 4"));
        }
        check_depth(self.depth)
    }
}

/// A log of at most the configured length and one question about it, for [`calls::ask`](crate::calls::ask).
///
/// Names and patterns are those of the held-out split.
///
/// # Errors
/// [`Error::Config`] for a configuration out of range or a length that the statements alone exceed; what `count` returns.
pub fn native(config: &NativeConfig, count: TokenCount<'_>) -> Result<Episode> {
    config.validate()?;
    let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
    rng.set_stream(31);
    let mut plan = Plan { teller: Teller::held_out(rng), told: Vec::new() };
    let question = match config.task {
        NativeTask::Needle | NativeTask::MultiKey => plan.one_fact(0),
        NativeTask::MultiValue => plan.one_fact(2),
        NativeTask::Tracking { hops } => plan.chain(hops),
        NativeTask::Counting => plan.statuses(),
    };
    let spent = plan.told.iter().map(|line| cost(line, count)).sum::<Result<usize>>()?;
    if spent > config.tokens {
        return Err(Error::config(
            "tokens",
            config.tokens,
            "want room for the statements that are asked for",
        ));
    }
    let around = plan.around(config.task, question.relation, config.tokens - spent, count)?;
    let lines = plan.merge(config, around);
    let (seed, split, difficulty) = (config.seed, Split::HeldOut, Difficulty::Hard);
    Ok(Episode { seed, split, difficulty, lines, questions: vec![question] })
}

impl NativeConfig {
    /// The episode as an item, its log as the context, one line a segment.
    ///
    /// # Errors
    /// As [`native`].
    pub fn item(&self, count: TokenCount<'_>) -> Result<Item> {
        let episode = native(self, count)?;
        let lines: Vec<&str> = episode.lines.iter().map(|line| line.text.as_str()).collect();
        let question = &episode.questions[0];
        Ok(Item {
            id: format!("native-{}-{}-{}", self.task.name(), self.tokens, self.seed),
            dataset: Dataset::Native(self.task),
            context: lines.join("\n").into(),
            question: question.text.clone(),
            kind: ItemKind::Free { answers: vec![question.answer.clone()] },
            difficulty: Some(episode.difficulty),
            length_class: None,
            meta: Meta { sub_domain: Some(question.kind.name().to_owned()), ..Meta::default() },
            line: 1,
        })
    }
}

/// Tokens of a line as the session writes it.
pub(crate) fn cost(line: &Line, count: TokenCount<'_>) -> Result<usize> {
    let tag = match line.source {
        crate::episodes::LineKind::Finding => "finding",
        crate::episodes::LineKind::Reasoning => "reasoning",
        crate::episodes::LineKind::Tool => "tool",
    };
    count(&format!("{tag}: {}\n", line.text))
}

/// What is to be told: the statements that are asked for, in order.
struct Plan {
    teller: Teller,
    told: Vec<Line>,
}

/// Misses in a row that end the search for a line that still fits.
const MISSES: usize = 20;
/// Items with the status that is asked for: 1 to 5, as in training.
const MOST: u8 = 5;

impl Plan {
    fn one_fact(&mut self, corrections: usize) -> Question {
        let t = &mut self.teller;
        let relation = [Relation::Keeper, Relation::Place, Relation::Code][t.rng.random_range(0..3)];
        let (subject, mut value) = (t.item(), t.value(relation));
        self.told.push(t.state(relation, &subject, &value));
        for _ in 0..corrections {
            let old = std::mem::replace(&mut value, t.value(relation));
            self.told.push(t.correct(relation, &subject, &value, &old));
        }
        let kind = if corrections == 0 { Kind::OneHop } else { Kind::Corrected };
        t.ask(kind, relation, &subject, &value)
    }

    /// item -> ... -> item -> keeper -> base, the last two always.
    fn chain(&mut self, hops: u8) -> Question {
        let t = &mut self.teller;
        let start = t.item();
        let (mut at, mut phrase) = (start.clone(), start);
        for _ in 2..hops {
            let next = t.item();
            self.told.push(t.state(Relation::Link, &at, &next));
            phrase = format!("the item that {phrase} points to");
            at = next;
        }
        let (keeper, base) = (t.value(Relation::Keeper), t.value(Relation::Base));
        self.told.push(t.state(Relation::Keeper, &at, &keeper));
        self.told.push(t.state(Relation::Base, &keeper, &base));
        // A chain may be told in any order.
        for i in (1..self.told.len()).rev() {
            let j = self.teller.rng.random_range(0..=i);
            self.told.swap(i, j);
        }
        self.teller.ask_base_of_keeper(&phrase, &base)
    }

    fn statuses(&mut self) -> Question {
        let t = &mut self.teller;
        let status = t.status(&[]);
        let n = t.rng.random_range(1..=MOST);
        for _ in 0..n {
            let item = t.item();
            self.told.push(t.state(Relation::Status, &item, status));
        }
        t.ask_count(status, usize::from(n))
    }

    /// Lines that do not touch the answer, as many as fit.
    fn around(
        &mut self,
        task: NativeTask,
        relation: Relation,
        budget: usize,
        count: TokenCount<'_>,
    ) -> Result<Vec<Line>> {
        let told: HashSet<String> = self.told.iter().map(|line| line.text.clone()).collect();
        let asked_status =
            self.told.first().filter(|_| task == NativeTask::Counting).map(|line| line.text.clone());
        let (mut left, mut misses, mut lines) = (budget, 0, Vec::new());
        while misses < MISSES {
            let line = self.other(task, relation, asked_status.as_deref());
            let cost = cost(&line, count)?;
            if cost > left || cost == 0 || told.contains(&line.text) {
                misses += 1;
                continue;
            }
            misses = 0;
            left -= cost;
            lines.push(line);
        }
        Ok(lines)
    }

    fn other(&mut self, task: NativeTask, relation: Relation, status_line: Option<&str>) -> Line {
        let t = &mut self.teller;
        let subject = t.item();
        match task {
            NativeTask::Needle => t.noise(&subject),
            NativeTask::MultiKey | NativeTask::MultiValue => {
                let value = t.value(relation);
                t.state(relation, &subject, &value)
            }
            NativeTask::Tracking { .. } => {
                let relation = [Relation::Link, Relation::Keeper, Relation::Base][t.rng.random_range(0..3)];
                let subject = if relation == Relation::Base { t.value(Relation::Keeper) } else { subject };
                let value = t.value(relation);
                t.state(relation, &subject, &value)
            }
            NativeTask::Counting => {
                let taken: Vec<&'static str> = Teller::statuses_in(status_line.unwrap_or_default());
                let status = t.status(&taken);
                t.state(Relation::Status, &subject, status)
            }
        }
    }

    /// Statements among the other lines: the first at its depth, the rest behind it where order matters, anywhere where
    /// it does not.
    fn merge(mut self, config: &NativeConfig, around: Vec<Line>) -> Vec<Line> {
        let first = config.depth.unwrap_or_else(|| f64::from(self.teller.rng.random_range(0..=40_u8)) / 40.0);
        let ordered = config.task == NativeTask::MultiValue;
        let mut places: Vec<f64> = vec![first];
        for _ in 1..self.told.len() {
            let drawn: f64 = self.teller.rng.random();
            places.push(if ordered { first + drawn * (1.0 - first) } else { drawn });
        }
        places[1..].sort_by(f64::total_cmp);
        let mut placed: Vec<(usize, usize)> =
            places.iter().enumerate().map(|(i, p)| ((p * around.len() as f64).round() as usize, i)).collect();
        placed.sort_unstable();
        let mut told: Vec<Option<Line>> = self.told.into_iter().map(Some).collect();
        let mut lines = Vec::with_capacity(around.len() + told.len());
        let mut next = placed.into_iter().peekable();
        for (at, line) in around.into_iter().map(Some).chain([None]).enumerate() {
            while let Some((_, i)) = next.next_if(|(place, _)| *place <= at) {
                lines.extend(told[i].take());
            }
            lines.extend(line);
        }
        lines
    }
}
