//! From facts to the lines of a log: who says it, how, and in which order.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::lexicon::capitalise;
use super::wording::{self, Wording};
use super::world::{Fact, Relation, World};
use super::{Difficulty, Line, LineKind, fill};

/// All lines of the log, in order.
pub(super) fn narrate(world: &mut World, rng: &mut ChaCha8Rng) -> Vec<Line> {
    // Every line gets a time between 0 and 1; a correction comes after what it corrects.
    let mut timed: Vec<(f64, Line)> = Vec::new();
    let (guesses, noise) = match world.style.difficulty {
        _ if world.style.plain => (0.0, 0.0),
        Difficulty::Easy => (0.08, 0.25),
        Difficulty::Hard => (0.2, 0.3),
    };
    for i in 0..world.facts.len() {
        let fact = world.facts[i].clone();
        tell(&fact, world, &mut timed, rng);
        if asks_one_value(fact.relation) && rng.random_bool(guesses) {
            guess(&fact, world, &mut timed, rng);
        }
        if rng.random_bool(noise) {
            timed.push((rng.random(), noise_line(&fact, world, rng)));
        }
    }
    timed.sort_by(|a, b| a.0.total_cmp(&b.0));
    timed.into_iter().map(|(_, line)| line).collect()
}

/// Guesses about a status or a rating would change what counts and comparisons mean.
fn asks_one_value(relation: Relation) -> bool {
    !matches!(relation, Relation::Status | Relation::Rating)
}

fn state(fact: &Fact, value: &str, world: &World, rng: &mut ChaCha8Rng) -> String {
    let pattern = wording::statement(fact.relation, world.style, rng);
    fill(&with_part(&pattern, rng), &[("e", &fact.subject), ("v", value)])
}

/// `pattern` with its part number.
fn with_part(pattern: &str, rng: &mut ChaCha8Rng) -> String {
    fill(pattern, &[("n", &rng.random_range(1..=9).to_string())])
}

fn sentence(wording: Wording, statement: &str, old: &str, world: &World, rng: &mut ChaCha8Rng) -> String {
    let pattern = with_part(&wording::pattern(wording, world.style, rng), rng);
    capitalise(&format!("{}.", fill(&pattern, &[("s", statement), ("old", old)])))
}

fn tell(fact: &Fact, world: &World, timed: &mut Vec<(f64, Line)>, rng: &mut ChaCha8Rng) {
    let versions: Vec<&String> = fact.superseded.iter().chain([&fact.value]).collect();
    let mut time: f64 = rng.random();
    for (i, value) in versions.iter().enumerate() {
        let statement = state(fact, value, world, rng);
        let line = if i == 0 {
            let source = if fact.relation == Relation::Status { LineKind::Tool } else { LineKind::Finding };
            Line { source, text: sentence(wording::FINDING, &statement, "", world, rng) }
        } else {
            let old = versions[i - 1];
            Line {
                source: LineKind::Finding,
                text: sentence(wording::CORRECTION, &statement, old, world, rng),
            }
        };
        timed.push((time, line));
        time = rng.random_range(time..=1.0);
    }
}

fn guess(fact: &Fact, world: &mut World, timed: &mut Vec<(f64, Line)>, rng: &mut ChaCha8Rng) {
    let Some(wrong) = world.fresh_value(&fact.subject, fact.relation, rng) else { return };
    if wrong == fact.value || fact.superseded.contains(&wrong) {
        return;
    }
    let statement = state(fact, &wrong, world, rng);
    let wording = if rng.random_bool(0.5) { wording::HYPOTHESIS } else { wording::REJECTED };
    let text = sentence(wording, &statement, "", world, rng);
    timed.push((rng.random(), Line { source: LineKind::Reasoning, text }));
}

fn noise_line(fact: &Fact, world: &World, rng: &mut ChaCha8Rng) -> Line {
    let (source, wording) = if rng.random_bool(0.5) {
        (LineKind::Tool, wording::TOOL_NOISE)
    } else {
        (LineKind::Reasoning, wording::REASONING_NOISE)
    };
    let pattern = with_part(&wording::pattern(wording, world.style, rng), rng);
    let text = capitalise(&format!("{}.", fill(&pattern, &[("e", &fact.subject)])));
    Line { source, text }
}
