//! Single statements and questions in the words of the held-out split, for tasks that are built line by line.

use std::collections::HashSet;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::lexicon::{NOUNS, NameKind, capitalise, fresh_name, pick};
use super::wording::{self, Wording};
use super::world::{Relation, STATUSES};
use super::{Difficulty, Kind, Line, LineKind, Question, Split, Style, fill};

/// Draws names, states facts, asks questions. No name comes twice.
pub(crate) struct Teller {
    pub(crate) rng: ChaCha8Rng,
    style: Style,
    taken: HashSet<String>,
}

impl Teller {
    pub(crate) fn held_out(rng: ChaCha8Rng) -> Self {
        let style = Style { split: Split::HeldOut, difficulty: Difficulty::Hard, plain: false, focus: None };
        Self { rng, style, taken: HashSet::new() }
    }

    fn name(&mut self, kind: NameKind) -> String {
        fresh_name(kind, self.style.split, None, &mut self.taken, &mut self.rng)
    }

    /// A new item, with its article.
    pub(crate) fn item(&mut self) -> String {
        format!("the {} {}", self.name(NameKind::Item), pick(NOUNS, &mut self.rng))
    }

    /// A new value of a relation.
    pub(crate) fn value(&mut self, relation: Relation) -> String {
        match relation {
            Relation::Keeper => self.name(NameKind::Person),
            Relation::Place | Relation::Base => self.name(NameKind::Place),
            Relation::Code => self.code(),
            Relation::Rating => self.rng.random_range(1..=9).to_string(),
            Relation::Status => self.status(&[]).to_owned(),
            Relation::Link => self.item(),
        }
    }

    /// Four digits that no other code of this teller has, as long as there are such.
    fn code(&mut self) -> String {
        const DRAWS: usize = 100;
        for _ in 0..DRAWS {
            let code = self.rng.random_range(1000..10_000).to_string();
            if self.taken.insert(code.clone()) {
                return code;
            }
        }
        self.rng.random_range(1000..10_000).to_string()
    }

    /// A status that is not among `but`.
    pub(crate) fn status(&mut self, but: &[&str]) -> &'static str {
        let others: Vec<&'static str> = STATUSES.iter().copied().filter(|s| !but.contains(s)).collect();
        others.get(self.rng.random_range(0..others.len().max(1))).copied().unwrap_or(STATUSES[0])
    }

    /// The statuses that a line names.
    pub(crate) fn statuses_in(line: &str) -> Vec<&'static str> {
        let words: Vec<&str> = line.split(|c: char| !c.is_alphabetic()).collect();
        STATUSES.iter().copied().filter(|status| words.contains(status)).collect()
    }

    fn resolved(&mut self, wording: Wording) -> String {
        let pattern = wording::pattern(wording, self.style, &mut self.rng);
        fill(&pattern, &[("n", &self.rng.random_range(1..=9).to_string())])
    }

    fn statement(&mut self, relation: Relation, subject: &str, value: &str) -> String {
        let pattern = wording::statement(relation, self.style, &mut self.rng);
        let pattern = fill(&pattern, &[("n", &self.rng.random_range(1..=9).to_string())]);
        fill(&pattern, &[("e", subject), ("v", value)])
    }

    /// A line that states a fact.
    pub(crate) fn state(&mut self, relation: Relation, subject: &str, value: &str) -> Line {
        let statement = self.statement(relation, subject, value);
        let source = if relation == Relation::Status { LineKind::Tool } else { LineKind::Finding };
        let text = fill(&self.resolved(wording::FINDING), &[("s", &statement)]);
        Line { source, text: capitalise(&format!("{text}.")) }
    }

    /// A line that corrects one.
    pub(crate) fn correct(&mut self, relation: Relation, subject: &str, value: &str, old: &str) -> Line {
        let statement = self.statement(relation, subject, value);
        let text = fill(&self.resolved(wording::CORRECTION), &[("s", &statement), ("old", old)]);
        Line { source: LineKind::Finding, text: capitalise(&format!("{text}.")) }
    }

    /// A line that states nothing.
    pub(crate) fn noise(&mut self, subject: &str) -> Line {
        let (source, wording) = if self.rng.random_bool(0.5) {
            (LineKind::Tool, wording::TOOL_NOISE)
        } else {
            (LineKind::Reasoning, wording::REASONING_NOISE)
        };
        let text = fill(&self.resolved(wording), &[("e", subject)]);
        Line { source, text: capitalise(&format!("{text}.")) }
    }

    /// Asks for one fact.
    pub(crate) fn ask(&mut self, kind: Kind, relation: Relation, subject: &str, answer: &str) -> Question {
        let pattern = wording::question(relation, self.style, &mut self.rng);
        question(kind, relation, &fill(&pattern, &[("e", subject)]), answer)
    }

    /// Asks where the keeper of `phrase` works.
    pub(crate) fn ask_base_of_keeper(&mut self, phrase: &str, answer: &str) -> Question {
        let text = fill(&self.resolved(wording::KEEPER_BASE), &[("e", phrase)]);
        question(Kind::TwoHop, Relation::Base, &text, answer)
    }

    /// Asks how many items have a status.
    pub(crate) fn ask_count(&mut self, status: &str, answer: usize) -> Question {
        let text = fill(&self.resolved(wording::COUNT), &[("v", status)]);
        question(Kind::Count, Relation::Status, &text, &answer.to_string())
    }
}

fn question(kind: Kind, relation: Relation, text: &str, answer: &str) -> Question {
    Question {
        kind,
        difficulty: Difficulty::Hard,
        text: capitalise(text),
        answer: answer.trim_start_matches("the ").to_owned(),
        relation,
        choices: Vec::new(),
        steps: Vec::new(),
    }
}
