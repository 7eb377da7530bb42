//! A trajectory, which only grows: what enters it, segment by segment.

use std::collections::BTreeMap;

use lb_session::{Segment, Source};

use super::forms::{Form, below};
use super::plan::LeftOut;
use super::state::{self, State};
use super::{Count, Item, ItemKind, ManagerConfig};

/// Decides in which form each segment enters a trajectory. What has entered stays.
#[derive(Clone, Debug, Default)]
pub struct TrajectoryManager {
    config: ManagerConfig,
    spent: usize,
    number: usize,
    /// The last state of each kind.
    states: BTreeMap<String, State>,
    /// Texts that entered whole, by the number of their segment.
    known: BTreeMap<String, usize>,
}

/// A segment as it enters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// What enters; `None` where nothing does.
    pub segment: Option<Segment>,
    /// What was left out, where it does not enter whole.
    pub left_out: Option<LeftOut>,
}

/// Shorter texts are not worth a reference to an earlier one.
const REPEATED_CHARS: usize = 120;

impl TrajectoryManager {
    /// For a trajectory that is empty.
    pub fn new(config: ManagerConfig) -> Self {
        Self { config, ..Self::default() }
    }

    /// Tokens that have entered.
    pub fn spent(&self) -> usize {
        self.spent
    }

    /// Takes in a segment that entered before, as it was then.
    pub(crate) fn restore(&mut self, segment: &Segment, left: Option<&LeftOut>, count: Count<'_>) {
        if let Some(state) = state::of(&segment.text).filter(|_| ItemKind::of(segment) == ItemKind::State) {
            self.states.insert(state.key.clone(), state);
        }
        if left.is_none() {
            self.known.entry(segment.text.clone()).or_insert(self.number);
        }
        self.spent += left.map_or_else(|| count(&segment.text), |left| left.tokens);
        self.number += 1;
    }

    /// The form in which `segment` enters. Without a budget it is whole. States that were there before enter as what changed;
    /// a text that is there already as a reference to it; what is beyond the budget as an excerpt, a pointer, or not at all. What is not
    /// pinned has [`ManagerConfig::low_water`] of the budget. Segments that `admits` refuses are the session's own matter.
    pub fn admit(
        &mut self,
        segment: &Segment,
        admits: &dyn Fn(Source) -> bool,
        count: Count<'_>,
    ) -> Admitted {
        let whole = || Admitted { segment: Some(segment.clone()), left_out: None };
        let Some(budget) = self.config.trajectory_tokens else { return whole() };
        if !admits(segment.source) {
            return whole();
        }
        let number = self.number;
        self.number += 1;
        let item = Item::of(segment, number);
        let pinned = self.config.is_pinned(item.kind);
        let room = if pinned { budget } else { (budget as f64 * self.config.low_water) as usize };
        let room = room.saturating_sub(self.spent);
        let tokens_before = count(&item.text);
        let own = if item.kind == ItemKind::State { state::of(&item.text) } else { None };
        let before = own.as_ref().and_then(|own| Some((own, self.states.get(&own.key)?)));
        let rungs = below(&item, tokens_before, before, &self.config, count);
        let again = self.known.get(&item.text).filter(|_| item.text.len() >= REPEATED_CHARS);
        let again = again
            .map(|first| (format!("segment_{first}"), format!("[again, word by word: segment_{first}]")));
        let again = again.filter(|(_, text)| count(text) <= room);
        let (form, text) = if let Some((_, text)) = &again {
            (Form::Pointer, text.clone())
        } else {
            // A state's difference is as good as the state, whatever room there is.
            let differs =
                rungs.first().filter(|rung| rung.form == Form::Diff && 2 * rung.tokens <= tokens_before);
            let fits = || rungs.iter().find(|rung| rung.tokens <= room);
            match differs.filter(|rung| rung.tokens <= room) {
                Some(rung) => (rung.form, rung.text.clone()),
                None if tokens_before <= room => (Form::Whole, item.text.clone()),
                None => fits().map_or((Form::Gone, String::new()), |rung| (rung.form, rung.text.clone())),
            }
        };
        if let Some(own) = own {
            self.states.insert(own.key.clone(), own);
        }
        if form == Form::Whole {
            self.known.entry(item.text.clone()).or_insert(number);
            self.spent += tokens_before;
            return whole();
        }
        let tokens = if text.is_empty() { 0 } else { count(&text) };
        self.spent += tokens;
        let name = again.map_or(item.name, |(first, _)| first);
        let pointer = Some(name).filter(|_| self.config.pointers);
        let left = LeftOut { index: number, kind: item.kind, pinned, form, tokens_before, tokens, pointer };
        let entered = Segment { text, ..segment.clone() };
        let segment = Some(entered).filter(|entered| !entered.text.is_empty());
        Admitted { segment, left_out: Some(left) }
    }
}
