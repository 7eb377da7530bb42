//! ROUGE-L as LongBench v1 computes it: summary level, on sets of words, by the Python package `rouge` 1.0.
//!
//! That is not Lin's ROUGE-L of the usual packages, so no crate has it: sentences end at full stops, words are compared as
//! they are, and repeated words count once, in the lengths as in the longest common subsequence.

use std::collections::HashSet;

fn sentences(text: &str) -> Vec<Vec<&str>> {
    text.split('.').filter(|s| !s.is_empty()).map(|s| s.split_whitespace().collect()).collect()
}

/// F1 of the union of the longest common subsequences; 0 where either side has no sentence.
pub(super) fn rouge_l(prediction: &str, truth: &str) -> f64 {
    let (predicted, wanted) = (sentences(prediction), sentences(truth));
    if prediction.is_empty() || truth.is_empty() || predicted.is_empty() || wanted.is_empty() {
        return 0.0;
    }
    let mut union: HashSet<&str> = HashSet::new();
    for sentence in &wanted {
        for other in &predicted {
            union.extend(common(sentence, other));
        }
    }
    let distinct = |sentences: &[Vec<&str>]| {
        // A sentence of white space alone is one empty word there.
        let words = sentences.iter().flat_map(|s| if s.is_empty() { vec![""] } else { s.clone() });
        words.collect::<HashSet<_>>().len() as f64
    };
    if [&predicted, &wanted].iter().all(|side| side.iter().any(Vec::is_empty)) {
        union.insert("");
    }
    let (recall, precision) =
        (union.len() as f64 / distinct(&wanted), union.len() as f64 / distinct(&predicted));
    2.0 * precision * recall / (precision + recall + 1e-8)
}

/// The words of one longest common subsequence; among equals the one that the package finds.
fn common<'a>(a: &[&'a str], b: &[&str]) -> Vec<&'a str> {
    let width = b.len() + 1;
    let mut table = vec![0_u32; (a.len() + 1) * width];
    for (i, x) in a.iter().enumerate() {
        for (j, y) in b.iter().enumerate() {
            table[(i + 1) * width + j + 1] = if x == y {
                table[i * width + j] + 1
            } else {
                table[i * width + j + 1].max(table[(i + 1) * width + j])
            };
        }
    }
    let (mut i, mut j, mut words) = (a.len(), b.len(), Vec::new());
    while i > 0 && j > 0 {
        if a[i - 1] == b[j - 1] {
            words.push(a[i - 1]);
            (i, j) = (i - 1, j - 1);
        } else if table[(i - 1) * width + j] > table[i * width + j - 1] {
            i -= 1;
        } else {
            j -= 1;
        }
    }
    words
}
