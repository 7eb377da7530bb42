//! What rows say: the figures of every condition, overall and by class, and what the run can show at all.

use serde::Serialize;

use crate::stats::bootstrap::Interval;
use crate::stats::mcnemar::McNemar;

/// Everything that the rows say.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The condition that accuracies are compared with.
    pub reference: String,
    /// How far below it an accuracy may surely be for a setting to hold, 0.02 for two points.
    pub margin: f64,
    /// Sets that the items are from.
    pub datasets: Vec<String>,
    /// Items.
    pub items: usize,
    /// Documents that they are about.
    pub documents: usize,
    /// Runs of the orchestrator of an item, at most.
    pub repeats: usize,
    /// Items to choose settings on, and items to report on.
    pub parts: [usize; 2],
    /// What is drawn together.
    pub clusters: Clusters,
    /// Every condition on all rows, in the order of the file.
    pub conditions: Vec<Figures>,
    /// The same by class.
    pub groups: Vec<Group>,
    /// Rows without an answer.
    pub failures: Vec<Failure>,
    /// Where the noise comes from, where items were run more than once.
    pub noise: Vec<Noise>,
    /// What the number of items can show.
    pub power: Vec<Power>,
}

/// The items of one class.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Group {
    /// `difficulty`, `length`, `kind`, `domain`, `kind and length`, or `positions`: quarters of the items by trajectory.
    pub axis: &'static str,
    /// The class.
    pub value: String,
    /// Every condition.
    pub conditions: Vec<Figures>,
}

/// A row without an answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Failure {
    /// The item.
    pub item: String,
    /// The condition.
    pub condition: String,
    /// The run.
    pub repeat: usize,
    /// Why.
    pub reason: String,
}

/// Variances of a single score, from a condition and the reference on the same recorded turns.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Noise {
    /// The condition.
    pub condition: String,
    /// Between the orchestrator's runs of an item: what both have in common.
    pub orchestrator: Interval,
    /// Between handoffs of the same turns, each taken from its own mean.
    pub handoff: Interval,
    /// The orchestrator's share of both.
    pub share: Option<Interval>,
}

/// What a comparison with the reference can show, at level 0.05 and power 0.8.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Power {
    /// The condition.
    pub condition: String,
    /// Rows that both have.
    pub pairs: usize,
    /// Share of them that exactly one of the two has right.
    pub discordance: f64,
    /// Pairs that show a difference of three points; `None` where fewer than three in a hundred disagree, so that the
    /// difference cannot be that large.
    pub for_three_points: Option<u64>,
    /// The smallest difference that these pairs can show; `None` where they can show none.
    pub smallest: Option<f64>,
}

/// What one condition did on some items. Shares are from 0 to 1; intervals are of 95 %, unless asked otherwise.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// The condition.
    pub condition: String,
    /// Rows, failures counted in.
    pub n: usize,
    /// Items.
    pub items: usize,
    /// Right answers.
    pub right: usize,
    /// Rows without an answer; wrong, and in every denominator.
    pub failures: usize,
    /// Share of right answers.
    pub accuracy: f64,
    /// Wilson's 95 % interval, of the number of items: repeats of an item do not narrow it.
    pub accuracy_ci: [f64; 2],
    /// Accuracy minus that of the reference, on the rows that both have.
    pub difference: Option<Interval>,
    /// McNemar's test of the same rows: `only_first` are those that this condition alone has right.
    pub mcnemar: Option<McNemar>,
    /// Rows that the reference has as well.
    pub pairs: usize,
    /// Accuracy over that of the reference.
    pub retention: Option<Interval>,
    /// The worker's tokens of an item, median.
    pub worker_median: f64,
    /// The worker's tokens of an item, mean.
    pub worker_mean: Interval,
    /// Worker tokens that text replay spends and this condition does not, as a share of those of text replay.
    pub reduction: Option<Interval>,
    /// Tokens of the orchestrator of an item, mean.
    pub orchestrator_mean: f64,
    /// Tokens of worker and orchestrator of an item, mean.
    pub total_mean: f64,
    /// Tokens of both that are saved against text replay, as a share: median over documents of medium length.
    pub medium_savings: Option<Interval>,
    /// Documents of medium length that have a row of text replay.
    pub medium: usize,
    /// Seconds of briefings over seconds that text replay reads prompts.
    pub overhead: Option<Interval>,
    /// Seconds of briefings of an item, median.
    pub brief_s: f64,
    /// Share of the trajectory that a call could attend to, median.
    pub keep_ratio: Option<Interval>,
    /// What the worker thought of the letters, against the reference, on the rows that both have them of.
    pub letters: Option<Letters>,
}

/// The chances of the letters under a condition beside those under the reference.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Letters {
    /// Rows that both have them of.
    pub pairs: usize,
    /// Share of them with the same likeliest letter.
    pub agreement: f64,
    /// Wilson's 95 % interval, of the number of items.
    pub agreement_ci: [f64; 2],
    /// `KL(reference || condition)` over the letters in nats, mean.
    pub kl: Interval,
    /// What the letters had among all tokens under this condition, mean.
    pub mass: f64,
}

/// How clusters are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Clusters {
    /// By the rows' `cluster`.
    Document,
    /// By item, where all rows have one cluster.
    Item,
}
