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
