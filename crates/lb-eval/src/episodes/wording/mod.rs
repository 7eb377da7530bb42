//! Every sentence pattern of the episodes, training and held-out apart.
//!
//! `{e}` is the subject, `{v}` the value, `{n}` a part number, `{s}` a statement, `{old}` a value that was
//! corrected, `{a}`, `{b}`, `{c}` items to compare. No pattern stands in both columns (a test checks it), and
//! the words of the held-out column all occur in training: a pattern is new, its vocabulary is not.

mod questions;
mod statements;

use super::Split;
use super::world::Relation;

pub(super) use questions::question;
pub(super) use statements::statement;

/// One family of patterns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wording {
    pub(super) train: &'static [&'static str],
    pub(super) held_out: &'static [&'static str],
}

impl Wording {
    pub(super) fn of(&self, split: Split) -> &'static [&'static str] {
        match split {
            Split::Train => self.train,
            Split::HeldOut => self.held_out,
        }
    }
}

macro_rules! wording {
    ([$($t:expr),* $(,)?], [$($h:expr),* $(,)?]) => { Wording { train: &[$($t),*], held_out: &[$($h),*] } };
}
use wording;

/// Two hops: the item's keeper's base.
pub(super) const KEEPER_BASE: Wording = wording!(
    [
        "Where does the keeper of {e} work?",
        "Where is the keeper of {e} based?",
        "In which place does the keeper of {e} work?",
        "Name the base of the keeper of {e}.",
        "Where does the person who keeps {e} work?",
        "Tell me where the keeper of {e} works."
    ],
    [
        "Where is the office of the keeper of {e}?",
        "Tell me the base of the keeper of {e}.",
        "Where is the person who keeps {e} based?"
    ]
);

/// Two hops: an attribute of the item that another item points to.
pub(super) fn linked(relation: Relation) -> Wording {
    match relation {
        Relation::Code => wording!(
            [
                "What is the code of the item that {e} points to?",
                "Which code opens the item that {e} refers to?",
                "Name the code of the item that {e} is linked to.",
                "{e} points to an item: what is its code?"
            ],
            [
                "Tell me the code of the item that {e} points to.",
                "Which code opens the item that {e} is linked to?"
            ]
        ),
        Relation::Place => wording!(
            [
                "Where is the item that {e} points to?",
                "What is the location of the item that {e} refers to?",
                "Where is the item stored that {e} is linked to?",
                "{e} points to an item: where is it?"
            ],
            ["Tell me the location of the item that {e} points to.", "Where is the item that {e} refers to?"]
        ),
        _ => wording!(
            [
                "Who keeps the item that {e} points to?",
                "Who is the keeper of the item that {e} refers to?",
                "Name the keeper of the item that {e} is linked to.",
                "{e} points to an item: who keeps it?"
            ],
            [
                "Tell me the keeper of the item that {e} points to.",
                "Who keeps the item that {e} is linked to?"
            ]
        ),
    }
}

/// Two hops backwards: an attribute of the one item that a person keeps.
pub(super) fn kept(relation: Relation) -> Wording {
    match relation {
        Relation::Code => wording!(
            [
                "What is the code of the item kept by {e}?",
                "Which code opens the item that {e} keeps?",
                "Name the code of the item in the care of {e}."
            ],
            ["Tell me the code of the item that {e} keeps.", "Which code opens the item kept by {e}?"]
        ),
        _ => wording!(
            [
                "Where is the item kept by {e}?",
                "What is the location of the item that {e} keeps?",
                "Where is the item in the care of {e} stored?"
            ],
            ["Tell me the location of the item that {e} keeps.", "Where is the item that {e} keeps?"]
        ),
    }
}

/// How many items have a status.
pub(super) const COUNT: Wording = wording!(
    [
        "How many items are {v}?",
        "How many of the items are {v}?",
        "Count the items that are {v}.",
        "What is the number of items that are {v}?",
        "How many items are listed as {v}?",
        "Name the number of {v} items."
    ],
    ["Tell me how many items are {v}.", "How many {v} items are listed?", "What is the number of {v} items?"]
);

/// Which of two items is rated higher.
pub(super) const HIGHER: Wording = wording!(
    [
        "Which is rated higher, {a} or {b}?",
        "Which has the higher rating, {a} or {b}?",
        "Of {a} and {b}, which is rated higher?",
        "Name the one that is rated higher, {a} or {b}."
    ],
    ["Which of {a} and {b} is rated higher?", "Of {a} and {b}, which has the higher rating?"]
);

/// Which of two items is rated lower.
pub(super) const LOWER: Wording = wording!(
    [
        "Which is rated lower, {a} or {b}?",
        "Which has the lower rating, {a} or {b}?",
        "Of {a} and {b}, which is rated lower?",
        "Name the one that is rated lower, {a} or {b}."
    ],
    ["Which of {a} and {b} is rated lower?", "Of {a} and {b}, which has the lower rating?"]
);

/// Which of three items is rated highest.
pub(super) const HIGHEST: Wording = wording!(
    [
        "Which is rated highest, {a}, {b} or {c}?",
        "Which has the highest rating, {a}, {b} or {c}?",
        "Of {a}, {b} and {c}, which is rated highest?"
    ],
    ["Which of {a}, {b} and {c} is rated highest?", "Of {a}, {b} and {c}, which has the highest rating?"]
);

/// What stands before a confirmed finding.
pub(super) const FINDING: Wording = wording!(
    [
        "{s}",
        "{s}",
        "{s}",
        "part {n}: {s}",
        "it turns out that {s}",
        "confirmed: {s}",
        "note: {s}",
        "part {n} says that {s}",
        "we now know that {s}",
        "part {n} shows that {s}"
    ],
    ["{s}", "part {n} says: {s}", "now confirmed: {s}", "part {n} confirmed that {s}"]
);

/// A guess; what it states never counts.
pub(super) const HYPOTHESIS: Wording = wording!(
    [
        "perhaps {s}",
        "hypothesis: {s}",
        "maybe {s}",
        "it could be that {s}",
        "a guess: {s}",
        "not confirmed: {s}",
        "the hypothesis is that {s}"
    ],
    ["a hypothesis: {s}", "perhaps it could be that {s}", "maybe, not confirmed: {s}"]
);

/// A branch that was given up; what it states never counts.
pub(super) const REJECTED: Wording = wording!(
    [
        "rejected: {s}",
        "ruled out: {s}",
        "it is not true that {s}",
        "wrong branch: {s}",
        "we ruled out that {s}",
        "dead end: {s}",
        "it proved wrong that {s}"
    ],
    ["not true: {s}", "we rejected that {s}", "proved wrong: {s}"]
);

/// A correction; the last one counts.
pub(super) const CORRECTION: Wording = wording!(
    [
        "correction: {s}",
        "correction: {s}, not {old}",
        "update: {s}",
        "later: {s}, not {old}",
        "on a second look {s}",
        "the note was wrong: {s}",
        "update: {s}, not {old}",
        "corrected: {s}"
    ],
    [
        "later correction: {s}",
        "second look: {s}, not {old}",
        "update, corrected: {s}",
        "on a second look {s}, not {old}"
    ]
);

/// Tool output that finds nothing.
pub(super) const TOOL_NOISE: Wording = wording!(
    [
        "grep {e}: no match in part {n}",
        "read part {n}: nothing new",
        "open part {n}: done",
        "scan of part {n}: no new items",
        "read part {n}: done, {n} lines"
    ],
    ["grep {e} in part {n}: nothing", "scan of part {n}: done", "open part {n}: {n} lines, nothing new"]
);

/// The orchestrator thinking aloud.
pub(super) const REASONING_NOISE: Wording = wording!(
    [
        "next comes part {n}",
        "part {n} was a dead end",
        "{e} is only named in part {n}",
        "back to part {n}",
        "part {n} has nothing new on {e}",
        "look at part {n} next",
        "there is no more on {e}"
    ],
    ["next, back to part {n}", "there is nothing new in part {n}", "look for {e} in part {n} next"]
);

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn all() -> Vec<Wording> {
        use Relation::{Base, Code, Keeper, Link, Place, Rating, Status};
        let relations = [Keeper, Place, Code, Status, Rating, Link, Base];
        let mut all: Vec<Wording> = relations.iter().flat_map(|&r| [statement(r), question(r)]).collect();
        all.extend([KEEPER_BASE, linked(Code), linked(Place), linked(Keeper), kept(Code), kept(Place)]);
        all.extend([COUNT, HIGHER, LOWER, HIGHEST, HYPOTHESIS, REJECTED, CORRECTION]);
        all.extend([TOOL_NOISE, REASONING_NOISE]);
        all
    }

    #[test]
    fn no_pattern_is_in_both_splits() {
        let train: HashSet<&str> = all().iter().flat_map(|w| w.train).copied().collect();
        for wording in all() {
            for pattern in wording.held_out {
                assert!(!train.contains(pattern), "{pattern}");
            }
        }
        // A bare statement is no pattern of its own.
        let framed = |side: &'static [&str]| side.iter().filter(|p| **p != "{s}").collect::<HashSet<_>>();
        assert!(framed(FINDING.train).is_disjoint(&framed(FINDING.held_out)));
    }

    #[test]
    fn held_out_patterns_use_words_of_training() {
        let words = |side: fn(&Wording) -> &'static [&'static str]| -> HashSet<String> {
            let patterns: Vec<&str> = all().iter().chain([&FINDING]).flat_map(side).copied().collect();
            let text = patterns.join(" ").to_lowercase();
            text.split(|c: char| !c.is_alphabetic()).map(str::to_owned).collect()
        };
        let unknown: Vec<String> = words(|w| w.held_out).difference(&words(|w| w.train)).cloned().collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }
}
