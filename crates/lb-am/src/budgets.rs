//! Budgets that differ from head to head: how they are applied, and how they are found.

use crate::config::{Budget, Compaction, HeadBudgets};
use crate::error::{Error, Result};
use crate::layout::LayerKv;

/// Slots that each head of each layer keeps: `[layer][head]`.
///
/// The whole budget is what all heads would keep together at equal counts. It is shared out by
/// [`Compaction::head_budgets`], equally without; no head keeps less than its protected positions and one, or more than
/// its layer has. What rounding leaves over goes to the largest remainders.
///
/// # Errors
///
/// [`Error::Shape`] where the shares are not `layers x kv_heads`; [`Error::Config`] for a budget that is not a count.
pub fn counts(layers: &[LayerKv], config: &Compaction) -> Result<Vec<Vec<usize>>> {
    config.validate()?;
    let heads: Vec<usize> = layers.iter().map(LayerKv::kv_heads).collect();
    let equal = |layer: &LayerKv| -> Result<usize> {
        let seq_len = layer.seq_len();
        match config.budget {
            Budget::KeepRatio(ratio) => Ok(crate::mask::share(ratio, seq_len)),
            Budget::KeptLen(len) => Ok(len.min(seq_len)),
            Budget::Mad { .. } | Budget::Coverage { .. } | Budget::ErrorBelow { .. } => Err(Error::Config {
                field: "budget",
                value: format!("{:?}", config.budget),
                reason: "is no count; need a keep ratio or a kept length",
            }),
        }
    };
    let total = layers.iter().map(|layer| Ok(equal(layer)? * layer.kv_heads())).sum::<Result<usize>>()?;
    let uniform = HeadBudgets { shares: heads.iter().map(|heads| vec![1.0; *heads]).collect() };
    let budgets = config.head_budgets.as_ref().unwrap_or(&uniform);
    let shape: Vec<usize> = budgets.shares.iter().map(Vec::len).collect();
    if shape != heads {
        let expected = format!("a share for each of {heads:?} heads, layer by layer");
        return Err(Error::Shape { arg: "head_budgets", expected, got: shape });
    }
    let slots: Vec<Slot> = layers
        .iter()
        .zip(&budgets.shares)
        .flat_map(|(layer, shares)| {
            let most = layer.seq_len();
            let least = (config.protect.first + config.protect.last).clamp(1, most);
            shares.iter().map(move |share| Slot { share: *share, least, most })
        })
        .collect();
    let mut flat = apportion(&slots, total).into_iter();
    Ok(heads.iter().map(|heads| flat.by_ref().take(*heads).collect()).collect())
}

#[derive(Clone, Copy)]
struct Slot {
    share: f64,
    least: usize,
    most: usize,
}

/// `total` shared out, each within its limits as far as they allow.
fn apportion(slots: &[Slot], total: usize) -> Vec<usize> {
    let least: usize = slots.iter().map(|slot| slot.least).sum();
    let most: usize = slots.iter().map(|slot| slot.most).sum();
    let total = total.clamp(least, most);
    // The factor at which the limited shares sum to the total: monotone, so bisection finds it.
    let limited = |factor: f64, slot: &Slot| (slot.share * factor).clamp(slot.least as f64, slot.most as f64);
    let smallest = slots.iter().map(|slot| slot.share).filter(|share| *share > 0.0).fold(f64::MAX, f64::min);
    let (mut low, mut high) = (0.0, most as f64 / smallest);
    for _ in 0..200 {
        let middle = f64::midpoint(low, high);
        let sum: f64 = slots.iter().map(|slot| limited(middle, slot)).sum();
        if sum < total as f64 { low = middle } else { high = middle }
    }
    let wanted: Vec<f64> = slots.iter().map(|slot| limited(high, slot)).collect();
    let mut counts: Vec<usize> = wanted.iter().map(|want| (want + 1e-9).floor() as usize).collect();
    let mut order: Vec<usize> = (0..slots.len()).collect();
    let remainder = |i: usize| wanted[i] - wanted[i].floor();
    order.sort_by(|a, b| remainder(*b).total_cmp(&remainder(*a)).then(a.cmp(b)));
    let mut left = total.saturating_sub(counts.iter().sum());
    // Heads with a share of nothing are only filled once all others are full.
    while left > 0 {
        let before = left;
        for i in &order {
            if left > 0 && counts[*i] < slots[*i].most {
                counts[*i] += 1;
                left -= 1;
            }
        }
        if left == before {
            break;
        }
    }
    counts
}

/// What happens to a loss when one head keeps more or less, the others as they are.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadCurve {
    /// `(keep ratio of this head, loss)`, by rising ratio; the loss is for instance the negative log-probability of
    /// held-out answers.
    pub points: Vec<(f64, f64)>,
}

impl HeadCurve {
    /// The loss at a ratio, straight between the points and flat beyond them.
    fn at(&self, ratio: f64) -> f64 {
        let after = self.points.partition_point(|(r, _)| *r < ratio);
        match (after.checked_sub(1).map(|i| self.points[i]), self.points.get(after)) {
            (Some((r0, l0)), Some(&(r1, l1))) => l0 + (l1 - l0) * (ratio - r0) / (r1 - r0),
            (Some((_, loss)), None) | (None, Some(&(_, loss))) => loss,
            (None, None) => 0.0,
        }
    }
}

/// Head budgets by greedy exchange (AM, arXiv 2602.16284, non-uniform head budgets): from equal ratios, the head that
/// loses least gives `step` to the head that gains most, as long as the sum of losses falls.
///
/// Curves are first made to fall with the ratio (running minimum from above cut off), since a rise is measurement noise
/// that the exchange would exploit.
///
/// # Errors
///
/// [`Error::Empty`] without curves or points, [`Error::Config`] for ratios outside (0, 1], or `ratio` or `step` that are,
/// or points that do not rise or are not finite.
pub fn exchange(curves: &[Vec<HeadCurve>], ratio: f64, step: f64) -> Result<HeadBudgets> {
    check(curves, ratio, step)?;
    let flat: Vec<HeadCurve> = curves.iter().flatten().map(falling).collect();
    let mut ratios = vec![ratio; flat.len()];
    let most = 100 * flat.len() * (1.0 / step).ceil() as usize;
    for _ in 0..most {
        let gain = |i: usize| flat[i].at(ratios[i]) - flat[i].at((ratios[i] + step).min(1.0));
        let loss = |i: usize| flat[i].at((ratios[i] - step).max(0.0)) - flat[i].at(ratios[i]);
        let taker = (0..flat.len())
            .filter(|i| ratios[*i] + step <= 1.0 + 1e-9)
            .max_by(|a, b| gain(*a).total_cmp(&gain(*b)).then(b.cmp(a)));
        let Some(taker) = taker else { break };
        let giver = (0..flat.len())
            .filter(|i| *i != taker && ratios[*i] - step > 1e-9)
            .min_by(|a, b| loss(*a).total_cmp(&loss(*b)).then(a.cmp(b)));
        let Some(giver) = giver else { break };
        if gain(taker) <= loss(giver) + 1e-12 {
            break;
        }
        ratios[taker] += step;
        ratios[giver] -= step;
    }
    let sum: f64 = ratios.iter().sum();
    let mut shares = ratios.into_iter().map(|ratio| ratio / sum);
    Ok(HeadBudgets {
        shares: curves.iter().map(|layer| shares.by_ref().take(layer.len()).collect()).collect(),
    })
}

fn falling(curve: &HeadCurve) -> HeadCurve {
    let mut lowest = f64::INFINITY;
    let mut points: Vec<(f64, f64)> = curve.points.clone();
    for (_, loss) in &mut points {
        lowest = lowest.min(*loss);
        *loss = lowest;
    }
    HeadCurve { points }
}

fn check(curves: &[Vec<HeadCurve>], ratio: f64, step: f64) -> Result<()> {
    if curves.iter().all(Vec::is_empty) {
        return Err(Error::Empty { arg: "curves" });
    }
    crate::config::ensure(crate::config::is_ratio(ratio), "ratio", ratio, "must be within (0, 1]")?;
    crate::config::ensure(crate::config::is_ratio(step), "step", step, "must be within (0, 1]")?;
    for curve in curves.iter().flatten() {
        if curve.points.is_empty() {
            return Err(Error::Empty { arg: "a curve" });
        }
        let rising = curve.points.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let sound = curve.points.iter().all(|(r, loss)| crate::config::is_ratio(*r) && loss.is_finite());
        let value = format!("{:?}", curve.points);
        crate::config::ensure(
            rising && sound,
            "curve",
            value,
            "must have rising ratios in (0, 1] and finite losses",
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{HeadCurve, Slot, apportion, exchange};

    fn slots(shares: &[f64], least: usize, most: usize) -> Vec<Slot> {
        shares.iter().map(|share| Slot { share: *share, least, most }).collect()
    }

    #[test]
    fn shares_are_kept_and_limits_too() {
        assert_eq!(apportion(&slots(&[1.0, 1.0, 2.0], 1, 100), 40), [10, 10, 20]);
        assert_eq!(apportion(&slots(&[1.0, 1.0, 98.0], 4, 30), 40), [5, 5, 30]);
        assert_eq!(apportion(&slots(&[1.0, 1.0, 1.0], 1, 100), 8), [3, 3, 2]);
        assert_eq!(apportion(&slots(&[0.0, 1.0], 2, 10), 12), [2, 10]);
        assert_eq!(apportion(&slots(&[0.0, 1.0], 2, 10), 15), [5, 10]);
        // Neither below what is protected nor above what there is.
        assert_eq!(apportion(&slots(&[1.0, 1.0], 4, 10), 3), [4, 4]);
        assert_eq!(apportion(&slots(&[1.0, 1.0], 4, 10), 99), [10, 10]);
    }

    #[test]
    fn the_exchange_moves_budget_to_where_it_helps() {
        let flat = HeadCurve { points: vec![(0.01, 0.0), (1.0, 0.0)] };
        let steep = HeadCurve { points: vec![(0.01, 1.0), (0.2, 0.0), (1.0, 0.0)] };
        let found = exchange(&[vec![flat.clone(), steep.clone()], vec![flat, steep]], 0.1, 0.01).unwrap();
        let [[a, b], [c, d]] = [&found.shares[0][..], &found.shares[1][..]].map(|row| [row[0], row[1]]);
        assert!(b > 3.0 * a && d > 3.0 * c, "{found:?}");
        assert!((a + b + c + d - 1.0).abs() < 1e-9);
    }

    #[test]
    fn equal_curves_keep_equal_shares_and_noise_is_not_exploited() {
        let bumpy = HeadCurve { points: vec![(0.05, 0.4), (0.1, 0.1), (0.15, 0.3), (1.0, 0.1)] };
        let found = exchange(&[vec![bumpy.clone(), bumpy]], 0.1, 0.01).unwrap();
        assert_eq!(found.shares, [[0.5, 0.5]]);
    }
}
