//! Values handed on from variable to variable.

use std::collections::HashSet;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::Draft;
use super::filler::{Stream, insert, sentence};

/// Assignments behind the first one, as in RULER.
const HOPS: usize = 4;
/// The chain that is asked for and one more.
const CHAINS: usize = 2;
const HEAD: &str =
    "In this text, variables are given values. Keep track of which variable has which value.\n";

fn name(taken: &mut HashSet<String>, rng: &mut ChaCha8Rng) -> String {
    loop {
        let name: String = (0..5).map(|_| char::from(rng.random_range(b'A'..=b'Z'))).collect();
        if taken.insert(name.clone()) {
            return name;
        }
    }
}

struct Chain {
    value: String,
    names: Vec<String>,
    lines: Vec<(f64, String)>,
}

fn chain(taken: &mut HashSet<String>, depth: Option<f64>, rng: &mut ChaCha8Rng) -> Chain {
    let value = rng.random_range(10_000..100_000).to_string();
    let names: Vec<String> = (0..=HOPS).map(|_| name(taken, rng)).collect();
    // In order, so that no name is used before it has a value.
    let mut depths: Vec<f64> = names.iter().map(|_| rng.random()).collect();
    depths.sort_by(f64::total_cmp);
    if let Some(first) = depth {
        // The chain begins at the depth that was asked for; the rest follows behind.
        for place in &mut depths {
            *place = first + *place * (1.0 - first);
        }
        depths[0] = first;
    }
    let lines = names.iter().enumerate().map(|(i, name)| match i.checked_sub(1) {
        None => format!("Let {name} = {value}."),
        Some(before) => format!("Let {name} = {}.", names[before]),
    });
    let lines = depths.iter().copied().zip(lines).collect();
    Chain { value, names, lines }
}

/// The draft of any length.
pub(super) fn draft(depth: Option<f64>, mut rng: ChaCha8Rng) -> impl FnMut(usize) -> Draft + use<> {
    let mut taken = HashSet::new();
    let asked = chain(&mut taken, depth, &mut rng);
    let mut needles = asked.lines.clone();
    for _ in 1..CHAINS {
        let mut other = chain(&mut taken, None, &mut rng);
        while other.value == asked.value {
            other = chain(&mut taken, None, &mut rng);
        }
        needles.extend(other.lines);
    }
    let question = format!("Which variables have the value {}? Answer with all of their names.", asked.value);
    let mut stream = Stream::new(rng);
    move |units| {
        let lines = stream.first(units, sentence);
        Draft {
            context: format!("{HEAD}{}", insert(lines, &needles).join(" ")),
            question: question.clone(),
            answers: asked.names.clone(),
            depth: Some(asked.lines[0].0),
        }
    }
}
