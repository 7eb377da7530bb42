//! Which items of a file.

use std::collections::BTreeSet;

use latent_briefing::eval::Error;
use latent_briefing::eval::datasets::{FileKind, LengthClass, LoadOptions, Loaded, Subset, load};
use latent_briefing::eval::episodes::Difficulty;
use proptest::prelude::*;
use serde_json::Value;

use super::{TempFile, file, ids, lines, record};
use crate::support::assert_error;

/// 36 items: every length and difficulty, three domains, contexts of 1 to 36 words.
fn items() -> Vec<Value> {
    let item = |i: usize| {
        record(&format!("id-{i:02}"), |item| {
            item["length"] = ["short", "medium", "long"][i % 3].into();
            item["difficulty"] = ["easy", "hard"][i / 3 % 2].into();
            item["domain"] = ["Code", "Table QA", "Dialogue"][i / 6 % 3].into();
            item["context"] = "word ".repeat(i + 1).into();
        })
    };
    (0..36).map(item).collect()
}

fn choose(file: &TempFile, subset: &str) -> Loaded {
    let words = |text: &str| Ok(text.split_whitespace().count());
    let subset: Subset = subset.parse().unwrap();
    let options = LoadOptions { subset, count_tokens: Some(&words), ..LoadOptions::default() };
    load(&file.path, FileKind::LongBenchV2, &options).unwrap()
}

#[test]
fn filters_are_joined_and_lists_widen_them() {
    let file = file("data.jsonl", lines(&items()));
    for (subset, n) in [
        ("all", 36),
        ("", 36),
        ("length=medium", 12),
        ("length=short|long", 24),
        ("difficulty=hard", 18),
        ("length=medium,difficulty=hard", 6),
        ("domain=table qa", 12),
        ("domain=Code|Dialogue, difficulty=easy", 12),
        ("sub_domain=notes", 36),
        ("sub_domain=none", 0),
        ("tokens=0-5", 5),
        ("tokens=5-5", 1),
        ("tokens=10-1k,length=long", 9),
        ("n=7", 7),
        ("n=7,length=medium,difficulty=hard", 6),
        ("ids=id-03|id-35", 2),
        ("ids=id-03|id-35,length=long", 1),
    ] {
        assert_eq!(choose(&file, subset).items.len(), n, "{subset}");
    }
    let loaded = choose(&file, "ids=id-01|none|id-00|nowhere");
    assert_eq!(ids(&loaded), ["id-00", "id-01"]);
    assert_eq!(loaded.missing, ["none", "nowhere"]);
}

#[test]
fn a_lot_is_the_same_for_a_seed_whatever_the_order() {
    let forwards = file("data.jsonl", lines(&items()));
    let mut turned = items();
    turned.reverse();
    let backwards = file("data.jsonl", lines(&turned));
    let drawn = |file: &TempFile, seed: u64| -> Vec<String> {
        let loaded = choose(file, &format!("n=9,seed={seed}"));
        loaded.items.into_iter().map(|i| i.id).collect()
    };
    let first = drawn(&forwards, 1);
    assert_eq!(first, drawn(&forwards, 1));
    assert!(first.is_sorted(), "the order of the file is kept: {first:?}");
    let set = |ids: Vec<String>| ids.into_iter().collect::<BTreeSet<_>>();
    assert_eq!(set(first.clone()).len(), 9);
    assert_eq!(set(first.clone()), set(drawn(&backwards, 1)));
    assert_ne!(first, drawn(&forwards, 2));
    // A larger draw holds the smaller one.
    let more = choose(&forwards, "n=20,seed=1");
    assert!(set(first).is_subset(&more.items.into_iter().map(|i| i.id).collect()));
    // Over many seeds every item comes up about as often as any other: 250 times, give or take 5 sigma.
    let mut times = [0_i32; 36];
    for seed in 0..1000 {
        for id in drawn(&forwards, seed) {
            times[id[3..].parse::<usize>().unwrap()] += 1;
        }
    }
    assert!(times.iter().all(|t| (t - 250).abs() < 69), "{times:?}");
}

#[test]
fn ids_may_come_from_a_file() {
    let data = file("data.jsonl", lines(&items()));
    let list = file("ids.txt", "# chosen\nid-04\n\n  id-08 \r\nid-99\n");
    let loaded = choose(&data, &format!("ids=@{},n=5", list.path.display()));
    assert_eq!(
        (ids(&loaded), loaded.missing.as_slice()),
        (vec!["id-04", "id-08"], &["id-99".to_owned()][..])
    );
    let missing: Result<Subset, Error> = "ids=@no/such/list".parse();
    assert_error!(missing.unwrap_err(), Error::Io { .. }, "no/such/list");
    let empty = file("ids.txt", "# none\n");
    let none: Result<Subset, Error> = format!("ids=@{}", empty.path.display()).parse();
    assert_error!(none.unwrap_err(), Error::Config { field: "ids", .. }, "at least one");
}

#[test]
fn what_cannot_be_meant_is_named() {
    for (text, field) in [
        ("length=huge", "length"),
        ("difficulty=odd", "difficulty"),
        ("tokens=100", "tokens"),
        ("tokens=9-3", "tokens"),
        ("tokens=a-3", "tokens"),
        ("tokens=0-99999999999999999999", "tokens"),
        ("tokens=0-99999999999999999k", "tokens"),
        ("n=0", "n"),
        ("n=-1", "n"),
        ("n=1,n=2", "subset"),
        ("seed=x", "seed"),
        ("lenght=short", "subset"),
        ("short", "subset"),
        ("domain=", "domain"),
        ("ids=|", "ids"),
    ] {
        let error = text.parse::<Subset>().unwrap_err();
        assert!(matches!(&error, Error::Config { field: f, .. } if *f == field), "{text}: {error:?}");
    }
    let file = file("data.jsonl", lines(&items()));
    let options = LoadOptions { subset: "tokens=0-5".parse().unwrap(), ..LoadOptions::default() };
    let error = load(&file.path, FileKind::LongBenchV2, &options).unwrap_err();
    assert_error!(error, Error::Config { field: "tokens", .. }, "token counter");
}

proptest! {
    #[test]
    fn text_and_json_give_a_subset_back(
        length in prop::option::of(0..3_usize),
        hard in prop::option::of(any::<bool>()),
        domain in prop::option::of("[A-Za-z][A-Za-z -]{0,12}[a-z]"),
        tokens in prop::option::of((0..1000_usize, 1000..1_000_000_usize)),
        ids in prop::option::of(prop::collection::btree_set("[a-z0-9_-]{1,9}", 1..4)),
        limit in prop::option::of(1..500_usize),
        seed in any::<u64>(),
    ) {
        let lengths = [LengthClass::Short, LengthClass::Medium, LengthClass::Long];
        let subset = Subset {
            lengths: length.map(|l| lengths[..=l].to_vec()).unwrap_or_default(),
            difficulties: hard.map(|h| if h { Difficulty::Hard } else { Difficulty::Easy }).into_iter().collect(),
            domains: domain.into_iter().collect(),
            sub_domains: Vec::new(),
            tokens: tokens.map(|(low, high)| [low, high]),
            ids,
            limit,
            seed: if limit.is_some() { seed } else { 0 },
        };
        prop_assert_eq!(&subset.to_string().parse::<Subset>().unwrap(), &subset);
        let json = serde_json::to_string(&subset).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Subset>(&json).unwrap(), &subset);
    }

    #[test]
    fn no_text_breaks_the_parser(text in any::<String>()) {
        prop_assume!(!text.contains('@'));
        let _ = text.parse::<Subset>();
    }
}
