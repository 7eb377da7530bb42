//! Which item is shown in which form.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::forms::{Form, Rung, below};
use super::state::{self, State};
use super::{Count, Item, ItemKind, ManagerConfig};
use crate::{Error, Result};

/// A history within its budget.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Managed {
    /// Tokens of everything, whole.
    pub tokens_before: usize,
    /// Tokens of what is kept, at most the budget.
    pub tokens: usize,
    /// The budget.
    pub budget: usize,
    /// What is shown, in order; items that are gone are not among it.
    pub kept: Vec<Kept>,
    /// What is not whole, in order.
    pub left_out: Vec<LeftOut>,
}

/// An item as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Its number.
    pub index: usize,
    /// Its text.
    pub text: String,
}

/// An item that is not shown whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Its number.
    pub index: usize,
    /// What it is.
    pub kind: ItemKind,
    /// Whether it is of a kind that is pinned.
    pub pinned: bool,
    /// How it is shown.
    pub form: Form,
    /// Its tokens.
    pub tokens_before: usize,
    /// Tokens of what is shown.
    pub tokens: usize,
    /// What code finds it by, where it can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
}

/// Brings `items` within `budget` tokens, as `count` counts them. What fits stays as it is. Otherwise items step down their
/// forms until `share` of the budget is reached: those that are neither pinned nor among the last `window`, the least first. Where
/// that is not enough, the others follow until the budget itself is kept: the window's, then what is pinned.
///
/// # Errors
/// [`Error::Config`] where the protected items alone are beyond the budget.
pub fn plan(items: &[Item], budget: usize, config: &ManagerConfig, count: Count<'_>) -> Result<Managed> {
    let counts: Vec<usize> = items.iter().map(|item| count(&item.text)).collect();
    let mut made = Planner::new(items, counts, config, count);
    made.settle(budget, budget)?;
    Ok(made.managed(budget))
}

/// Items on their way down.
pub(super) struct Planner<'a> {
    items: &'a [Item],
    whole: Vec<usize>,
    states: Vec<Option<State>>,
    config: &'a ManagerConfig,
    count: Count<'a>,
    ladders: BTreeMap<usize, Vec<Rung>>,
    /// How far down each item is; 0 is whole.
    pub(super) steps: Vec<usize>,
}

impl<'a> Planner<'a> {
    pub(super) fn new(
        items: &'a [Item],
        whole: Vec<usize>,
        config: &'a ManagerConfig,
        count: Count<'a>,
    ) -> Self {
        let states =
            items.iter().map(|item| if item.kind == ItemKind::State { state::of(&item.text) } else { None });
        let (states, steps) = (states.collect(), vec![0; items.len()]);
        Self { items, whole, states, config, count, ladders: BTreeMap::new(), steps }
    }

    fn ladder(&mut self, index: usize) -> &[Rung] {
        if !self.ladders.contains_key(&index) {
            let own = self.states[index].as_ref();
            let same = |own: &State| {
                self.states[..index].iter().rev().flatten().find(|state| state.key == own.key).cloned()
            };
            let earlier = own.and_then(same);
            let before = own.zip(earlier.as_ref());
            let made = below(&self.items[index], self.whole[index], before, self.config, self.count);
            self.ladders.insert(index, made);
        }
        &self.ladders[&index]
    }

    fn tokens_of(&mut self, index: usize) -> usize {
        match self.steps[index] {
            0 => self.whole[index],
            step => {
                let ladder = self.ladder(index);
                ladder.get(step.min(ladder.len()) - 1).map_or(0, |rung| rung.tokens)
            }
        }
    }

    pub(super) fn total(&mut self) -> usize {
        (0..self.items.len()).map(|index| self.tokens_of(index)).sum()
    }

    /// Steps items down until all have at most `budget` tokens; once one has to, as far as `target` where that costs nothing
    /// that is pinned or recent.
    pub(super) fn settle(&mut self, budget: usize, target: usize) -> Result<()> {
        let mut total = self.total();
        if total <= budget {
            return Ok(());
        }
        let recent = self.items.len().saturating_sub(self.config.window);
        let free = (0..self.items.len()).filter(|index| !self.items[*index].protected);
        let (pinned, loose): (Vec<_>, Vec<_>) =
            free.partition(|index| self.config.is_pinned(self.items[*index].kind));
        let (late, early): (Vec<_>, Vec<_>) = loose.into_iter().partition(|index| *index >= recent);
        for (group, goal) in [(early, target), (late, budget), (pinned, budget)] {
            total = self.lower(group, goal, total);
        }
        if total > budget {
            let reason = "less than what must not be left out takes (the system prompt, the question)";
            return Err(Error::config("context budget", budget, reason));
        }
        Ok(())
    }

    /// Form by form, the least item first.
    fn lower(&mut self, mut group: Vec<usize>, goal: usize, mut total: usize) -> usize {
        let n = self.items.len();
        group.sort_by(|a, b| self.lasts(*a, n).total_cmp(&self.lasts(*b, n)).then(a.cmp(b)));
        for form in [Form::Diff, Form::Excerpt, Form::Pointer, Form::Gone] {
            for &index in &group {
                if total <= goal {
                    return total;
                }
                let (step, before) = (self.steps[index], self.tokens_of(index));
                let ladder = self.ladder(index);
                // As far down as this form goes.
                let down = ladder.iter().take_while(|rung| rung.form <= form).count();
                if down > step {
                    self.steps[index] = down;
                    total = total - before + self.tokens_of(index);
                }
            }
        }
        total
    }

    /// How long an item lasts: the higher, the longer. With decay a draw of the seed and its number, weighted by its kind and its age.
    fn lasts(&self, index: usize, n: usize) -> f64 {
        let weight = self.config.weight(self.items[index].kind);
        if self.config.half_life == 0.0 {
            return weight;
        }
        let age = (n - 1 - index) as f64 / self.config.half_life;
        // u^(1/w) in logarithms: ln(-ln u) - ln w, turned round. Only ln w depends on the age, and for all alike.
        let draw = uniform(self.config.seed, index as u64);
        weight.ln() - age * std::f64::consts::LN_2 - (-draw.ln()).ln()
    }

    pub(super) fn managed(&mut self, budget: usize) -> Managed {
        let mut made = Managed { budget, tokens_before: self.whole.iter().sum(), ..Managed::default() };
        for (index, item) in self.items.iter().enumerate() {
            let tokens = self.tokens_of(index);
            made.tokens += tokens;
            let step = self.steps[index];
            if step == 0 {
                made.kept.push(Kept { index, text: item.text.clone() });
                continue;
            }
            let (tokens_before, pinned) = (self.whole[index], self.config.is_pinned(item.kind));
            let pointer = Some(item.name.clone()).filter(|_| self.config.pointers);
            let Some(rung) = self.ladder(index).get(step - 1) else { continue };
            let (form, text) = (rung.form, rung.text.clone());
            if form != Form::Gone {
                made.kept.push(Kept { index, text });
            }
            made.left_out.push(LeftOut {
                index,
                kind: item.kind,
                pinned,
                form,
                tokens_before,
                tokens,
                pointer,
            });
        }
        made
    }
}

/// A number above 0 and below 1 that depends on the seed and the item alone (SplitMix64).
fn uniform(seed: u64, item: u64) -> f64 {
    let mut z = seed.wrapping_add(item.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    ((z >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}
