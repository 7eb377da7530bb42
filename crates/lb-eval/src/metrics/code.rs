//! Similarity of a line of code: Ratcliff and Obershelp's, as Python's `difflib` computes it.
//!
//! LongBench v1 asks `fuzzywuzzy` for it, which without an optional package asks `difflib` and rounds to whole percent.
//! The crates with an edit-distance ratio give other figures.

use std::collections::HashMap;

/// `difflib` passes over characters that are frequent in texts of at least this length.
const POPULAR_FROM: usize = 200;

/// Similarity of the first line of the reply that is no comment and no fence to the right line, in whole percent.
pub(super) fn similarity(prediction: &str, truth: &str) -> f64 {
    let lines = prediction.trim_start_matches('\n').split('\n');
    let is_code = |line: &&str| !(line.contains('`') || line.contains('#') || line.contains("//"));
    let line = lines.into_iter().find(is_code).unwrap_or_default();
    if line.is_empty() || truth.is_empty() {
        return 0.0;
    }
    let (a, b): (Vec<char>, Vec<char>) = (line.chars().collect(), truth.chars().collect());
    let ratio = 2.0 * matched(&a, &b) as f64 / (a.len() + b.len()) as f64;
    // Python rounds halves to even.
    (100.0 * ratio).round_ties_even() / 100.0
}

/// Characters in matching blocks.
fn matched(a: &[char], b: &[char]) -> usize {
    let mut places: HashMap<char, Vec<usize>> = HashMap::new();
    for (j, c) in b.iter().enumerate() {
        places.entry(*c).or_default().push(j);
    }
    if b.len() >= POPULAR_FROM {
        places.retain(|_, at| at.len() <= b.len() / 100 + 1);
    }
    let (mut total, mut open) = (0, vec![(0, a.len(), 0, b.len())]);
    while let Some((a_low, a_high, b_low, b_high)) = open.pop() {
        let (i, j, size) = longest(a, b, &places, (a_low, a_high, b_low, b_high));
        if size > 0 {
            total += size;
            open.push((a_low, i, b_low, j));
            open.push((i + size, a_high, j + size, b_high));
        }
    }
    total
}

/// The earliest longest common run in two ranges: its starts and its length.
fn longest(
    a: &[char],
    b: &[char],
    places: &HashMap<char, Vec<usize>>,
    (a_low, a_high, b_low, b_high): (usize, usize, usize, usize),
) -> (usize, usize, usize) {
    let (mut best_i, mut best_j, mut best) = (a_low, b_low, 0);
    let mut runs: HashMap<usize, usize> = HashMap::new();
    for (i, c) in a.iter().enumerate().take(a_high).skip(a_low) {
        let mut next = HashMap::new();
        for &j in places.get(c).into_iter().flatten().filter(|j| (b_low..b_high).contains(*j)) {
            let run = if j > 0 { runs.get(&(j - 1)).copied().unwrap_or(0) + 1 } else { 1 };
            next.insert(j, run);
            if run > best {
                (best_i, best_j, best) = (i + 1 - run, j + 1 - run, run);
            }
        }
        runs = next;
    }
    // Popular characters start no run, but they lengthen one.
    while best_i > a_low && best_j > b_low && a[best_i - 1] == b[best_j - 1] {
        (best_i, best_j, best) = (best_i - 1, best_j - 1, best + 1);
    }
    while best_i + best < a_high && best_j + best < b_high && a[best_i + best] == b[best_j + best] {
        best += 1;
    }
    (best_i, best_j, best)
}
