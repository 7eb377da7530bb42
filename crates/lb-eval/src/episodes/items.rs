//! Episodes in the fields of LongBench v2.

use serde::{Deserialize, Serialize};

use super::Episode;

/// The domain of every synthetic item.
pub const DOMAIN: &str = "synthetic briefing episode";

/// One item with LongBench v2's fields, plus the free answer. Marked as synthetic by its domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LongBenchItem {
    /// `episode-SEED-INDEX`.
    #[serde(rename = "_id")]
    pub id: String,
    /// Always [`DOMAIN`].
    pub domain: String,
    /// The kind of question.
    pub sub_domain: String,
    /// `easy` or `hard`.
    pub difficulty: String,
    /// `short`, `medium` or `long`, in words as LongBench v2 has it (32k and 128k words); all of ours are `short`.
    pub length: String,
    /// The question.
    pub question: String,
    /// First choice.
    #[serde(rename = "choice_A")]
    pub choice_a: String,
    /// Second choice.
    #[serde(rename = "choice_B")]
    pub choice_b: String,
    /// Third choice.
    #[serde(rename = "choice_C")]
    pub choice_c: String,
    /// Fourth choice.
    #[serde(rename = "choice_D")]
    pub choice_d: String,
    /// The letter of the right choice.
    pub answer: String,
    /// The log, one line per segment.
    pub context: String,
    /// The right answer as free text (not a field of LongBench v2).
    pub free_answer: String,
}

impl Episode {
    /// One item per question that has its four choices.
    pub fn long_bench_items(&self) -> Vec<LongBenchItem> {
        let context: Vec<&str> = self.lines.iter().map(|l| l.text.as_str()).collect();
        let context = context.join("\n");
        let items = self.questions.iter().enumerate().filter_map(|(i, q)| {
            let [a, b, c, d] = q.choices.as_slice() else { return None };
            let letter = ["A", "B", "C", "D"][q.choices.iter().position(|choice| *choice == q.answer)?];
            Some(LongBenchItem {
                id: format!("episode-{}-{i}", self.seed),
                domain: DOMAIN.to_owned(),
                sub_domain: q.kind.name().to_owned(),
                difficulty: self.difficulty.name().to_owned(),
                length: "short".to_owned(),
                question: q.text.clone(),
                choice_a: a.clone(),
                choice_b: b.clone(),
                choice_c: c.clone(),
                choice_d: d.clone(),
                answer: letter.to_owned(),
                context: context.clone(),
                free_answer: q.answer.clone(),
            })
        });
        items.collect()
    }
}
