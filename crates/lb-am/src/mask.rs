//! Which positions stay: a threshold or a count, protected positions first, ties to the earlier position.

use serde::{Deserialize, Serialize};

use crate::config::{Budget, Protected};
use crate::spans::SpanMap;

/// How a mask came about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MaskInfo {
    /// The cut: median + τ · MAD under [`Budget::Mad`], otherwise the lowest score that was kept for its score
    /// (`None` where none was).
    pub threshold: Option<f64>,
    /// Median of the pooled scores, padding left out.
    pub median: f64,
    /// Median absolute deviation of the pooled scores.
    pub mad: f64,
    /// Positions that are kept because they are protected.
    pub n_protected: usize,
    /// Which limit set the number of kept positions.
    pub limit: CountLimit,
}

/// The limit that set how many positions stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CountLimit {
    /// The MAD threshold.
    Threshold,
    /// The share of the scores that was asked for.
    Coverage,
    /// `min_kept`: fewer positions passed the threshold, or held the share.
    MinKept,
    /// `max_ratio` of the MAD rule: more positions passed its threshold.
    MaxRatio,
    /// The ratio or the length that was asked for.
    Count,
    /// The protected positions, which alone reach or exceed the budget.
    Protected,
    /// The cache, which has no more positions to give.
    SeqLen,
    /// The selection was given by the caller.
    Given,
}

/// A number that positions are ranked by.
pub trait Score: Copy + Into<f64> + Send + Sync + private::Sealed {
    /// The largest.
    fn largest(window: &[Self]) -> Self;

    /// The mean.
    fn mean(window: &[Self]) -> Self;

    /// The larger of this and a part of another.
    #[must_use]
    fn or_part(self, other: Self, factor: f64) -> Self;
}

mod private {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

impl Score for f32 {
    fn largest(window: &[Self]) -> Self {
        window.iter().copied().fold(Self::NEG_INFINITY, Self::max)
    }

    fn mean(window: &[Self]) -> Self {
        window.iter().sum::<Self>() / window.len() as Self
    }

    fn or_part(self, other: Self, factor: f64) -> Self {
        self.max(other * factor as Self)
    }
}

impl Score for f64 {
    fn largest(window: &[Self]) -> Self {
        window.iter().copied().fold(Self::NEG_INFINITY, Self::max)
    }

    fn mean(window: &[Self]) -> Self {
        window.iter().sum::<Self>() / window.len() as Self
    }

    fn or_part(self, other: Self, factor: f64) -> Self {
        self.max(other * factor)
    }
}

/// How the slots of a list compete: by score, equal scores from the earlier position on.
#[derive(Clone, Copy, Debug)]
pub struct Ranking<'a, T = f32> {
    scores: &'a [T],
    padding_last: bool,
}

impl<'a, T> Ranking<'a, T> {
    /// By a score for each slot. Padding never stays but where it is protected.
    pub fn by(scores: &'a [T]) -> Self {
        Self { scores, padding_last: false }
    }

    /// Padding stays where nothing else is left, so that counts are met.
    #[must_use]
    pub fn padding_last(self) -> Self {
        Self { padding_last: true, ..self }
    }

    pub(crate) fn scores(&self) -> &'a [T] {
        self.scores
    }
}

/// Selects positions by their pooled scores.
///
/// Returns original slots, ascending. With spans of units, a count is filled with whole units. `is_dead` marks padding.
pub(crate) fn select<T: Score>(
    by: Ranking<'_, T>,
    is_dead: impl Fn(usize) -> bool,
    budget: Budget,
    protect: Protected,
    spans: &SpanMap,
) -> (Vec<u32>, MaskInfo) {
    let scores = by.scores;
    let seq_len = scores.len();
    let is_protected = |j: usize| protect.covers(j, seq_len);
    let mut info = describe(scores, &is_dead);
    info.n_protected = (0..seq_len).filter(|j| is_protected(*j)).count();

    let best_first = |a: &usize, b: &usize| {
        let (x, y): (f64, f64) = (scores[*a].into(), scores[*b].into());
        y.total_cmp(&x).then(a.cmp(b))
    };
    let mut ranked: Vec<usize> = (0..seq_len).filter(|j| !is_protected(*j) && !is_dead(*j)).collect();
    ranked.sort_by(best_first);
    let passed = |threshold: f64| ranked.partition_point(|j| scores[*j].into() > threshold);
    let held = |share: f64| holding(&ranked, scores, share);
    let wanted = wanted(budget, seq_len, &mut info, passed, held);
    if by.padding_last {
        let mut dead: Vec<usize> = (0..seq_len).filter(|j| !is_protected(*j) && is_dead(*j)).collect();
        dead.sort_by(best_first);
        ranked.extend(dead);
    }

    let room = wanted.saturating_sub(info.n_protected);
    if info.limit != CountLimit::Threshold {
        if wanted <= info.n_protected {
            info.limit = CountLimit::Protected;
        } else if room > ranked.len() {
            info.limit = CountLimit::SeqLen;
        }
    }
    if spans.whole_units() && !matches!(budget, Budget::Mad { .. }) {
        ranked = whole_units(&ranked, room, spans, seq_len);
    } else {
        ranked.truncate(room);
    }
    if !matches!(budget, Budget::Mad { .. }) {
        info.threshold = ranked.last().map(|j| scores[*j].into());
    }
    let mut kept: Vec<u32> = ranked.iter().map(|j| *j as u32).collect();
    kept.extend((0..seq_len).filter(|j| is_protected(*j)).map(|j| j as u32));
    kept.sort_unstable();
    (kept, info)
}

/// How many of the ranked positions hold `share` of the sum of their scores.
fn holding<T: Score>(ranked: &[usize], scores: &[T], share: f64) -> usize {
    let score = |slot: &usize| -> f64 { scores[*slot].into().max(0.0) };
    let wanted = ranked.iter().map(score).sum::<f64>() * share;
    let mut held = 0.0;
    let reaches = |slot: &usize| {
        held += score(slot);
        held >= wanted
    };
    ranked.iter().position(reaches).map_or(ranked.len(), |last| last + 1)
}

/// How many positions the budget asks for; of those that are not protected, `passed` says how many are above a threshold and
/// `held` how many hold a share of the scores.
fn wanted(
    budget: Budget,
    seq_len: usize,
    info: &mut MaskInfo,
    passed: impl Fn(f64) -> usize,
    held: impl Fn(f64) -> usize,
) -> usize {
    match budget {
        Budget::Mad { tau, min_kept, max_ratio } => {
            let threshold = info.median + tau * info.mad;
            info.threshold = Some(threshold);
            let count = info.n_protected + passed(threshold);
            let most = share(max_ratio, seq_len).max(min_kept);
            info.limit = match count {
                _ if count < min_kept => CountLimit::MinKept,
                _ if count > most => CountLimit::MaxRatio,
                _ => CountLimit::Threshold,
            };
            count.clamp(min_kept, most)
        }
        Budget::KeepRatio(ratio) => share(ratio, seq_len),
        Budget::KeptLen(len) => len,
        Budget::Coverage { share, min_kept } => {
            let count = info.n_protected + held(share);
            info.limit = if count < min_kept { CountLimit::MinKept } else { CountLimit::Coverage };
            count.max(min_kept)
        }
        // Resolved into a ratio before anything is selected.
        Budget::ErrorBelow { min_kept, .. } => min_kept,
    }
}

/// The best units that fit into `room`, best first; where not even the best one does, the head of it.
fn whole_units(ranked: &[usize], room: usize, spans: &SpanMap, seq_len: usize) -> Vec<usize> {
    let mut taken = Vec::new();
    let mut rest = ranked;
    while let Some(first) = rest.first() {
        // Positions of a unit have one score and ascend, so they stand together.
        let unit = spans.around(*first, seq_len);
        let len = rest.iter().take_while(|j| unit.contains(j)).count();
        if taken.len() + len <= room {
            taken.extend(&rest[..len]);
        }
        rest = &rest[len..];
    }
    if taken.is_empty() {
        taken.extend(ranked.iter().take(room));
    }
    taken
}

/// The information about a selection that was given.
pub(crate) fn given<T: Score>(scores: &[T], is_dead: impl Fn(usize) -> bool) -> MaskInfo {
    MaskInfo { limit: CountLimit::Given, ..describe(scores, &is_dead) }
}

fn describe<T: Score>(scores: &[T], is_dead: &impl Fn(usize) -> bool) -> MaskInfo {
    let live: Vec<f64> =
        scores.iter().enumerate().filter(|(j, _)| !is_dead(*j)).map(|(_, score)| (*score).into()).collect();
    let median = median(live.clone());
    let mad = self::median(live.iter().map(|score| (score - median).abs()).collect());
    MaskInfo { threshold: None, median, mad, n_protected: 0, limit: CountLimit::Count }
}

/// The middle value, or the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) }
}

/// ⌈ratio · `seq_len`⌉, where 0.1 of 30 is 3 although 0.1 · 30 is a little more in binary.
pub(crate) fn share(ratio: f64, seq_len: usize) -> usize {
    (ratio * seq_len as f64 - 1e-9).ceil() as usize
}

impl Protected {
    /// Whether position `j` of `seq_len` is protected.
    pub(crate) fn covers(self, j: usize, seq_len: usize) -> bool {
        j < self.first || j >= seq_len.saturating_sub(self.last)
    }
}
