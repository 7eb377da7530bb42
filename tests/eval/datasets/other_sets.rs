//! LongBench v1, QuALITY and LongHealth in their own formats.

use std::sync::Arc;

use latent_briefing::eval::datasets::{
    Dataset, Fault, FileKind, ItemKind, LoadOptions, OnFault, V1Set, load,
};
use latent_briefing::eval::episodes::Difficulty;
use serde_json::{Value, json};

use super::{file, ids, lines, read};

fn v1(id: &str, set: &str, edit: impl FnOnce(&mut Value)) -> Value {
    let mut item = json!({
        "input": "Who keeps it?", "context": "Bo keeps it.", "answers": ["Bo", "Bo B."], "length": 3,
        "dataset": set, "language": "en", "all_classes": null, "_id": id,
    });
    edit(&mut item);
    item
}

#[test]
fn longbench_v1() {
    let classes = |item: &mut Value| item["all_classes"] = json!(["x", "y"]);
    let text = lines(&[
        v1("a", "hotpotqa", |_| {}),
        v1("b", "gov_report", |item| item["input"] = "".into()),
        v1("c", "trec", classes),
        v1("d", "qasper_e", |_| {}),
        v1("e", "unheard", |_| {}),
        v1("f", "qasper", |item| item["answers"] = json!([])),
        v1("g", "qasper", |item| item["answers"] = json!(["x", 2])),
        v1("h", "trec", |_| {}),
        v1("i", "qasper", |item| item["answers"] = "x".into()),
    ]);
    let file = file("hotpotqa.jsonl", &text);
    assert_eq!(FileKind::detect(&file.path).unwrap(), FileKind::LongBench);
    let loaded = read(&file, FileKind::LongBench);
    assert_eq!(ids(&loaded), ["a", "b", "c", "d"]);
    let [a, b, c, d] = loaded.items.as_slice() else { panic!() };
    assert_eq!(a.dataset, Dataset::LongBench(V1Set::HotpotQa));
    assert_eq!(a.kind, ItemKind::Free { answers: vec!["Bo".to_owned(), "Bo B.".to_owned()] });
    assert_eq!((a.meta.language.as_deref(), a.meta.extra["length"].as_str()), (Some("en"), "3"));
    assert!(b.question.is_empty() && c.meta.classes == ["x", "y"]);
    assert_eq!(d.dataset.name(), "longbench/qasper");
    let named: Vec<String> = loaded.faults.iter().map(ToString::to_string).collect();
    for (fault, words) in named.iter().zip([
        ["line 5", "`e`", "unheard"],
        ["line 6", "`f`", "answers"],
        ["line 7", "`g`", "answers[1]"],
        ["line 8", "`h`", "all_classes"],
        ["line 9", "`i`", "an array"],
    ]) {
        assert!(words.iter().all(|word| fault.contains(word)), "{fault}");
    }
    assert_eq!(named.len(), 5);
}

fn question(id: &str, edit: impl FnOnce(&mut Value)) -> Value {
    let mut question = json!({
        "question": "Who?", "question_unique_id": id, "options": ["Ana", "Bo", "Cla", "Dara"], "gold_label": 2,
        "writer_label": 2, "difficult": 1, "validation": [],
    });
    edit(&mut question);
    question
}

fn quality(questions: &[Value]) -> Value {
    json!({
        "article_id": "10001", "set_unique_id": "10001_ABC", "title": "The ledger", "topic": "Notes",
        "source": "ours", "article": "<p>Bo &amp; Ana.</p><p>Bo keeps<br/>it.</p>", "questions": questions,
    })
}

#[test]
fn quality_questions_share_their_article() {
    let text = lines(&[
        quality(&[
            question("q1", |_| {}),
            question("q2", |q| q["gold_label"] = 5.into()),
            question("q3", |q| q["options"] = json!(["a", "b", "c", "d", "e"])),
            question("q4", |q| q["options"] = json!(["a", "b", "c"])),
            question("q5", |q| {
                q.as_object_mut().unwrap().shift_remove("gold_label");
            }),
            question("q6", |q| q["gold_label"] = "2".into()),
            question("", |q| {
                q.as_object_mut().unwrap().shift_remove("question_unique_id");
                q["difficult"] = 0.into();
            }),
            json!("no question"),
        ]),
        json!({"set_unique_id": "10002_X", "article": "", "questions": []}),
    ]);
    let file = file("QuALITY.v1.0.1.dev", &text);
    assert_eq!(FileKind::detect(&file.path).unwrap(), FileKind::Quality);
    let loaded = read(&file, FileKind::Quality);
    assert_eq!(ids(&loaded), ["q1", "10001_ABC_7"]);
    let [first, last] = loaded.items.as_slice() else { panic!() };
    assert_eq!(first.context.as_ref(), "Bo & Ana.\n\nBo keeps\nit.");
    assert_eq!(first.meta.extra["html"], "stripped");
    assert!(Arc::ptr_eq(&first.context, &last.context));
    assert!(matches!(&first.kind, ItemKind::Choices { choices, answer: 1 } if choices.len() == 4));
    assert_eq!((first.difficulty, last.difficulty), (Some(Difficulty::Hard), Some(Difficulty::Easy)));
    let named: Vec<String> = loaded.faults.iter().map(ToString::to_string).collect();
    for (fault, words) in named.iter().zip([
        ["line 1", "`q2`", "questions[1].gold_label", "\"5\""],
        ["line 1", "`q3`", "questions[2].options", "more choices"],
        ["line 1", "`q4`", "questions[3].options[3]", "missing"],
        ["line 1", "`q5`", "questions[4].gold_label", "missing"],
        ["line 1", "`q6`", "questions[5].gold_label", "a string"],
        ["line 1", "10001_ABC_8", "questions[7]", "an object"],
        ["line 2", "`10002_X`", "article", "empty"],
    ]) {
        assert!(words.iter().all(|word| fault.contains(word)), "{fault}");
    }
    assert_eq!(named.len(), 7);
}

fn patient(edit: impl FnOnce(&mut Value)) -> Value {
    let ask = |no: usize, correct: &str| {
        json!({
            "No": no, "question": "Which drug?", "answer_a": "One", "answer_b": "Two", "answer_c": "Three",
            "answer_d": "Four", "answer_e": "Five", "correct": correct, "answer_location": {},
        })
    };
    let mut patient = json!({
        "name": "Made Up", "birthday": "1.1.1970", "diagnosis": "None",
        "texts": {"text_0": "First.", "text_10": "Last.", "text_9": "Ninth."},
        "questions": [ask(0, "Three"), ask(1, "e"), ask(2, "Six")],
    });
    edit(&mut patient);
    patient
}

#[test]
fn long_health_is_one_object_of_patients() {
    let patients = json!({
        "patient_01": patient(|_| {}),
        "patient_02": patient(|p| p["texts"] = json!({"text_0": 7})),
        "patient_03": "nobody",
        "patient_04": patient(|p| p["questions"][0]["answer_f"] = "Six".into()),
    });
    for text in [patients.to_string(), serde_json::to_string_pretty(&patients).unwrap()] {
        let file = file("benchmark_v5.json", &text);
        assert_eq!(FileKind::detect(&file.path).unwrap(), FileKind::LongHealth);
        let loaded = read(&file, FileKind::LongHealth);
        assert_eq!(ids(&loaded), ["patient_01_q0", "patient_01_q1", "patient_04_q1"]);
        assert_eq!(loaded.items[0].context.as_ref(), "First.\n\nNinth.\n\nLast.");
        let answers: Vec<usize> = loaded
            .items
            .iter()
            .map(|i| match i.kind {
                ItemKind::Choices { answer, .. } => answer,
                ItemKind::Free { .. } => 99,
            })
            .collect();
        assert_eq!(answers, [2, 4, 4]);
        let named: Vec<Option<&str>> = loaded.faults.iter().map(|f| f.id.as_deref()).collect();
        assert_eq!(
            named,
            ["patient_01_q2", "patient_02", "patient_03", "patient_04_q0", "patient_04_q2"].map(Some)
        );
        assert!(matches!(&loaded.faults[1].fault, Fault::Type { field, .. } if field == "text_0"));
        assert!(matches!(&loaded.faults[3].fault, Fault::ExtraChoice { most: 5, .. }));
    }
    let list = file("x.json", "[{\"texts\": {}}]");
    let options = LoadOptions { on_fault: OnFault::Skip, ..LoadOptions::default() };
    let error = load(&list.path, FileKind::LongHealth, &options).unwrap_err().to_string();
    assert!(error.contains("an object of patients"), "{error}");
}
