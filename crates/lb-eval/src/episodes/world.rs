//! The facts behind one episode: who keeps what, where, under which code, and what was corrected.

use std::collections::HashSet;

use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::lexicon::{NOUNS, NameKind, fresh_name, pick};
use super::{Difficulty, Kind, Style};

/// What a fact says about its subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Relation {
    /// Item -> person.
    Keeper,
    /// Item -> place.
    Place,
    /// Item -> four digits.
    Code,
    /// Item -> sealed, open, damaged, missing or copied.
    Status,
    /// Item -> a digit from 1 to 9.
    Rating,
    /// Item -> item.
    Link,
    /// Person -> place.
    Base,
}

/// The states an item can be in.
pub(super) const STATUSES: &[&str] = &["sealed", "open", "damaged", "missing", "copied"];
/// No more than this many items share a status, so that a count is a small number.
const MAX_COUNT: usize = 5;

/// One fact, with the wrong values that were stated before it, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fact {
    pub(super) subject: String,
    pub(super) relation: Relation,
    pub(super) value: String,
    pub(super) superseded: Vec<String>,
}

/// All facts of an episode.
#[derive(Debug)]
pub(super) struct World {
    pub(super) facts: Vec<Fact>,
    pub(super) style: Style,
    items: Vec<String>,
    keepers: Vec<String>,
    taken: HashSet<String>,
}

impl World {
    /// About `n_facts` facts over a random choice of relations.
    pub(super) fn draw(n_facts: usize, style: Style, rng: &mut ChaCha8Rng) -> Self {
        let mut world = World {
            facts: Vec::with_capacity(n_facts),
            style,
            items: Vec::new(),
            keepers: Vec::new(),
            taken: HashSet::new(),
        };
        let relations = match style.focus {
            Some(kind) => relations_for(kind, rng),
            None => choose_relations(n_facts, rng),
        };
        if relations.contains(&Relation::Status) {
            let share = if relations.len() == 1 { 1 } else { 3 };
            world.add_statuses(n_facts / share, rng);
        }
        let open: Vec<Relation> = relations.into_iter().filter(|r| *r != Relation::Status).collect();
        let mut misses = 0;
        while world.facts.len() < n_facts && misses < 1000 {
            let relation = open.choose(rng).copied().unwrap_or(Relation::Keeper);
            misses += usize::from(!world.add(relation, rng));
        }
        if !style.plain || style.focus == Some(Kind::Corrected) {
            world.correct_some(rng);
        }
        world.facts.shuffle(rng);
        world
    }

    fn add_statuses(&mut self, room: usize, rng: &mut ChaCha8Rng) {
        let mut kinds = STATUSES.to_vec();
        kinds.shuffle(rng);
        let mut left = room;
        for status in kinds.into_iter().take(rng.random_range(1..=3)) {
            let count = rng.random_range(1..=MAX_COUNT).min(left);
            left -= count;
            for _ in 0..count {
                let item = self.new_item(rng);
                self.push(item, Relation::Status, status.to_owned());
            }
        }
    }

    fn add(&mut self, relation: Relation, rng: &mut ChaCha8Rng) -> bool {
        let subject = if relation == Relation::Base { self.person(rng) } else { self.item(rng) };
        if self.value(&subject, relation).is_some() {
            return false;
        }
        let Some(value) = self.fresh_value(&subject, relation, rng) else { return false };
        if relation == Relation::Keeper {
            self.keepers.push(value.clone());
        }
        self.push(subject, relation, value);
        true
    }

    fn push(&mut self, subject: String, relation: Relation, value: String) {
        self.facts.push(Fact { subject, relation, value, superseded: Vec::new() });
    }

    /// The value that counts, if the trajectory states one.
    pub(super) fn value(&self, subject: &str, relation: Relation) -> Option<&Fact> {
        self.facts.iter().find(|f| f.relation == relation && f.subject == subject)
    }

    fn item(&mut self, rng: &mut ChaCha8Rng) -> String {
        if rng.random_bool(0.5)
            && let Some(item) = self.items.choose(rng)
        {
            return item.clone();
        }
        self.new_item(rng)
    }

    fn new_item(&mut self, rng: &mut ChaCha8Rng) -> String {
        // Hard episodes hold names that share their first syllable.
        let near = (self.style.difficulty == Difficulty::Hard && rng.random_bool(0.3))
            .then(|| self.items.choose(rng).cloned())
            .flatten();
        let near = near.as_deref().map(|n| n.trim_start_matches("the "));
        let name = fresh_name(NameKind::Item, self.style.split, near, &mut self.taken, rng);
        let item = format!("the {name} {}", pick(NOUNS, rng));
        self.items.push(item.clone());
        item
    }

    fn person(&mut self, rng: &mut ChaCha8Rng) -> String {
        if rng.random_bool(0.75)
            && let Some(keeper) = self.keepers.choose(rng)
        {
            return keeper.clone();
        }
        fresh_name(NameKind::Person, self.style.split, None, &mut self.taken, rng)
    }

    /// A value that `subject` does not have yet; also used for guesses and for values corrected later.
    pub(super) fn fresh_value(
        &mut self,
        subject: &str,
        relation: Relation,
        rng: &mut ChaCha8Rng,
    ) -> Option<String> {
        Some(match relation {
            Relation::Keeper => {
                if rng.random_bool(0.15)
                    && let Some(keeper) = self.keepers.choose(rng)
                {
                    keeper.clone()
                } else {
                    fresh_name(NameKind::Person, self.style.split, None, &mut self.taken, rng)
                }
            }
            Relation::Place | Relation::Base => {
                fresh_name(NameKind::Place, self.style.split, None, &mut self.taken, rng)
            }
            Relation::Code => format!("{}", rng.random_range(1000..10_000)),
            Relation::Status => pick(STATUSES, rng).to_owned(),
            Relation::Rating => format!("{}", rng.random_range(1..=9)),
            Relation::Link => {
                let others: Vec<&String> = self.items.iter().filter(|i| *i != subject).collect();
                (*others.choose(rng)?).clone()
            }
        })
    }

    fn correct_some(&mut self, rng: &mut ChaCha8Rng) {
        let (share, twice) = match self.style.difficulty {
            Difficulty::Easy => (0.12, 0.0),
            Difficulty::Hard => (0.25, 0.3),
        };
        let share = if self.style.focus == Some(Kind::Corrected) { 0.7 } else { share };
        for i in 0..self.facts.len() {
            let (subject, relation) = (self.facts[i].subject.clone(), self.facts[i].relation);
            if !matches!(relation, Relation::Keeper | Relation::Place | Relation::Code)
                || !rng.random_bool(share)
            {
                continue;
            }
            let rounds = 1 + usize::from(rng.random_bool(twice));
            for _ in 0..rounds {
                if let Some(wrong) = self.fresh_value(&subject, relation, rng)
                    && wrong != self.facts[i].value
                    && !self.facts[i].superseded.contains(&wrong)
                {
                    self.facts[i].superseded.push(wrong);
                }
            }
        }
    }
}

/// Few relations at a time, so that several facts differ only in their subject; short logs hold fewer still.
fn choose_relations(n_facts: usize, rng: &mut ChaCha8Rng) -> Vec<Relation> {
    use Relation::{Base, Code, Keeper, Link, Place, Rating, Status};
    // What belongs together is drawn together: a base is worth most where a keeper leads to it, a link where
    // its target has an attribute.
    let mut groups: Vec<Vec<Relation>> =
        vec![vec![Keeper], vec![Place], vec![Code], vec![Rating], vec![Keeper, Base], vec![Link]];
    groups.shuffle(rng);
    let most = if n_facts <= 3 { 1 } else { (n_facts / 4).clamp(2, 4) };
    let mut chosen: Vec<Relation> = groups.concat();
    chosen.truncate(groups.iter().take(rng.random_range(1..=most)).map(Vec::len).sum());
    if chosen.contains(&Link) && !chosen.iter().any(|r| [Code, Place, Keeper].contains(r)) {
        chosen.extend([Code, Place, Keeper].choose(rng));
    }
    if n_facts > 5 && rng.random_bool(0.5) {
        chosen.push(Status);
    }
    chosen
}

/// Relations that give rise to questions of one kind.
fn relations_for(kind: Kind, rng: &mut ChaCha8Rng) -> Vec<Relation> {
    use Relation::{Base, Code, Keeper, Link, Place, Rating, Status};
    let sets: &[&[Relation]] = match kind {
        Kind::OneHop => &[&[Keeper], &[Place], &[Code], &[Rating], &[Base], &[Link]],
        Kind::TwoHop => &[&[Keeper, Base], &[Link, Code], &[Link, Place], &[Link, Keeper], &[Keeper, Code]],
        Kind::Corrected => &[&[Keeper], &[Place], &[Code]],
        Kind::Count => &[&[Status]],
        Kind::Comparison => &[&[Rating]],
    };
    sets.choose(rng).map(|set| set.to_vec()).unwrap_or_default()
}
