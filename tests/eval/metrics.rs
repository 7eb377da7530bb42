//! Scores of replies. Figures marked so come from the Python packages that the authors use: `rouge` 1.0.1, `difflib`.

use latent_briefing::eval::Error;
use latent_briefing::eval::datasets::ruler::RulerTask;
use latent_briefing::eval::datasets::{Dataset, Item, ItemKind, Meta, V1Set};
use latent_briefing::eval::metrics::{Metric, score, score_by};
use proptest::prelude::*;

use crate::support::assert_error;

const CLOSE: f64 = 1e-6;

fn item(dataset: Dataset, kind: ItemKind, classes: &[&str]) -> Item {
    Item {
        id: "x".to_owned(),
        dataset,
        context: "text".into(),
        question: "?".to_owned(),
        kind,
        difficulty: None,
        length_class: None,
        meta: Meta { classes: classes.iter().map(|c| (*c).to_owned()).collect(), ..Meta::default() },
        line: 1,
    }
}

fn free(set: V1Set, answers: &[&str]) -> Item {
    let answers = answers.iter().map(|a| (*a).to_owned()).collect();
    item(Dataset::LongBench(set), ItemKind::Free { answers }, &[])
}

#[track_caller]
fn assert_score(item: &Item, reply: &str, wanted: f64) {
    let got = score(item, reply, None).unwrap();
    assert!((got - wanted).abs() < CLOSE, "{reply:?}: {got}, not {wanted}");
}

#[test]
fn f1_of_words_is_squads() {
    // By hand: punctuation and articles go. "keeper is ana duarte of oslo" against "ana duarte": P 2/6, R 1.
    assert_score(&free(V1Set::Qasper, &["Ana Duarte"]), "The keeper is Ana Duarte, of Oslo.", 0.5);
    // "apple day" against "appleday": the hyphen goes, the words differ.
    assert_score(&free(V1Set::HotpotQa, &["the apple-day"]), "an apple a day", 0.0);
    assert_score(&free(V1Set::HotpotQa, &["he cant"]), "He can't", 1.0);
    // The best of alternative answers; words count as often as they come.
    assert_score(&free(V1Set::NarrativeQa, &["no", "yes yes"]), "yes", 2.0 / 3.0);
    assert_score(&free(V1Set::Musique, &["x"]), "", 0.0);
    // "a" inside a word is no article.
    assert_score(&free(V1Set::Musique, &["banana"]), "a banana", 1.0);
    // Only the first line counts for trivia, as models go on with more examples.
    assert_score(&free(V1Set::TriviaQa, &["Oslo"]), "\n\nOslo\nQuestion: more", 1.0);
}

#[test]
fn rouge_l_is_that_of_the_python_package() {
    for (reply, truth, f) in [
        ("the cat sat on the mat", "the cat lay on the mat", 0.799_999_995),
        (
            "The pump failed. The valve was open. Nobody saw it.",
            "The valve was open when the pump failed. It was seen by nobody.",
            0.571_428_566_5,
        ),
        ("a b c d e f", "f e d c b a", 0.166_666_661_7),
        ("one two. one two three.", "one two three four", 0.857_142_852_2),
        ("x", "y", 0.0),
        ("", "y", 0.0),
        ("...", "y", 0.0),
    ] {
        assert_score(&free(V1Set::GovReport, &[truth]), reply, f);
    }
}

#[test]
fn code_is_compared_as_difflib_does() {
    let popular = format!("{}{}", "x".repeat(150), "abcabcabd".repeat(12));
    let other = format!("{}{}", "x".repeat(120), "abdabcabc".repeat(15));
    for (reply, truth, ratio) in [
        ("    return self.total(items)", "    return self.sum(items)", 0.85),
        ("for i in range(10):", "for (i = 0; i < 10; i++) {", 0.49),
        ("abcd", "bcde", 0.75),
        ("private int count = 0;", "private long count = 1;", 0.84),
        // In texts of 200 characters and more frequent ones start no match.
        (popular.as_str(), other.as_str(), 0.47),
        ("", "x", 0.0),
    ] {
        assert_score(&free(V1Set::Lcc, &[truth]), reply, ratio);
    }
    // The first line that is neither comment nor fence.
    assert_score(&free(V1Set::RepoBenchP, &["x = 1"]), "```python\n# set x\n// c\nx = 1\ny = 2", 1.0);
}

#[test]
fn classes_numbers_and_paragraphs() {
    let classes = ["Person", "Place", "Placename", "Number"];
    let answers = vec!["Placename".to_owned()];
    let trec = item(Dataset::LongBench(V1Set::Trec), ItemKind::Free { answers }, &classes);
    // "Place" is part of the right name and is taken off.
    assert_score(&trec, "Type: Placename", 1.0);
    assert_score(&trec, "Placename or Person", 0.5);
    assert_score(&trec, "Person\nPlacename", 0.0);
    assert_score(&trec, "none", 0.0);
    // As published: taking "A" off the list while walking it passes over "B", which stays.
    let answers = vec!["AB".to_owned()];
    let odd = item(Dataset::LongBench(V1Set::Lsht), ItemKind::Free { answers }, &["A", "B", "AB"]);
    assert_score(&odd, "AB", 0.5);

    assert_score(&free(V1Set::PassageCount, &["12"]), "There are 12, not 13 or 1.", 1.0 / 3.0);
    assert_score(&free(V1Set::PassageCount, &["12"]), "many", 0.0);
    assert_score(&free(V1Set::PassageRetrievalEn, &["Paragraph 7"]), "Paragraph 7", 1.0);
    assert_score(&free(V1Set::PassageRetrievalEn, &["Paragraph 7"]), "7 or 17", 0.5);
    assert_score(&free(V1Set::PassageRetrievalEn, &["no number"]), "7", 0.0);
    assert_score(&free(V1Set::PassageRetrievalZh, &["段落12"]), "段落12", 1.0);
}

#[test]
fn chinese_needs_a_segmenter() {
    let zh = free(V1Set::MultiFieldQaZh, &["北京，大学"]);
    assert_error!(
        score(&zh, "北京大学", None).unwrap_err(),
        Error::Config { field: "chinese", .. },
        "segmenter"
    );
    let pairs = |text: &str| -> Vec<String> {
        let chars: Vec<char> = text.chars().filter(|c| *c != '，').collect();
        chars.chunks(2).map(|c| c.iter().collect()).collect()
    };
    assert!((score(&zh, "北京大学。", Some(&pairs)).unwrap() - 1.0).abs() < CLOSE);
    // Words 北京 大厦 against 北京 大学: half of each.
    assert!((score(&zh, "北京大厦", Some(&pairs)).unwrap() - 0.5).abs() < CLOSE);
    let rouge = free(V1Set::DuReader, &["北京大学"]);
    assert!((score(&rouge, "北京大厦", Some(&pairs)).unwrap() - 0.5).abs() < CLOSE);
}

#[test]
fn choices_are_right_or_wrong() {
    for dataset in [Dataset::LongBenchV2, Dataset::Quality, Dataset::LongHealth] {
        let choices = ["one", "two", "three", "four", "five"].map(str::to_owned).to_vec();
        let mut item = item(dataset, ItemKind::Choices { choices, answer: 4 }, &[]);
        assert_score(&item, "The correct answer is (E)", 1.0);
        assert_score(&item, "The correct answer is (A)", 0.0);
        assert_score(&item, "E", 0.0);
        assert_score(&item, "", 0.0);
        let by = |item: &Item, metric, reply| score_by(metric, item, reply, None).unwrap();
        assert!((by(&item, Metric::ChoiceLenient, "E") - 1.0).abs() < CLOSE);
        assert!((by(&item, Metric::Exact, " five\n") - 1.0).abs() < CLOSE);
        item.meta.free_answer = Some("5".to_owned());
        assert!(
            (by(&item, Metric::Exact, "5") - 1.0).abs() < CLOSE && by(&item, Metric::Exact, "five") < CLOSE
        );
        assert_error!(score_by(Metric::QaF1, &item, "x", None).unwrap_err(), Error::Config { .. }, "QaF1");
    }
    let free = free(V1Set::Qasper, &["x"]);
    assert_error!(score_by(Metric::Choice, &free, "x", None).unwrap_err(), Error::Config { .. }, "Choice");
}

#[test]
fn ruler_counts_references_found() {
    let answers = ["1234567", "ABCDE", "x-y", "9"].map(str::to_owned).to_vec();
    let item = item(Dataset::Ruler(RulerTask::MultiValue), ItemKind::Free { answers }, &[]);
    assert_score(&item, "They are 1234567 and abcde.", 0.5);
    assert_score(&item, "1234567, ABCDE, X-Y, 9", 1.0);
    assert_score(&item, "", 0.0);
}

#[test]
fn every_set_of_longbench_has_its_metric() {
    use Metric as M;
    let wanted = [
        M::QaF1,
        M::QaF1,
        M::QaF1,
        M::QaF1Zh,
        M::QaF1,
        M::QaF1,
        M::QaF1,
        M::RougeLZh,
        M::RougeL,
        M::RougeL,
        M::RougeL,
        M::RougeLZh,
        M::Classification,
        M::QaF1,
        M::RougeL,
        M::Classification,
        M::Count,
        M::Retrieval,
        M::RetrievalZh,
        M::CodeSimilarity,
        M::CodeSimilarity,
    ];
    let got: Vec<Metric> = V1Set::ALL.iter().map(|set| Metric::of(Dataset::LongBench(*set))).collect();
    assert_eq!(got, wanted);
    assert!(V1Set::ALL.iter().all(|set| V1Set::by_name(set.name()) == Some(*set)));
    assert_eq!(V1Set::by_name("hotpotqa_e"), Some(V1Set::HotpotQa));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn scores_stay_within_0_and_1(reply in any::<String>(), answer in any::<String>(), set in 0_usize..21) {
        let set = V1Set::ALL[set];
        let mut item = free(set, &[&answer]);
        item.meta.classes = vec![answer.clone(), "other".to_owned()];
        let words = |text: &str| text.chars().map(|c| c.to_string()).collect();
        let value = score(&item, &reply, Some(&words)).unwrap();
        prop_assert!((0.0..=1.0).contains(&value), "{}", value);
        if !answer.trim().is_empty() && Metric::of(item.dataset) == Metric::QaF1 {
            let own = score(&item, &answer, Some(&words)).unwrap();
            prop_assert!(own == 0.0 || (own - 1.0).abs() < 1e-9 || set == V1Set::TriviaQa);
        }
    }
}
