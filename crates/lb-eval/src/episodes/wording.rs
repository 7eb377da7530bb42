//! Every sentence pattern of the episodes, training and held-out apart.
//!
//! `{e}` is the subject, `{v}` the value, `{n}` a part number, `{s}` a statement, `{old}` a value that was
//! corrected, `{a}`, `{b}`, `{c}` items to compare. No pattern stands in both columns (a test checks it), and
//! the words of the held-out column all occur in training: a pattern is new, its vocabulary is not.

use super::Split;
use super::world::Relation;

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

/// How a fact is stated.
pub(super) fn statement(relation: Relation) -> Wording {
    match relation {
        Relation::Keeper => wording!(
            [
                "{e} is kept by {v}", "{v} keeps {e}", "the keeper of {e} is {v}", "{v} is the keeper of {e}",
                "{e} is in the care of {v}", "{v} takes care of {e}", "for {e} the keeper is {v}",
                "keeper of {e}: {v}", "{e} was given to {v} to keep", "{v} is listed as keeper of {e}",
                "{e} has a keeper, {v}", "it is {v} who keeps {e}"
            ],
            ["{e}: kept by {v}", "{e} has {v} as keeper", "as keeper of {e} we have {v}", "it is {v} who takes care of {e}"]
        ),
        Relation::Place => wording!(
            [
                "{e} is stored in {v}", "{v} holds {e}", "{e} lies in {v}", "{e} can be found in {v}",
                "the location of {e} is {v}", "{e} was moved to {v}", "in {v} we found {e}",
                "location of {e}: {v}", "{v} is the location of {e}", "{e} has its place in {v}",
                "{e} was found in {v}", "it is {v} that holds {e}"
            ],
            ["stored in {v}: {e}", "{v} is where {e} lies", "{e} has {v} as location", "as location of {e} we have {v}"]
        ),
        Relation::Code => wording!(
            [
                "the code of {e} is {v}", "{e} has code {v}", "{e} opens with {v}", "code {v} belongs to {e}",
                "{e} carries the code {v}", "code for {e}: {v}", "{v} is the code of {e}",
                "to open {e} use code {v}", "{e} has the code {v}", "with {v} you can open {e}",
                "code of {e}: {v}", "{e} is listed with code {v}"
            ],
            ["{e} carries code {v}", "{v} opens {e}", "as code of {e} we have {v}", "use {v} to open {e}"]
        ),
        Relation::Status => wording!(
            [
                "{e} is {v}", "status of {e}: {v}", "{e} was found {v}", "the scan shows {e} as {v}",
                "{e} is listed as {v}", "scan of {e}: {v}", "the status of {e} is {v}", "{e}: {v}",
                "{v} is the status of {e}"
            ],
            ["{e} has status {v}", "the scan shows {e}: {v}", "as status of {e} we have {v}"]
        ),
        Relation::Rating => wording!(
            [
                "{e} is rated {v}", "the rating of {e} is {v}", "{e} has rating {v}", "{e} scores {v}",
                "rating of {e}: {v}", "{e} gets a rating of {v}", "{e} was given a {v}",
                "rated {v}: {e}", "{e} is listed with rating {v}"
            ],
            ["{v} is the rating of {e}", "{e} has a rating of {v}", "as rating of {e} we have {v}"]
        ),
        Relation::Link => wording!(
            [
                "{e} points to {v}", "{e} refers to {v}", "{e} leads to {v}", "the link in {e} is to {v}",
                "{e} is linked to {v}", "from {e} we are led to {v}", "link of {e}: {v}",
                "the link of {e} points to {v}", "{e} carries a link to {v}"
            ],
            ["{e} has a link to {v}", "from {e} the link leads to {v}", "the link of {e} leads to {v}"]
        ),
        Relation::Base => wording!(
            [
                "{e} works in {v}", "{e} has an office in {v}", "the office of {e} is in {v}", "{e} is based in {v}",
                "{v} is where {e} works", "{e} was sent to work in {v}", "office of {e}: {v}",
                "{v} is the base of {e}", "it is {v} where {e} works"
            ],
            ["{e} has {v} as base", "the base of {e} is {v}", "{v} is where {e} is based"]
        ),
    }
}

/// How a fact is asked for.
pub(super) fn question(relation: Relation) -> Wording {
    match relation {
        Relation::Keeper => wording!(
            [
                "Who keeps {e}?", "Who is the keeper of {e}?", "By whom is {e} kept?", "In whose care is {e}?",
                "Name the keeper of {e}.", "Tell me who keeps {e}.", "{e}: who is the keeper?"
            ],
            ["Who takes care of {e}?", "Tell me the keeper of {e}.", "Who is it that keeps {e}?"]
        ),
        Relation::Place => wording!(
            [
                "Where is {e} stored?", "Where is {e}?", "What is the location of {e}?",
                "In which place does {e} lie?", "Where can {e} be found?", "Name the location of {e}.",
                "Tell me where {e} is.", "Which place holds {e}?"
            ],
            ["Where does {e} lie?", "Tell me the location of {e}.", "In which place is {e} stored?"]
        ),
        Relation::Code => wording!(
            [
                "What is the code of {e}?", "Which code does {e} have?", "Which code opens {e}?",
                "Name the code of {e}.", "With which code does {e} open?", "{e}: what is the code?",
                "Tell me which code {e} has."
            ],
            ["Tell me the code of {e}.", "Which code belongs to {e}?", "Which code is it that {e} carries?"]
        ),
        Relation::Status => wording!(
            ["What is the status of {e}?", "How is {e} listed?", "Name the status of {e}.", "Which status does {e} have?"],
            ["Tell me the status of {e}.", "{e}: what is the status?"]
        ),
        Relation::Rating => wording!(
            ["What is the rating of {e}?", "How is {e} rated?", "Name the rating of {e}.", "Which rating does {e} have?"],
            ["Tell me the rating of {e}.", "{e}: what is the rating?"]
        ),
        Relation::Link => wording!(
            [
                "What does {e} point to?", "To which item does {e} refer?", "Which item is {e} linked to?",
                "Name the item that {e} points to.", "{e}: where does the link lead?"
            ],
            ["Which item does {e} point to?", "Tell me what {e} refers to.", "Where does the link of {e} lead?"]
        ),
        Relation::Base => wording!(
            [
                "Where does {e} work?", "Where is {e} based?", "In which place is the office of {e}?",
                "Name the base of {e}.", "Tell me where {e} works."
            ],
            ["Where is the office of {e}?", "In which place does {e} work?", "Tell me the base of {e}."]
        ),
    }
}

/// Two hops: the item's keeper's base.
pub(super) const KEEPER_BASE: Wording = wording!(
    [
        "Where does the keeper of {e} work?", "Where is the keeper of {e} based?",
        "In which place does the keeper of {e} work?", "Name the base of the keeper of {e}.",
        "Where does the person who keeps {e} work?", "Tell me where the keeper of {e} works."
    ],
    [
        "Where is the office of the keeper of {e}?", "Tell me the base of the keeper of {e}.",
        "Where is the person who keeps {e} based?"
    ]
);

/// Two hops: an attribute of the item that another item points to.
pub(super) fn linked(relation: Relation) -> Wording {
    match relation {
        Relation::Code => wording!(
            [
                "What is the code of the item that {e} points to?", "Which code opens the item that {e} refers to?",
                "Name the code of the item that {e} is linked to.", "{e} points to an item: what is its code?"
            ],
            ["Tell me the code of the item that {e} points to.", "Which code opens the item that {e} is linked to?"]
        ),
        Relation::Place => wording!(
            [
                "Where is the item that {e} points to?", "What is the location of the item that {e} refers to?",
                "Where is the item stored that {e} is linked to?", "{e} points to an item: where is it?"
            ],
            ["Tell me the location of the item that {e} points to.", "Where is the item that {e} refers to?"]
        ),
        _ => wording!(
            [
                "Who keeps the item that {e} points to?", "Who is the keeper of the item that {e} refers to?",
                "Name the keeper of the item that {e} is linked to.", "{e} points to an item: who keeps it?"
            ],
            ["Tell me the keeper of the item that {e} points to.", "Who keeps the item that {e} is linked to?"]
        ),
    }
}

/// Two hops backwards: an attribute of the one item that a person keeps.
pub(super) fn kept(relation: Relation) -> Wording {
    match relation {
        Relation::Code => wording!(
            [
                "What is the code of the item kept by {e}?", "Which code opens the item that {e} keeps?",
                "Name the code of the item in the care of {e}."
            ],
            ["Tell me the code of the item that {e} keeps.", "Which code opens the item kept by {e}?"]
        ),
        _ => wording!(
            [
                "Where is the item kept by {e}?", "What is the location of the item that {e} keeps?",
                "Where is the item in the care of {e} stored?"
            ],
            ["Tell me the location of the item that {e} keeps.", "Where is the item that {e} keeps?"]
        ),
    }
}

/// How many items have a status.
pub(super) const COUNT: Wording = wording!(
    [
        "How many items are {v}?", "How many of the items are {v}?", "Count the items that are {v}.",
        "What is the number of items that are {v}?", "How many items are listed as {v}?", "Name the number of {v} items."
    ],
    ["Tell me how many items are {v}.", "How many {v} items are listed?", "What is the number of {v} items?"]
);

/// Which of two items is rated higher.
pub(super) const HIGHER: Wording = wording!(
    [
        "Which is rated higher, {a} or {b}?", "Which has the higher rating, {a} or {b}?",
        "Of {a} and {b}, which is rated higher?", "Name the one that is rated higher, {a} or {b}."
    ],
    ["Which of {a} and {b} is rated higher?", "Of {a} and {b}, which has the higher rating?"]
);

/// Which of two items is rated lower.
pub(super) const LOWER: Wording = wording!(
    [
        "Which is rated lower, {a} or {b}?", "Which has the lower rating, {a} or {b}?",
        "Of {a} and {b}, which is rated lower?", "Name the one that is rated lower, {a} or {b}."
    ],
    ["Which of {a} and {b} is rated lower?", "Of {a} and {b}, which has the lower rating?"]
);

/// Which of three items is rated highest.
pub(super) const HIGHEST: Wording = wording!(
    [
        "Which is rated highest, {a}, {b} or {c}?", "Which has the highest rating, {a}, {b} or {c}?",
        "Of {a}, {b} and {c}, which is rated highest?"
    ],
    ["Which of {a}, {b} and {c} is rated highest?", "Of {a}, {b} and {c}, which has the highest rating?"]
);

/// What stands before a confirmed finding.
pub(super) const FINDING: Wording = wording!(
    [
        "{s}", "{s}", "{s}", "part {n}: {s}", "it turns out that {s}", "confirmed: {s}", "note: {s}",
        "part {n} says that {s}", "we now know that {s}", "part {n} shows that {s}"
    ],
    ["{s}", "part {n} says: {s}", "now confirmed: {s}", "part {n} confirmed that {s}"]
);

/// A guess; what it states never counts.
pub(super) const HYPOTHESIS: Wording = wording!(
    [
        "perhaps {s}", "hypothesis: {s}", "maybe {s}", "it could be that {s}", "a guess: {s}",
        "not confirmed: {s}", "the hypothesis is that {s}"
    ],
    ["a hypothesis: {s}", "perhaps it could be that {s}", "maybe, not confirmed: {s}"]
);

/// A branch that was given up; what it states never counts.
pub(super) const REJECTED: Wording = wording!(
    [
        "rejected: {s}", "ruled out: {s}", "it is not true that {s}", "wrong branch: {s}",
        "we ruled out that {s}", "dead end: {s}", "it proved wrong that {s}"
    ],
    ["not true: {s}", "we rejected that {s}", "proved wrong: {s}"]
);

/// A correction; the last one counts.
pub(super) const CORRECTION: Wording = wording!(
    [
        "correction: {s}", "correction: {s}, not {old}", "update: {s}", "later: {s}, not {old}",
        "on a second look {s}", "the note was wrong: {s}", "update: {s}, not {old}", "corrected: {s}"
    ],
    ["later correction: {s}", "second look: {s}, not {old}", "update, corrected: {s}", "on a second look {s}, not {old}"]
);

/// Tool output that finds nothing.
pub(super) const TOOL_NOISE: Wording = wording!(
    [
        "grep {e}: no match in part {n}", "read part {n}: nothing new", "open part {n}: done",
        "scan of part {n}: no new items", "read part {n}: done, {n} lines"
    ],
    ["grep {e} in part {n}: nothing", "scan of part {n}: done", "open part {n}: {n} lines, nothing new"]
);

/// The orchestrator thinking aloud.
pub(super) const REASONING_NOISE: Wording = wording!(
    [
        "next comes part {n}", "part {n} was a dead end", "{e} is only named in part {n}", "back to part {n}",
        "part {n} has nothing new on {e}", "look at part {n} next", "there is no more on {e}"
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
