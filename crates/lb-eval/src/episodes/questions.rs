//! Questions that only the trajectory answers, with their one right answer.

use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::wording::{self, Wording};
use super::world::{Fact, Relation, STATUSES, World};
use super::{Difficulty, Kind, Question, Step, fill};

/// At most `wanted` questions, kinds in turn, no question twice.
pub(super) fn draw(world: &mut World, wanted: usize, rng: &mut ChaCha8Rng) -> Vec<Question> {
    let mut pools: Vec<Vec<Question>> = vec![Vec::new(); Kind::ALL.len()];
    // A lesson asks the same in many ways.
    for _ in 0..if world.style.focus.is_some() { 4 } else { 1 } {
        pools[0].extend(lookups(world, false, rng));
        pools[1].extend(two_hop(world, rng));
        pools[2].extend(lookups(world, true, rng));
        pools[3].extend(counts(world, rng));
        pools[4].extend(comparisons(world, rng));
    }
    let lesson = world.style.focus.or(world.style.plain.then_some(Kind::OneHop));
    if let Some(kind) = lesson
        && pools.iter().flatten().any(|q| q.kind == kind)
    {
        for pool in &mut pools {
            pool.retain(|q| q.kind == kind);
        }
    }
    for pool in &mut pools {
        pool.shuffle(rng);
    }
    let mut questions: Vec<Question> = Vec::new();
    // Which kind comes first changes from episode to episode; short draws stay balanced.
    pools.shuffle(rng);
    while questions.len() < wanted && pools.iter().any(|p| !p.is_empty()) {
        for pool in &mut pools {
            if let Some(question) = pool.pop()
                && questions.len() < wanted
                && questions.iter().all(|q| q.text != question.text)
            {
                questions.push(question);
            }
        }
    }
    for question in &mut questions {
        question.choices = choices(world, question, rng);
    }
    questions
}

fn make(kind: Kind, text: String, answer: &str, relation: Relation, world: &World) -> Question {
    let answer = answer.trim_start_matches("the ").to_owned();
    Question {
        kind,
        difficulty: world.style.difficulty,
        text,
        answer,
        relation,
        choices: Vec::new(),
        steps: Vec::new(),
    }
}

impl Question {
    /// With the entity that joins the two hops as its step.
    fn through(mut self, entity: &str) -> Self {
        let value = entity.trim_start_matches("the ").to_owned();
        self.steps.push(Step { upto: self.text.clone(), value });
        self
    }

    /// With the rating of each item it names as a step.
    fn rated(mut self, facts: &[&Fact]) -> Self {
        for fact in facts {
            let name = fact.subject.trim_start_matches("the ");
            if let Some((before, _)) = self.text.split_once(name) {
                self.steps.push(Step { upto: format!("{before}{name}"), value: fact.value.clone() });
            }
        }
        self
    }
}

fn ask(wording: Wording, world: &World, pairs: &[(&str, &str)], rng: &mut ChaCha8Rng) -> String {
    super::lexicon::capitalise(&fill(&wording::pattern(wording, world.style, rng), pairs))
}

fn lookups(world: &World, corrected: bool, rng: &mut ChaCha8Rng) -> Vec<Question> {
    let kind = if corrected { Kind::Corrected } else { Kind::OneHop };
    let facts = world.facts.iter().filter(|f| f.superseded.is_empty() != corrected);
    facts
        // A status is guessed one time in five; it is asked for seldom.
        .filter(|f| f.relation != Relation::Status || f.subject.len() % 3 == 0)
        .map(|f| {
            let pattern = wording::question(f.relation, world.style, rng);
            let text = super::lexicon::capitalise(&fill(&pattern, &[("e", &f.subject)]));
            make(kind, text, &f.value, f.relation, world)
        })
        .collect()
}

/// In easy episodes both steps of a two-hop question were right the first time.
fn clean(world: &World, facts: &[&Fact]) -> bool {
    world.style.difficulty == Difficulty::Hard || facts.iter().all(|f| f.superseded.is_empty())
}

fn two_hop(world: &World, rng: &mut ChaCha8Rng) -> Vec<Question> {
    let mut found = Vec::new();
    for first in &world.facts {
        let hops: &[Relation] = match first.relation {
            Relation::Keeper => &[Relation::Base],
            Relation::Link => &[Relation::Code, Relation::Place, Relation::Keeper],
            _ => continue,
        };
        for &relation in hops {
            if let Some(second) = world.value(&first.value, relation)
                && clean(world, &[first, second])
            {
                let wording = match relation {
                    Relation::Base => wording::KEEPER_BASE,
                    other => wording::linked(other),
                };
                let text = ask(wording, world, &[("e", &first.subject)], rng);
                found.push(make(Kind::TwoHop, text, &second.value, relation, world).through(&first.value));
            }
        }
        if first.relation == Relation::Keeper && keeps_one(world, &first.value) {
            found.extend(backwards(world, first, rng));
        }
    }
    found
}

/// True where a person was never named as keeper of a second item, not even in a corrected statement.
fn keeps_one(world: &World, person: &String) -> bool {
    let keepers = world.facts.iter().filter(|f| f.relation == Relation::Keeper);
    keepers.filter(|f| f.value == *person || f.superseded.contains(person)).count() == 1
}

fn backwards(world: &World, first: &Fact, rng: &mut ChaCha8Rng) -> Vec<Question> {
    let mut found = Vec::new();
    for relation in [Relation::Code, Relation::Place] {
        if let Some(second) = world.value(&first.subject, relation)
            && clean(world, &[first, second])
        {
            let text = ask(wording::kept(relation), world, &[("e", &first.value)], rng);
            found.push(make(Kind::TwoHop, text, &second.value, relation, world).through(&first.subject));
        }
    }
    found
}

fn counts(world: &World, rng: &mut ChaCha8Rng) -> Vec<Question> {
    let mut found = Vec::new();
    for &status in STATUSES {
        let count =
            world.facts.iter().filter(|f| f.relation == Relation::Status && f.value == status).count();
        if count > 0 {
            let text = ask(wording::COUNT, world, &[("v", status)], rng);
            found.push(make(Kind::Count, text, &count.to_string(), Relation::Status, world));
        }
    }
    found
}

fn comparisons(world: &World, rng: &mut ChaCha8Rng) -> Vec<Question> {
    let mut rated: Vec<&Fact> = world.facts.iter().filter(|f| f.relation == Relation::Rating).collect();
    rated.shuffle(rng);
    let three = world.style.difficulty == Difficulty::Hard && rng.random_bool(0.5);
    let mut found = Vec::new();
    for group in rated.chunks(if three { 3 } else { 2 }) {
        let mut ordered = group.to_vec();
        ordered.sort_by(|x, y| y.value.cmp(&x.value));
        if let ([a, b], [high, low]) = (group, ordered.as_slice())
            && high.value != low.value
        {
            let (wording, winner) = if world.style.plain || rng.random_bool(0.5) {
                (wording::HIGHER, high)
            } else {
                (wording::LOWER, low)
            };
            let text = ask(wording, world, &[("a", &a.subject), ("b", &b.subject)], rng);
            found.push(make(Kind::Comparison, text, &winner.subject, Relation::Rating, world).rated(group));
        }
        if let ([a, b, c], [high, next, _]) = (group, ordered.as_slice())
            && high.value != next.value
        {
            let names = [("a", a.subject.as_str()), ("b", &b.subject), ("c", &c.subject)];
            let text = ask(wording::HIGHEST, world, &names, rng);
            found.push(make(Kind::Comparison, text, &high.subject, Relation::Rating, world).rated(group));
        }
    }
    found
}

/// The answer and three others of its kind, shuffled: values of the episode first, fresh ones after.
fn choices(world: &mut World, question: &Question, rng: &mut ChaCha8Rng) -> Vec<String> {
    let mut others: Vec<String> = match question.kind {
        Kind::Count => (1..=6).map(|n: usize| n.to_string()).collect(),
        Kind::Comparison => world
            .facts
            .iter()
            .filter(|f| f.relation == Relation::Rating)
            .map(|f| f.subject.trim_start_matches("the ").to_owned())
            .collect(),
        _ => world
            .facts
            .iter()
            .filter(|f| f.relation == question.relation)
            .flat_map(|f| f.superseded.iter().chain([&f.value]))
            .map(|v| v.trim_start_matches("the ").to_owned())
            .collect(),
    };
    others.sort();
    others.dedup();
    others.retain(|v| *v != question.answer);
    let mut picked: Vec<String> = others.choose_multiple(rng, 3).cloned().collect();
    while picked.len() < 3 {
        let relation = if question.kind == Kind::Comparison { Relation::Link } else { question.relation };
        let fresh =
            world.fresh_value("", relation, rng).unwrap_or_else(|| format!("none of {}", picked.len()));
        let fresh = fresh.trim_start_matches("the ").to_owned();
        if fresh != question.answer && !picked.contains(&fresh) {
            picked.push(fresh);
        } else if relation == Relation::Link {
            picked.push(format!("none of these ({})", picked.len()));
        }
    }
    picked.push(question.answer.clone());
    picked.shuffle(rng);
    picked
}
