//! The bundled set, and the same items in every form of file.

use latent_briefing::eval::datasets::{FileKind, ItemKind, LengthClass, LoadOptions, load, synthetic};
use latent_briefing::eval::episodes::Difficulty;
use serde_json::Value;

use super::{file, ids, read};

#[test]
fn the_bundled_file_is_what_the_generator_writes() {
    let rendered = synthetic::render().unwrap();
    assert!(rendered == synthetic::BUNDLED, "write it anew: lb-episodes --bundle");
    assert!(rendered.len() < 300_000, "{}", rendered.len());
}

#[test]
fn the_bundled_set_says_what_it_is_and_has_variety() {
    let items = synthetic::bundled().unwrap();
    assert_eq!(items.len(), 60);
    let domain = |d: &Option<String>| d.as_deref().is_some_and(|d| d.contains("synthetic"));
    assert!(items.iter().all(|i| domain(&i.meta.domain) && i.length_class == Some(LengthClass::Short)));
    for difficulty in [Difficulty::Easy, Difficulty::Hard] {
        assert_eq!(items.iter().filter(|i| i.difficulty == Some(difficulty)).count(), 30);
    }
    for kind in ["one-hop", "two-hop", "corrected", "count", "comparison"] {
        let n = items.iter().filter(|i| i.meta.sub_domain.as_deref() == Some(kind)).count();
        assert!(n >= 5, "{kind}: {n}");
    }
    for item in &items {
        let ItemKind::Choices { choices, answer } = &item.kind else { panic!("{item:?}") };
        assert_eq!(Some(&choices[*answer]), item.meta.free_answer.as_ref());
    }
    let right = |n: usize| {
        items.iter().filter(|i| matches!(&i.kind, ItemKind::Choices { answer, .. } if *answer == n)).count()
    };
    assert!((0..4).all(|n| right(n) >= 6), "every letter is right now and then");
}

#[test]
fn one_set_in_three_forms_of_json() {
    let bundled = synthetic::bundled().unwrap();
    let values: Vec<Value> =
        synthetic::BUNDLED.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let array = serde_json::to_string(&values).unwrap();
    let pretty = serde_json::to_string_pretty(&values).unwrap();
    let windows = format!("\u{feff}\r\n{}", synthetic::BUNDLED.replace('\n', "\r\n\r\n"));
    // The name says nothing: a `.json` of lines, a `.jsonl` of an array.
    for (name, text) in
        [("a.json", synthetic::BUNDLED), ("b.jsonl", &array), ("c.parquet", &pretty), ("d.txt", &windows)]
    {
        let file = file(name, text);
        assert_eq!(FileKind::detect(&file.path).unwrap(), FileKind::LongBenchV2);
        let loaded = read(&file, FileKind::LongBenchV2);
        assert!(loaded.faults.is_empty(), "{name}: {:?}", loaded.faults);
        assert_eq!(ids(&loaded), bundled.iter().map(|i| i.id.as_str()).collect::<Vec<_>>(), "{name}");
        for (got, wanted) in loaded.items.iter().zip(&bundled) {
            assert!(got.context == wanted.context && got.kind == wanted.kind && got.meta == wanted.meta);
        }
        let at: Vec<usize> = loaded.items.iter().map(|i| i.line).take(3).collect();
        // 13 fields and two braces an item, behind the line of `[`.
        let wanted = match name {
            "a.json" => [1, 2, 3],
            "b.jsonl" => [1, 1, 1],
            "c.parquet" => [2, 17, 32],
            _ => [2, 4, 6],
        };
        assert_eq!(at, wanted, "{name}");
    }
}

#[test]
fn tokens_of_the_context_choose_items() {
    let file = file("data.jsonl", synthetic::BUNDLED);
    let words = |text: &str| Ok(text.split_whitespace().count());
    let subset = "tokens=0-300".parse().unwrap();
    let options = LoadOptions { subset, count_tokens: Some(&words), ..LoadOptions::default() };
    let short = load(&file.path, FileKind::LongBenchV2, &options).unwrap();
    let fitting = synthetic::bundled().unwrap();
    let fitting = fitting.iter().filter(|i| i.context.split_whitespace().count() <= 300).count();
    assert!(fitting > 9 && fitting < 51, "{fitting}");
    assert_eq!((short.items.len(), short.available), (fitting, 60));
}
