//! Metrics on words and numbers: LongBench v1's and RULER's.
//!
//! Definitions: `metrics.py` of `THUDM/LongBench`, `scripts/eval/synthetic/constants.py` of `NVIDIA/RULER`. Oddities that
//! decide figures are kept and named here.

use std::collections::HashMap;

/// SQuAD's normalisation: small letters, no ASCII punctuation, no articles, single spaces.
pub(crate) fn normalise(text: &str) -> Vec<String> {
    let plain: String = text.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    // An article is one where a word begins and ends, and words are letters, digits and `_`.
    let mut out = String::with_capacity(plain.len());
    let mut word = String::new();
    let flush = |word: &mut String, out: &mut String| {
        out.push_str(if matches!(word.as_str(), "a" | "an" | "the") { " " } else { word });
        word.clear();
    };
    for c in plain.chars() {
        if c.is_alphanumeric() || c == '_' {
            word.push(c);
        } else {
            flush(&mut word, &mut out);
            out.push(c);
        }
    }
    flush(&mut word, &mut out);
    out.split_whitespace().map(str::to_owned).collect()
}

pub(super) fn f1(prediction: &[String], truth: &[String]) -> f64 {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for word in truth {
        *counts.entry(word).or_default() += 1;
    }
    let mut same = 0.0;
    for word in prediction {
        if let Some(left) = counts.get_mut(word.as_str()).filter(|left| **left > 0) {
            *left -= 1;
            same += 1.0;
        }
    }
    if same == 0.0 {
        return 0.0;
    }
    let (precision, recall) = (same / prediction.len() as f64, same / truth.len() as f64);
    2.0 * precision * recall / (precision + recall)
}

pub(super) fn qa_f1(prediction: &str, truth: &str) -> f64 {
    f1(&normalise(prediction), &normalise(truth))
}

const CHINESE_PUNCTUATION: &str = "！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､、〃》「」『』【】〔〕〖〗〘〙〚〛〜〝〞〟〰〾〿–—‘’‛“”„‟…‧﹏.";

/// F1 of words that a segmenter has cut, each without punctuation and spaces.
pub(super) fn qa_f1_zh(prediction: &[String], truth: &[String]) -> f64 {
    let clean = |words: &[String]| -> Vec<String> {
        let keep =
            |c: &char| !(c.is_whitespace() || c.is_ascii_punctuation() || CHINESE_PUNCTUATION.contains(*c));
        let words = words.iter().map(|word| word.to_lowercase().chars().filter(keep).collect::<String>());
        words.filter(|word| !word.is_empty()).collect()
    };
    f1(&clean(prediction), &clean(truth))
}

/// One over the number of classes that the reply names, where the right one is among them.
///
/// A class whose name is part of the right one's is taken off the list. The published loop takes it off while it walks
/// the list, and so passes over the one behind it; that is kept.
pub(super) fn classification(prediction: &str, truth: &str, classes: &[String]) -> f64 {
    let mut named: Vec<&str> =
        classes.iter().map(String::as_str).filter(|class| prediction.contains(class)).collect();
    let mut i = 0;
    while let Some(&class) = named.get(i) {
        if truth.contains(class)
            && class != truth
            && let Some(first) = named.iter().position(|c| *c == class)
        {
            named.remove(first);
        }
        i += 1;
    }
    if named.contains(&truth) { 1.0 / named.len() as f64 } else { 0.0 }
}

fn is_digit(c: char) -> bool {
    c.is_ascii_digit() || ('０'..='９').contains(&c)
}

/// Runs of decimal digits.
fn numbers(text: &str) -> Vec<&str> {
    text.split(|c: char| !is_digit(c)).filter(|run| !run.is_empty()).collect()
}

/// Share of `truth` among the numbers of a reply.
pub(super) fn share_of_number(prediction: &str, truth: &str) -> f64 {
    let numbers = numbers(prediction);
    if numbers.is_empty() {
        return 0.0;
    }
    numbers.iter().filter(|n| **n == truth).count() as f64 / numbers.len() as f64
}

/// [`share_of_number`] of the number behind `label` in the right answer.
pub(super) fn retrieval(prediction: &str, truth: &str, label: &str) -> f64 {
    let number = |rest: &str| {
        let end = rest.find(|c: char| !is_digit(c)).unwrap_or(rest.len());
        (end > 0).then(|| rest[..end].to_owned())
    };
    let found = truth.match_indices(label).find_map(|(at, _)| number(&truth[at + label.len()..]));
    found.map_or(0.0, |wanted| share_of_number(prediction, &wanted))
}

/// Share of the references that the reply contains, in any case of letters.
pub(super) fn references(prediction: &str, references: &[String]) -> f64 {
    if references.is_empty() {
        return 0.0;
    }
    let prediction = prediction.to_lowercase();
    let found = references.iter().filter(|r| prediction.contains(&r.to_lowercase())).count();
    found as f64 / references.len() as f64
}
