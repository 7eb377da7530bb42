//! What a reply is worth, by the rules of the set that asked.

mod code;
mod rouge;
mod short;
pub(crate) mod text;

use serde::{Deserialize, Serialize};

pub use short::{ShortScore, same_in_another_form, short_answer};

use crate::datasets::{Dataset, Item, ItemKind, V1Set};
use crate::prompts::{extract, extract_lenient};
use crate::{Error, Result};

/// How a reply is scored, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// The right letter, by the published rule ([`extract`]).
    Choice,
    /// The right letter, by [`extract_lenient`].
    ChoiceLenient,
    /// The whole answer, exactly, but for white space around it.
    Exact,
    /// F1 of words.
    QaF1,
    /// F1 of words in Chinese.
    QaF1Zh,
    /// ROUGE-L.
    RougeL,
    /// ROUGE-L in Chinese.
    RougeLZh,
    /// The right class among those named.
    Classification,
    /// Share of the right paragraph number among the numbers of the reply.
    Retrieval,
    /// The same in Chinese.
    RetrievalZh,
    /// Share of the right count among the numbers of the reply.
    Count,
    /// Similarity of the first line of code.
    CodeSimilarity,
    /// Share of the references that occur in the reply.
    References,
}

/// Splits Chinese text into words, as jieba's exact mode does. LongBench v1's scores in Chinese are defined by it; the
/// crate `jieba-rs` has it (`|text| jieba.cut(text, false).into_iter().map(str::to_owned).collect()`).
pub type ChineseWords<'a> = &'a dyn Fn(&str) -> Vec<String>;

impl Metric {
    /// The metric of a set, as its authors define it.
    pub fn of(dataset: Dataset) -> Self {
        match dataset {
            Dataset::LongBenchV2 | Dataset::Quality | Dataset::LongHealth => Self::Choice,
            Dataset::Ruler(_) => Self::References,
            Dataset::Native(_) => Self::Exact,
            Dataset::LongBench(set) => Self::of_v1(set),
        }
    }

    fn of_v1(set: V1Set) -> Self {
        use V1Set as S;
        match set {
            S::NarrativeQa
            | S::Qasper
            | S::MultiFieldQaEn
            | S::HotpotQa
            | S::TwoWikiMqa
            | S::Musique
            | S::TriviaQa => Self::QaF1,
            S::MultiFieldQaZh => Self::QaF1Zh,
            S::DuReader | S::VcSum => Self::RougeLZh,
            S::GovReport | S::QmSum | S::MultiNews | S::SamSum => Self::RougeL,
            S::Trec | S::Lsht => Self::Classification,
            S::PassageRetrievalEn => Self::Retrieval,
            S::PassageRetrievalZh => Self::RetrievalZh,
            S::PassageCount => Self::Count,
            S::Lcc | S::RepoBenchP => Self::CodeSimilarity,
        }
    }

    fn is_chinese(self) -> bool {
        matches!(self, Self::QaF1Zh | Self::RougeLZh)
    }
}

/// The score of a reply by the metric of the item's set, 0 to 1. An empty reply is worth 0, never left out.
///
/// # Errors
/// As [`score_by`].
pub fn score(item: &Item, response: &str, chinese: Option<ChineseWords<'_>>) -> Result<f64> {
    score_by(Metric::of(item.dataset), item, response, chinese)
}

/// The score of a reply by a metric, 0 to 1: the best over alternative answers; for [`Metric::References`] the share of
/// all of them.
///
/// # Errors
/// [`Error::Config`] where a metric of choices meets an item without, or the other way round, and where one in Chinese
/// gets no `chinese`.
pub fn score_by(
    metric: Metric,
    item: &Item,
    response: &str,
    chinese: Option<ChineseWords<'_>>,
) -> Result<f64> {
    let answers = match (&item.kind, metric) {
        (ItemKind::Choices { choices, answer }, Metric::Choice) => {
            return Ok(f64::from(extract(response, choices.len()) == Some(*answer)));
        }
        (ItemKind::Choices { choices, answer }, Metric::ChoiceLenient) => {
            return Ok(f64::from(extract_lenient(response, choices.len()) == Some(*answer)));
        }
        // A choice answered in its own words.
        (ItemKind::Choices { choices, answer }, Metric::Exact) => {
            let text = item.meta.free_answer.as_deref().or(choices.get(*answer).map(String::as_str));
            return Ok(f64::from(text.is_some_and(|text| text.trim() == response.trim())));
        }
        (ItemKind::Free { answers }, metric) if !matches!(metric, Metric::Choice | Metric::ChoiceLenient) => {
            answers
        }
        _ => return Err(Error::config("metric", format!("{metric:?}"), "want one for this kind of item")),
    };
    if metric.is_chinese() && chinese.is_none() {
        return Err(Error::config("chinese", "none", "want a segmenter for a metric in Chinese"));
    }
    let words = |text: &str| chinese.map(|cut| cut(text)).unwrap_or_default();
    let response = first_line(item.dataset, response);
    if metric == Metric::References {
        return Ok(text::references(response, answers));
    }
    let one = |answer: &String| match metric {
        Metric::QaF1 => text::qa_f1(response, answer),
        Metric::QaF1Zh => text::qa_f1_zh(&words(response), &words(answer)),
        Metric::RougeL => rouge::rouge_l(response, answer),
        Metric::RougeLZh => rouge::rouge_l(&words(response).join(" "), &words(answer).join(" ")),
        Metric::Classification => text::classification(response, answer, &item.meta.classes),
        Metric::Retrieval => text::retrieval(response, answer, "Paragraph "),
        Metric::RetrievalZh => text::retrieval(response, answer, "段落"),
        Metric::Count => text::share_of_number(response, answer),
        Metric::CodeSimilarity => code::similarity(response, answer),
        _ => f64::from(response.trim() == answer.trim()),
    };
    Ok(answers.iter().map(one).fold(0.0, f64::max))
}

/// Of these sets only the first line of a reply counts: models go on with the pattern of the examples.
fn first_line(dataset: Dataset, response: &str) -> &str {
    use V1Set::{Lsht, SamSum, Trec, TriviaQa};
    match dataset {
        Dataset::LongBench(Trec | TriviaQa | SamSum | Lsht) => {
            response.trim_start_matches('\n').split('\n').next().unwrap_or_default()
        }
        _ => response,
    }
}
