//! Every sentence pattern of the episodes, training and held-out apart.
//!
//! `{e}` is the subject, `{v}` the value, `{r}` what the relation is called, `{w}` who or what, `{n}` a part number,
//! `{s}` a statement, `{old}` a value that was corrected, `{a}`, `{b}`, `{c}` items to compare. `[one|another]` is a
//! choice. What training draws is never a held-out pattern (it is drawn again, and a test expands them all), and the
//! words of the held-out column all occur in training: a pattern is new, its vocabulary is not.

mod joined;
mod lines;
mod questions;
mod statements;

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

pub(super) use joined::{COUNT, HIGHER, HIGHEST, KEEPER_BASE, LOWER, kept, linked};
pub(super) use lines::{CORRECTION, FINDING, HYPOTHESIS, REASONING_NOISE, REJECTED, TOOL_NOISE};

use super::world::Relation;
use super::{Split, Style};

/// One family of patterns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wording {
    pub(super) train: &'static [&'static str],
    pub(super) held_out: &'static [&'static str],
}

macro_rules! wording {
    ([$($t:expr),* $(,)?], [$($h:expr),* $(,)?]) => { Wording { train: &[$($t),*], held_out: &[$($h),*] } };
}
use wording;

/// A pattern of `family` in this style, its choices made.
pub(super) fn pattern(family: Wording, style: Style, rng: &mut ChaCha8Rng) -> String {
    draw(family, &[], str::to_owned, style, rng)
}

/// A pattern that states a fact.
pub(super) fn statement(relation: Relation, style: Style, rng: &mut ChaCha8Rng) -> String {
    let name = |frame: &str| frame.replace("{r}", statements::noun(relation));
    draw(statements::statement(relation), statements::FRAMES, name, style, rng)
}

/// A pattern that asks for a fact.
pub(super) fn question(relation: Relation, style: Style, rng: &mut ChaCha8Rng) -> String {
    let who = if relation == Relation::Keeper { "who" } else { "what" };
    let name = |frame: &str| frame.replace("{r}", statements::noun(relation)).replace("{w}", who);
    draw(questions::question(relation), questions::FRAMES, name, style, rng)
}

/// Training draws a relation's own patterns and the frames of all relations alike, plain episodes the first pattern.
fn draw(
    family: Wording,
    frames: &[&'static str],
    name: impl Fn(&str) -> String,
    style: Style,
    rng: &mut ChaCha8Rng,
) -> String {
    let first = |patterns: &[&str]| resolve(patterns.first().copied().unwrap_or_default(), |_| 0);
    if style.split == Split::HeldOut {
        return if style.plain { first(family.held_out) } else { (*chosen(family.held_out, rng)).to_owned() };
    }
    if style.plain {
        return first(family.train);
    }
    loop {
        let framed = !frames.is_empty() && rng.random_bool(0.5);
        let pattern =
            if framed { name(chosen(frames, rng)) } else { (*chosen(family.train, rng)).to_owned() };
        let pattern = resolve(&pattern, |choices| rng.random_range(0..choices));
        // A bare statement is no pattern of its own.
        if pattern == "{s}" || !family.held_out.contains(&pattern.as_str()) {
            return pattern;
        }
    }
}

fn chosen<'a>(table: &'a [&'static str], rng: &mut ChaCha8Rng) -> &'a &'static str {
    table.choose(rng).unwrap_or(&"")
}

/// `pattern` with each `[one|another]` replaced by the alternative that `choose` picks among so many.
fn resolve(pattern: &str, mut choose: impl FnMut(usize) -> usize) -> String {
    let mut text = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some((before, (choice, after))) =
        rest.split_once('[').and_then(|(before, tail)| Some((before, tail.split_once(']')?)))
    {
        let alternatives: Vec<&str> = choice.split('|').collect();
        text.push_str(before);
        text.push_str(alternatives[choose(alternatives.len())]);
        rest = after;
    }
    text.push_str(rest);
    // An empty alternative leaves a gap.
    while text.contains("  ") {
        text = text.replace("  ", " ");
    }
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const RELATIONS: [Relation; 7] = [
        Relation::Keeper,
        Relation::Place,
        Relation::Code,
        Relation::Status,
        Relation::Rating,
        Relation::Link,
        Relation::Base,
    ];

    fn all() -> Vec<Wording> {
        use Relation::{Code, Keeper, Place};
        let mut all: Vec<Wording> =
            RELATIONS.iter().flat_map(|&r| [statements::statement(r), questions::question(r)]).collect();
        all.extend([KEEPER_BASE, linked(Code), linked(Place), linked(Keeper), kept(Code), kept(Place)]);
        all.extend([COUNT, HIGHER, LOWER, HIGHEST, FINDING, HYPOTHESIS, REJECTED, CORRECTION]);
        all.extend([TOOL_NOISE, REASONING_NOISE]);
        all
    }

    /// Every way to make the choices of a pattern.
    fn expansions(pattern: &str) -> Vec<String> {
        let Some((before, tail)) = pattern.split_once('[') else { return vec![pattern.to_owned()] };
        let (choice, after) = tail.split_once(']').unwrap();
        choice.split('|').flat_map(|c| expansions(&format!("{before}{c}{after}"))).collect()
    }

    #[test]
    fn training_never_draws_a_held_out_pattern() {
        use rand::SeedableRng;
        let difficulty = super::super::Difficulty::Easy;
        let style = Style { split: Split::Train, difficulty, plain: false, focus: None };
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        // Drawn often enough to meet every frame of every relation many times over.
        let seen: HashSet<String> = (0..4000)
            .flat_map(|_| RELATIONS)
            .flat_map(|r| [statement(r, style, &mut rng), question(r, style, &mut rng)])
            .collect();
        assert!(seen.len() > 600, "{}", seen.len());
        for relation in RELATIONS {
            for family in [statements::statement(relation), questions::question(relation)] {
                for pattern in family.held_out {
                    assert!(!seen.contains(*pattern), "{relation:?}: {pattern}");
                }
            }
        }
    }

    #[test]
    fn families_without_frames_share_no_pattern_between_the_splits() {
        for family in all() {
            let train: HashSet<String> = family.train.iter().flat_map(|p| expansions(p)).collect();
            for pattern in family.held_out.iter().filter(|p| **p != "{s}") {
                // A bare statement is no pattern of its own; a relation's own patterns are kept apart when drawn.
                assert!(!train.contains(*pattern) || pattern.contains("{v}"), "{pattern}");
            }
        }
    }

    #[test]
    fn held_out_patterns_use_words_of_training() {
        let words = |patterns: Vec<String>| -> HashSet<String> {
            let text = patterns.join(" ").to_lowercase();
            text.split(|c: char| !c.is_alphabetic()).map(str::to_owned).collect()
        };
        let frames = statements::FRAMES.iter().chain(questions::FRAMES).flat_map(|p| expansions(p));
        let named = RELATIONS.map(|r| statements::noun(r).to_owned());
        let train = all()
            .iter()
            .flat_map(|w| w.train)
            .flat_map(|p| expansions(p))
            .chain(frames)
            .chain(named)
            .collect();
        let held_out = all().iter().flat_map(|w| w.held_out).map(|p| (*p).to_owned()).collect();
        let unknown: Vec<String> = words(held_out).difference(&words(train)).cloned().collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }

    #[test]
    fn choices_resolve_and_leave_no_gap() {
        assert_eq!(resolve("{v} is [named|given] as [the|] {r}", |n| n - 1), "{v} is given as {r}");
        assert_eq!(resolve("{s}[, not {old}|]", |_| 0), "{s}, not {old}");
        assert_eq!(resolve("{s}[, not {old}|]", |_| 1), "{s}");
    }
}
