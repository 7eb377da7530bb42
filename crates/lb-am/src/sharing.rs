//! A count shared out among heads by their scores.

use rayon::prelude::*;

use crate::config::Sharing;
use crate::mask::Score;

/// The slots of one head that compete, and what limits its count.
pub(crate) struct Contender {
    /// Scores of the slots that are neither protected nor padding, the largest first.
    pub(crate) scores: Vec<f64>,
    /// Slots that stay whatever their score.
    pub(crate) protected: usize,
    /// What it would keep alone.
    pub(crate) alone: usize,
}

impl Contender {
    /// Of `scores`, those for which `competes` holds.
    pub(crate) fn new<T: Score>(
        scores: &[T],
        competes: impl Fn(usize) -> bool,
        protected: usize,
        alone: usize,
    ) -> Self {
        let competing = scores.iter().enumerate().filter(|(slot, _)| competes(*slot));
        let mut scores: Vec<f64> = competing.map(|(_, score)| (*score).into()).collect();
        scores.sort_unstable_by(|a, b| b.total_cmp(a));
        Self { scores, protected, alone }
    }

    /// The fewest and the most that it may keep of what competes.
    fn limits(&self, floor: f64) -> (usize, usize) {
        let most = self.scores.len();
        // A head must keep something.
        let one = usize::from(self.protected == 0);
        let least = (self.alone as f64 * floor - 1e-9).ceil() as usize;
        (least.saturating_sub(self.protected).max(one).min(most), most)
    }

    /// The fewest slots that hold `share` of the sum of the scores.
    fn holding(&self, share: f64) -> usize {
        let wanted = self.scores.iter().sum::<f64>() * share;
        let mut held = 0.0;
        let reaches = |score: &f64| {
            held += score;
            held >= wanted
        };
        self.scores.iter().position(reaches).map_or(self.scores.len(), |last| last + 1)
    }
}

/// Slots that each head keeps, protected ones counted in: `[layer][head]`, in sum what they would keep alone.
pub(crate) fn share_out(heads: &[Vec<Contender>], sharing: Sharing) -> Vec<Vec<usize>> {
    match sharing {
        Sharing::Equal => heads.iter().map(|layer| layer.iter().map(|head| head.alone).collect()).collect(),
        Sharing::Layer { floor } => {
            heads.par_iter().map(|layer| by_score(&layer.iter().collect::<Vec<_>>(), floor)).collect()
        }
        Sharing::All { floor } => by_layer(heads, by_score(&flat(heads), floor)),
        Sharing::Coverage { floor } => by_layer(heads, by_coverage(&flat(heads), floor)),
    }
}

fn flat(heads: &[Vec<Contender>]) -> Vec<&Contender> {
    heads.iter().flatten().collect()
}

fn by_layer(heads: &[Vec<Contender>], counts: Vec<usize>) -> Vec<Vec<usize>> {
    let mut counts = counts.into_iter();
    heads.iter().map(|layer| counts.by_ref().take(layer.len()).collect()).collect()
}

/// What the heads may keep together of what competes.
fn room(heads: &[&Contender]) -> usize {
    heads.iter().map(|head| head.alone.saturating_sub(head.protected)).sum()
}

/// Everyone's least, then the best scores of all; equal scores go to the earlier head.
fn by_score(heads: &[&Contender], floor: f64) -> Vec<usize> {
    let limits: Vec<(usize, usize)> = heads.iter().map(|head| head.limits(floor)).collect();
    let mut counts: Vec<usize> = limits.iter().map(|(least, _)| *least).collect();
    let left = room(heads).saturating_sub(counts.iter().sum());
    let mut open: Vec<(f64, usize)> = Vec::new();
    for (index, (head, (least, _))) in heads.iter().zip(&limits).enumerate() {
        open.extend(head.scores[*least..].iter().map(|score| (*score, index)));
    }
    let best_first = |a: &(f64, usize), b: &(f64, usize)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
    if left > 0 && left < open.len() {
        open.select_nth_unstable_by(left - 1, best_first);
    }
    for (_, index) in open.into_iter().take(left) {
        counts[index] += 1;
    }
    counts.iter().zip(heads).map(|(count, head)| count + head.protected).collect()
}

/// The largest share that all can hold, and what rounding leaves to the best scores.
fn by_coverage(heads: &[&Contender], floor: f64) -> Vec<usize> {
    let room = room(heads);
    let counts = |share: f64| -> Vec<usize> {
        heads
            .par_iter()
            .map(|head| {
                let (least, most) = head.limits(floor);
                head.holding(share).clamp(least, most)
            })
            .collect()
    };
    let (mut low, mut high) = (0.0, 1.0);
    // 2^-30 of a sum is less than one slot's part of any cache.
    for _ in 0..30 {
        let middle = f64::midpoint(low, high);
        if counts(middle).iter().sum::<usize>() <= room { low = middle } else { high = middle }
    }
    let mut counts = counts(low);
    let mut left = room.saturating_sub(counts.iter().sum());
    let mut next: Vec<usize> = (0..heads.len()).collect();
    let part = |index: usize, count: usize| {
        heads[index].scores.get(count).map_or(-1.0, |score| score / heads[index].scores.iter().sum::<f64>())
    };
    while left > 0 {
        next.retain(|index| counts[*index] < heads[*index].scores.len());
        if next.is_empty() {
            break;
        }
        next.sort_by(|a, b| part(*b, counts[*b]).total_cmp(&part(*a, counts[*a])).then(a.cmp(b)));
        for index in next.iter().take(left) {
            counts[*index] += 1;
        }
        left = left.saturating_sub(next.len());
    }
    counts.iter().zip(heads).map(|(count, head)| count + head.protected).collect()
}

#[cfg(test)]
mod tests {
    use super::{Contender, share_out};
    use crate::config::Sharing;

    fn head(scores: &[f32], equal: usize) -> Contender {
        Contender::new(scores, |slot| slot > 0, 1, equal)
    }

    #[test]
    fn the_best_scores_take_the_room_and_the_sum_stays() {
        let heads = vec![
            vec![head(&[0.0, 0.9, 0.1, 0.0, 0.0], 3), head(&[0.0, 0.3, 0.3, 0.2, 0.2], 3)],
            vec![head(&[0.0, 0.25, 0.25, 0.25, 0.25], 3), head(&[0.0, 1.0, 0.0, 0.0, 0.0], 3)],
        ];
        assert_eq!(share_out(&heads, Sharing::Equal), [[3, 3], [3, 3]]);
        assert_eq!(share_out(&heads, Sharing::Layer { floor: 0.0 }), [[2, 4], [4, 2]]);
        assert_eq!(share_out(&heads, Sharing::Layer { floor: 1.0 }), [[3, 3], [3, 3]]);
        assert_eq!(share_out(&heads, Sharing::All { floor: 0.0 }), [[2, 3], [5, 2]]);
        assert_eq!(share_out(&heads, Sharing::All { floor: 0.6 }), [[2, 3], [5, 2]]);
        // 0.9, 0.8, 0.75 and 1.0 of their sums.
        assert_eq!(share_out(&heads, Sharing::Coverage { floor: 0.0 }), [[2, 4], [4, 2]]);
    }

    #[test]
    fn nobody_goes_without_and_nobody_beyond_what_there_is() {
        let heads = vec![vec![
            Contender::new(&[0.0f32; 4], |_| true, 0, 2),
            Contender::new(&[1.0f32, 1.0], |_| true, 0, 2),
            Contender::new(&[0.5f32; 6], |_| true, 0, 2),
        ]];
        for sharing in
            [Sharing::Layer { floor: 0.0 }, Sharing::All { floor: 0.0 }, Sharing::Coverage { floor: 0.0 }]
        {
            let counts = share_out(&heads, sharing);
            assert_eq!(counts[0].iter().sum::<usize>(), 6, "{sharing:?}");
            assert!(counts[0][0] >= 1 && counts[0][1] <= 2, "{sharing:?}: {counts:?}");
        }
    }
}
