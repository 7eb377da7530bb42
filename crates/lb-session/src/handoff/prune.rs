//! Tokens of the chosen passages, each judged behind what was kept before it.

use std::collections::BTreeSet;

use candle_core::Tensor;
use lb_model::KvCache;

use super::likelihood::read;
use super::lines::{Lines, Part};
use super::lingua::PassageOrder;
use super::selective::mean;
use crate::Result;
use crate::context::Reader;

/// What is to be looked at.
#[derive(Clone, Copy)]
pub(super) struct Plan<'a> {
    pub(super) lines: &'a Lines,
    pub(super) passages: &'a [Part],
    /// Numbers of passages, best first.
    pub(super) chosen: &'a [usize],
    pub(super) order: PassageOrder,
    /// Tokens that are judged together.
    pub(super) stretch: usize,
}

/// A token in the order in which the worker gets to read it.
#[derive(Clone, Copy)]
struct Step {
    /// Its number in the text.
    at: usize,
    /// The rank of its passage where it may be left out; the labels and ends of lines may not.
    rank: Option<usize>,
    /// Whether it begins what is kept or left out as a whole.
    opens: bool,
}

/// Template head, and of the chosen passages what is kept within `room` tokens. With `question`, tokens are judged by how much
/// likelier it makes them; passages keep up to `spread` more than the mean the better they are, and less the worse. `cost` grows by what is
/// read.
pub(super) fn pruned(
    reader: Reader<'_>,
    plan: &Plan<'_>,
    (room, spread): (usize, f64),
    question: Option<&str>,
    cost: &mut usize,
) -> Result<Vec<u32>> {
    let context = reader.context;
    let mut tokens = context.head().to_vec();
    let (steps, rates) = plan.shared_out(room, spread);
    if steps.is_empty() {
        return Ok(tokens);
    }
    let mut quota = Quota::of(rates);
    let mut plain = Prefix::begun(reader, context.head())?;
    let mut asked = None;
    if let Some(question) = question {
        let question = context.worker().tokenizer().encode_text(&format!("{question}\n"))?;
        asked = Some(Prefix::begun(reader, &[context.head(), &question].concat())?);
    }
    let mut rest = &steps[..];
    while !rest.is_empty() {
        let mut length = plan.stretch.min(rest.len());
        // What is kept or left out as a whole is judged as a whole.
        while length < rest.len() && !rest[length].opens {
            length += 1;
        }
        let (stretch, later) = rest.split_at(length);
        let read: Vec<u32> = stretch.iter().map(|step| context.text.tokens[step.at]).collect();
        let mut values = plain.nats(reader, &read)?;
        if let Some(asked) = &mut asked {
            let with = asked.nats(reader, &read)?;
            values.iter_mut().zip(with).for_each(|(without, with)| *without -= with);
        }
        let kept = quota.kept(stretch, &values);
        let kept: Vec<u32> = kept.into_iter().map(|index| read[index]).collect();
        plain.goes_on(reader, &kept)?;
        if let Some(asked) = &mut asked {
            asked.goes_on(reader, &kept)?;
        }
        tokens.extend(kept);
        rest = later;
    }
    *cost += plain.read + asked.map_or(0, |asked| asked.read);
    Ok(tokens)
}

impl Plan<'_> {
    /// What is looked at, and the rate of each rank. A passage of which nothing is to be kept does not pay for its line.
    fn shared_out(&self, room: usize, spread: f64) -> (Vec<Step>, Vec<f64>) {
        let mut plan = *self;
        loop {
            let steps = plan.steps();
            let forced = steps.iter().filter(|step| step.rank.is_none()).count();
            let length = |index: &usize| plan.passages[*index].range.len();
            let lengths: Vec<usize> = plan.chosen.iter().map(length).collect();
            let rates = rates(&lengths, room.saturating_sub(forced), spread);
            match rates.iter().position(|rate| *rate <= 0.0) {
                Some(nothing) if nothing > 0 => plan.chosen = &plan.chosen[..nothing],
                _ => return (steps, rates),
            }
        }
    }

    /// Everything that was chosen, in the order in which it is read.
    fn steps(&self) -> Vec<Step> {
        let mut order: Vec<usize> = (0..self.chosen.len()).collect();
        if self.order == PassageOrder::Text {
            order.sort_by_key(|rank| self.chosen[*rank]);
        }
        let mut steps = Vec::new();
        for (number, rank) in order.iter().enumerate() {
            let Part { line, range } = &self.passages[self.chosen[*rank]];
            let of = &self.lines.all[*line];
            let same_line = |other: Option<&usize>| {
                let of_other = |rank: &usize| self.passages[self.chosen[*rank]].line == *line;
                self.order == PassageOrder::Text && other.is_some_and(of_other)
            };
            let fixed = |at: usize| Step { at, rank: None, opens: true };
            if !same_line(number.checked_sub(1).and_then(|before| order.get(before))) {
                steps.extend(of.label.clone().map(fixed));
            }
            let opening: BTreeSet<usize> =
                self.lines.tokens(range).into_iter().map(|part| part.start).collect();
            steps.extend(range.clone().map(|at| Step {
                at,
                rank: Some(*rank),
                opens: opening.contains(&at),
            }));
            if !same_line(order.get(number + 1)) {
                steps.extend(of.end.clone().map(fixed));
            }
        }
        steps
    }
}

/// What was kept so far, read.
struct Prefix {
    cache: KvCache,
    /// Logits behind it.
    last: Tensor,
    /// Tokens that were read, those that were left out counted in.
    read: usize,
}

impl Prefix {
    fn begun(reader: Reader<'_>, tokens: &[u32]) -> Result<Self> {
        let mut cache = reader.context.model().new_cache();
        let last = reader.prefill(tokens, &mut cache)?;
        Ok(Self { cache, last, read: tokens.len() })
    }

    /// -ln p of each of `tokens` behind it; it stays as it is.
    fn nats(&mut self, reader: Reader<'_>, tokens: &[u32]) -> Result<Vec<f64>> {
        self.read += tokens.len();
        Ok(read(reader, tokens, Some(&self.last), &mut self.cache.fork())?.nats)
    }

    fn goes_on(&mut self, reader: Reader<'_>, tokens: &[u32]) -> Result<()> {
        if !tokens.is_empty() {
            self.read += tokens.len();
            self.last = reader.prefill(tokens, &mut self.cache)?;
        }
        Ok(())
    }
}

/// How much of each passage is kept, by rank: a share of its tokens.
///
/// The mean ratio τ, and with n passages τ + spread · (1 - 2 rank / n), cut to 0 and 1 (LongLLMLingua, equation 5); then all are
/// made larger or smaller by one factor, none beyond 1, until together they are `room` tokens.
fn rates(lengths: &[usize], room: usize, spread: f64) -> Vec<f64> {
    let total: usize = lengths.iter().sum();
    let mean = (room as f64 / total.max(1) as f64).min(1.0);
    let count = lengths.len().max(1) as f64;
    let of_rank = |rank: usize| (mean + spread * (1.0 - 2.0 * rank as f64 / count)).clamp(0.0, 1.0);
    let mut rates: Vec<f64> = (0..lengths.len()).map(of_rank).collect();
    // Each round either reaches the room or fills a passage.
    for _ in 0..=lengths.len() {
        let (mut full, mut open) = (0.0, 0.0);
        for (rate, length) in rates.iter().zip(lengths) {
            *(if *rate >= 1.0 { &mut full } else { &mut open }) += rate * *length as f64;
        }
        let wanted = room as f64 - full;
        if wanted < 0.0 {
            // Those that are full have too much as well.
            let factor = room as f64 / (full + open);
            for rate in &mut rates {
                *rate *= factor;
            }
            break;
        }
        if open <= 0.0 || (wanted - open).abs() < 1e-9 {
            break;
        }
        let factor = wanted / open;
        rates.iter_mut().filter(|rate| **rate < 1.0).for_each(|rate| *rate = (*rate * factor).min(1.0));
    }
    rates
}

/// How many tokens may be kept as the text goes on.
struct Quota {
    rates: Vec<f64>,
    due: f64,
    kept: usize,
}

impl Quota {
    fn of(rates: Vec<f64>) -> Self {
        Self { rates, due: 0.0, kept: 0 }
    }

    /// The numbers of what is kept of `stretch`: all that may not be left out, and of each passage what has the greatest mean value,
    /// as long as it is due.
    fn kept(&mut self, stretch: &[Step], values: &[f64]) -> Vec<usize> {
        let mut kept: Vec<usize> =
            (0..stretch.len()).filter(|index| stretch[*index].rank.is_none()).collect();
        let mut from = 0;
        while from < stretch.len() {
            let rank = stretch[from].rank;
            let length = stretch[from..].iter().take_while(|step| step.rank == rank).count();
            let (range, to) = (from..from + length, from + length);
            from = to;
            let Some(rank) = rank else { continue };
            // Rounding must not cost a token.
            self.due += self.rates[rank] * length as f64;
            let mut opens: Vec<usize> = range.filter(|index| stretch[*index].opens).collect();
            opens.push(to);
            let mut parts: Vec<(f64, usize, usize)> =
                opens.windows(2).map(|part| (mean(&values[part[0]..part[1]]), part[0], part[1])).collect();
            parts.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            for (_, first, behind) in parts {
                if (self.kept + behind - first) as f64 <= self.due + 1e-6 {
                    self.kept += behind - first;
                    kept.extend(first..behind);
                }
            }
        }
        kept.sort_unstable();
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::{Quota, Step, rates};

    #[test]
    fn rates_make_the_room_and_fall_with_the_rank() {
        let kept = |rates: &[f64], lengths: &[usize]| -> f64 {
            rates.iter().zip(lengths).map(|(rate, length)| rate * *length as f64).sum()
        };
        for (lengths, room, spread) in [
            (vec![10, 20, 30], 30, 0.0),
            (vec![10, 20, 30], 30, 0.3),
            (vec![5; 8], 4, 0.9),
            (vec![5; 8], 39, 0.5),
        ] {
            let rates = rates(&lengths, room, spread);
            assert!((kept(&rates, &lengths) - room as f64).abs() < 1e-6, "{rates:?}");
            assert!(rates.iter().all(|rate| (0.0..=1.0).contains(rate)), "{rates:?}");
            assert!(rates.windows(2).all(|pair| pair[0] >= pair[1] - 1e-9), "{rates:?}");
        }
        // By hand: two passages of ten, the mean a half, 0.3 above and as it is; one factor makes 13 of them 10.
        let two = rates(&[10, 10], 10, 0.3);
        assert!((two[0] - 0.8 / 1.3).abs() < 1e-9 && (two[1] - 0.5 / 1.3).abs() < 1e-9, "{two:?}");
        assert_eq!(rates(&[10], 20, 0.3), [1.0]);
        // One that would be full has room for a half.
        assert_eq!(rates(&[10], 5, 0.9), [0.5]);
        assert!(rates(&[], 20, 0.3).is_empty());
    }

    #[test]
    fn what_is_due_is_kept_and_what_is_fixed_stays() {
        let step = |rank: Option<usize>, opens: bool| Step { at: 0, rank, opens };
        let stretch = [
            step(None, true),
            step(Some(0), true),
            step(Some(0), true),
            step(Some(0), false),
            step(Some(0), true),
            step(None, true),
        ];
        let values = [0.0, 1.0, 9.0, 3.0, 2.0, 0.0];
        // Two of four are due: the character of two tokens has a mean of six.
        assert_eq!(Quota::of(vec![0.5]).kept(&stretch, &values), [0, 2, 3, 5]);
        // One is due: the character does not fit, the next best does; what is left over is not lost.
        let mut quota = Quota::of(vec![0.375]);
        assert_eq!(quota.kept(&stretch, &values), [0, 4, 5]);
        assert_eq!(quota.kept(&stretch, &values), [0, 2, 3, 5]);
    }
}
