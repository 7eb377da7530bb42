//! Short answers, as HotpotQA scores them.
//!
//! Definition: `hotpot_evaluate_v1.py` of `hotpotqa/hotpot`; containment is ours.

use serde::{Deserialize, Serialize};

use super::text;

/// What a short answer is worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ShortScore {
    /// Whether it is a right answer, in any case of letters, without punctuation and articles.
    pub exact: bool,
    /// F1 of words, the best over right answers; 0 where only one of the two says yes or no.
    pub f1: f64,
    /// Whether the words of a right answer stand in it, one after the other.
    pub contained: bool,
}

/// The score of a reply against every right answer, the best of each kind.
pub fn short_answer(reply: &str, answers: &[impl AsRef<str>]) -> ShortScore {
    let said = text::normalise(reply);
    let decided = |words: &[String]| matches!(&words.join(" ")[..], "yes" | "no" | "noanswer");
    answers.iter().map(|answer| text::normalise(answer.as_ref())).fold(
        ShortScore::default(),
        |best, right| {
            let exact = said == right;
            let comparable = exact || !(decided(&said) || decided(&right));
            let f1 = if comparable { text::f1(&said, &right) } else { 0.0 };
            let contained = !right.is_empty() && said.windows(right.len()).any(|words| words == right);
            ShortScore {
                exact: best.exact || exact,
                f1: best.f1.max(f1),
                contained: best.contained || contained,
            }
        },
    )
}

/// Number words; their place is their value.
const NUMBERS: [&str; 21] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
];

/// Whether a reply says what the right answer says in another form, which exact match counts as wrong: the words of one
/// stand in the other in their order and are at least half of it (`Fulgencio Batista` for `Fulgencio Batista y Zaldívar`),
/// number words and ordinals read as digits (`4` for `four`, `45` for `45th`). A reading aid beside the published
/// [`short_answer`], no part of it.
pub fn same_in_another_form(reply: &str, answer: &str) -> bool {
    let [said, right] = [reply, answer].map(|text| -> Vec<String> {
        text::normalise(text).into_iter().map(|word| digits(&word).unwrap_or(word)).collect()
    });
    let (short, long) = if said.len() <= right.len() { (said, right) } else { (right, said) };
    let mut rest = long.iter();
    let in_order = short.iter().all(|word| rest.any(|other| other == word));
    !short.is_empty() && 2 * short.len() >= long.len() && in_order
}

/// A number word or an ordinal in digits.
fn digits(word: &str) -> Option<String> {
    if let Some(value) = NUMBERS.iter().position(|number| *number == word) {
        return Some(value.to_string());
    }
    let number = ["st", "nd", "rd", "th"].iter().find_map(|end| word.strip_suffix(end))?;
    number
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| number.to_owned())
        .filter(|number| !number.is_empty())
}
