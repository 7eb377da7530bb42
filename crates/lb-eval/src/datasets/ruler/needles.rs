//! Numbers under keys, hidden in a text.

use std::collections::HashSet;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::filler::{Stream, insert, key, sentence};
use super::{Draft, Haystack, RulerConfig, RulerTask};

/// Keys or values of the tasks that have several, as in RULER.
const SEVERAL: usize = 4;
const HEAD: &str =
    "Somewhere in this text, numbers are noted under keys. You will be asked for them later.\n";

fn note(key: &str, value: &str) -> String {
    format!("Noted under the key {key} is the number {value}.")
}

fn value(taken: &mut HashSet<String>, rng: &mut ChaCha8Rng) -> String {
    loop {
        let value = rng.random_range(1_000_000..10_000_000).to_string();
        if taken.insert(value.clone()) {
            return value;
        }
    }
}

/// The draft of any length of a task with needles.
pub(super) fn draft(config: &RulerConfig, mut rng: ChaCha8Rng) -> impl FnMut(usize) -> Draft + use<> {
    let (mut keys, mut values) = (HashSet::new(), HashSet::new());
    let (n_keys, n_values) = match config.task {
        RulerTask::MultiKey | RulerTask::MultiQuery => (SEVERAL, 1),
        RulerTask::MultiValue => (1, SEVERAL),
        _ => (1, 1),
    };
    let mut notes: Vec<(String, String)> = Vec::new();
    for _ in 0..n_keys {
        let key = key(&mut keys, &mut rng);
        notes.extend((0..n_values).map(|_| (key.clone(), value(&mut values, &mut rng))));
    }
    let asked = if config.task == RulerTask::MultiKey { 1 } else { notes.len() };
    let depths: Vec<f64> = (0..notes.len())
        .map(|i| {
            let drawn = rng.random_range(0..=40_u8);
            if i == 0 { config.depth.unwrap_or(f64::from(drawn) / 40.0) } else { f64::from(drawn) / 40.0 }
        })
        .collect();
    let needles: Vec<(f64, String)> =
        depths.iter().zip(&notes).map(|(depth, (key, value))| (*depth, note(key, value))).collect();
    let answers: Vec<String> = notes[..asked].iter().map(|(_, value)| value.clone()).collect();
    let mut asked_keys: Vec<&str> = notes[..asked].iter().map(|(key, _)| key.as_str()).collect();
    asked_keys.dedup();
    let question = question(&asked_keys, answers.len());
    let haystack = config.haystack;
    let mut stream = Stream::new(rng);
    move |units| {
        let lines = stream.first(units, |rng| match haystack {
            Haystack::Prose => sentence(rng),
            Haystack::Needles => note(&key(&mut keys, rng), &value(&mut values, rng)),
        });
        Draft {
            context: format!("{HEAD}{}", insert(lines, &needles).join(" ")),
            question: question.clone(),
            answers: answers.clone(),
            depth: Some(depths[0]),
        }
    }
}

fn question(keys: &[&str], n_answers: usize) -> String {
    match keys {
        [key] if n_answers == 1 => {
            format!("Which number is noted under the key {key}? Answer with the number.")
        }
        [key] => format!("Which numbers are noted under the key {key}? Answer with all of them."),
        keys => {
            format!("Which numbers are noted under the keys {}? Answer with all of them.", keys.join(", "))
        }
    }
}
