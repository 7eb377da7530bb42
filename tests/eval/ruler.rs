//! Generated tasks: as long as asked, answerable from the text alone, the same for a seed.

use std::collections::{BTreeMap, HashSet};

use latent_briefing::eval::datasets::ruler::{
    Haystack, NativeConfig, NativeTask, RulerConfig, RulerTask, generate, native, suite,
};
use latent_briefing::eval::datasets::{Item, ItemKind};
use latent_briefing::eval::episodes::{Episode, Kind, LineKind};
use latent_briefing::eval::metrics::score;
use latent_briefing::eval::{Error, Result};
use latent_briefing::eval::{calls, condition::Condition};
use latent_briefing::session::Handoff;

use crate::support::{assert_error, embedded};

#[expect(clippy::unnecessary_wraps, reason = "the form of a token counter")]
fn words(text: &str) -> Result<usize> {
    Ok(text.split_whitespace().count())
}

fn tokens(text: &str) -> Result<usize> {
    Ok(embedded().tokenizer().encode_text(text)?.len())
}

fn answers(item: &Item) -> &[String] {
    match &item.kind {
        ItemKind::Free { answers } => answers,
        ItemKind::Choices { .. } => panic!("{item:?}"),
    }
}

#[test]
fn a_text_fills_its_length_and_no_more() {
    for task in RulerTask::ALL {
        for length in [1024, 4096] {
            let item = generate(&RulerConfig::new(task, length, 1), &tokens).unwrap();
            let used = tokens(&format!("{}\n\n{}", item.context, item.question)).unwrap();
            assert_eq!(item.meta.extra["counted_tokens"], used.to_string());
            let budget = length - task.answer_tokens();
            // One more unit would not fit: a sentence, a note, three entries of a list, ten words.
            assert!(used <= budget && used + 150 > budget, "{task:?}: {used} of {budget}");
            assert_eq!(item.dataset.name(), format!("ruler/{}", task.name()));
        }
    }
}

#[test]
fn lengths_go_to_32_thousand_tokens() {
    for task in RulerTask::ALL {
        let item = generate(&RulerConfig::new(task, 32_768, 2), &words).unwrap();
        let used = words(&format!("{} {}", item.context, item.question)).unwrap();
        assert!(used > 32_000 && used <= 32_768, "{task:?}: {used}");
        assert!((score(&item, &answers(&item).join(", "), None).unwrap() - 1.0).abs() < 1e-12);
    }
}

#[test]
fn the_seed_decides_everything() {
    for task in RulerTask::ALL {
        let of = |seed| generate(&RulerConfig::new(task, 1500, seed), &words).unwrap();
        assert_eq!(of(3), of(3));
        assert_ne!(of(3).context, of(4).context);
        assert!(task == RulerTask::FrequentWords || of(3).context != of(4).context);
    }
}

#[test]
fn needles_stand_where_they_are_asked_to() {
    for depth in [0.0, 0.25, 0.5, 1.0] {
        let config = RulerConfig { depth: Some(depth), ..RulerConfig::new(RulerTask::Needle, 4000, 5) };
        let item = generate(&config, &words).unwrap();
        let at = item.context.find(&answers(&item)[0]).unwrap() as f64 / item.context.len() as f64;
        assert!((at - depth).abs() < 0.05, "{at} for {depth}");
        assert_eq!(item.context.matches(answers(&item)[0].as_str()).count(), 1);
    }
}

/// Key and value of every note in a text.
fn notes(context: &str) -> Vec<(&str, &str)> {
    let notes = context.split("Noted under the key ").skip(1);
    notes.map(|note| note.split_once(" is the number ").unwrap()).map(|(k, v)| (k, &v[..7])).collect()
}

#[test]
fn the_text_answers_questions_about_keys() {
    for (task, haystack, keys, wanted) in [
        (RulerTask::Needle, Haystack::Prose, 1, 1),
        (RulerTask::MultiKey, Haystack::Prose, 4, 1),
        (RulerTask::MultiKey, Haystack::Needles, 100, 1),
        (RulerTask::MultiValue, Haystack::Prose, 1, 4),
        (RulerTask::MultiQuery, Haystack::Prose, 4, 4),
    ] {
        for seed in 0..20 {
            let item =
                generate(&RulerConfig { haystack, ..RulerConfig::new(task, 2000, seed) }, &words).unwrap();
            let notes = notes(&item.context);
            let asked: HashSet<&str> = notes
                .iter()
                .filter(|(key, _)| item.question.split([' ', ',', '?']).any(|word| word == *key))
                .map(|(_, value)| *value)
                .collect();
            assert_eq!(asked, answers(&item).iter().map(String::as_str).collect(), "{}", item.question);
            assert_eq!(asked.len(), wanted);
            let distinct: HashSet<&str> = notes.iter().map(|(key, _)| *key).collect();
            assert!(distinct.len() >= keys && (haystack == Haystack::Needles || distinct.len() == keys));
        }
    }
}

#[test]
fn chains_can_be_followed() {
    for seed in 0..20 {
        for depth in [None, Some(0.0), Some(0.9), Some(1.0)] {
            let config = RulerConfig { depth, ..RulerConfig::new(RulerTask::Tracking, 1500, seed) };
            let item = generate(&config, &words).unwrap();
            // Reading from the start, every name has a value before another takes it over.
            let mut values: BTreeMap<&str, &str> = BTreeMap::new();
            for line in item.context.split("Let ").skip(1) {
                let (name, rest) = line.split_once(" = ").unwrap();
                let value = rest.split('.').next().unwrap();
                let value = values.get(value).copied().unwrap_or(value);
                assert!(value.chars().all(|c| c.is_ascii_digit()), "{name} takes over nothing");
                values.insert(name, value);
            }
            assert_eq!(values.len(), 10);
            let asked =
                item.question.split(' ').find(|w| w.starts_with(|c: char| c.is_ascii_digit())).unwrap();
            let holding: HashSet<&str> =
                values.iter().filter(|(_, v)| asked.starts_with(**v)).map(|(name, _)| *name).collect();
            assert_eq!(holding, answers(&item).iter().map(String::as_str).collect());
        }
    }
}

#[test]
fn frequent_words_are_the_most_frequent() {
    for (task, length, n) in [
        (RulerTask::CommonWords, 1024, 10),
        (RulerTask::CommonWords, 8192, 10),
        (RulerTask::FrequentWords, 300, 3),
        (RulerTask::FrequentWords, 4000, 3),
    ] {
        for seed in 0..10 {
            let item = generate(&RulerConfig::new(task, length, seed), &words).unwrap();
            let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
            let body = item.context.split_once('\n').unwrap().1;
            for word in body.split_whitespace().filter(|w| !w.ends_with('.')) {
                *counts.entry(word).or_default() += 1;
            }
            let mut ranked: Vec<(usize, &str)> = counts.into_iter().map(|(word, n)| (n, word)).collect();
            ranked.sort_unstable_by(|a, b| b.cmp(a));
            let top: HashSet<&str> = ranked[..n].iter().map(|(_, word)| *word).collect();
            assert_eq!(top, answers(&item).iter().map(String::as_str).collect(), "{task:?} {length} {seed}");
            assert!(ranked[n - 1].0 > ranked.get(n).map_or(0, |r| r.0), "{task:?} {length} {seed}");
        }
    }
}

#[test]
fn tasks_out_of_range_are_named() {
    let generate = |config: RulerConfig| generate(&config, &words).unwrap_err();
    let config = RulerConfig::new(RulerTask::Needle, 1000, 0);
    assert_error!(
        generate(RulerConfig { tokens: 3, ..config.clone() }),
        Error::Config { field: "tokens", .. },
        "3"
    );
    assert_error!(
        generate(RulerConfig { depth: Some(1.5), ..config.clone() }),
        Error::Config { .. },
        "depth"
    );
    assert_error!(
        generate(RulerConfig { depth: Some(f64::NAN), ..config.clone() }),
        Error::Config { .. },
        "depth"
    );
    let needles = RulerConfig { haystack: Haystack::Needles, ..config };
    assert_error!(generate(needles), Error::Config { field: "haystack", .. }, "multi-key");
    let flat = latent_briefing::eval::datasets::ruler::generate(
        &RulerConfig::new(RulerTask::Needle, 1000, 0),
        &|_: &str| Ok(1),
    );
    assert_error!(flat.unwrap_err(), Error::Config { field: "count", .. }, "grows");
    let short = |task| native(&NativeConfig::new(task, 64, 0), &|text: &str| Ok(text.len())).unwrap_err();
    assert_error!(short(NativeTask::MultiValue), Error::Config { field: "tokens", .. }, "room");
    assert_error!(short(NativeTask::Tracking { hops: 9 }), Error::Config { field: "hops", .. }, "9");
    let few = native(&NativeConfig::new(NativeTask::Needle, 5, 0), &words).unwrap_err();
    assert_error!(few, Error::Config { field: "tokens", .. }, "64");
}

fn episode(task: NativeTask, length: usize, seed: u64) -> Episode {
    native(&NativeConfig::new(task, length, seed), &tokens).unwrap()
}

fn cost(episode: &Episode) -> usize {
    let tag = |s: LineKind| match s {
        LineKind::Finding => "finding",
        LineKind::Reasoning => "reasoning",
        LineKind::Tool => "tool",
    };
    episode.lines.iter().map(|l| tokens(&format!("{}: {}\n", tag(l.source), l.text)).unwrap()).sum()
}

#[test]
fn native_logs_fill_their_length_and_hold_their_answer() {
    for task in NativeTask::ALL {
        for seed in 0..12 {
            let episode = episode(task, 700, seed);
            let cost = cost(&episode);
            assert!(cost <= 700 && cost > 650, "{task:?}: {cost}");
            assert_eq!(episode, self::episode(task, 700, seed));
            let question = &episode.questions[0];
            assert_eq!(question.kind, task.kind());
            let holding = episode.lines.iter().filter(|l| l.text.contains(&question.answer)).count();
            match task.kind() {
                Kind::Count => {}
                _ => assert!(holding >= 1, "{task:?} {seed}: {}", question.text),
            }
            // Needles stand among lines that name no value, the others among facts.
            let findings = episode.lines.iter().filter(|l| l.source == LineKind::Finding).count();
            assert_eq!(findings == 1, task == NativeTask::Needle, "{task:?}: {findings}");
            let facts: Vec<&String> =
                episode.lines.iter().filter(|l| l.source == LineKind::Finding).map(|l| &l.text).collect();
            assert_eq!(facts.iter().collect::<HashSet<_>>().len(), facts.len());
        }
    }
}

#[test]
fn native_counts_and_corrections_are_those_of_the_log() {
    let statuses = ["sealed", "open", "damaged", "missing", "copied"];
    let has = |text: &str, word: &str| text.split(|c: char| !c.is_alphabetic()).any(|w| w == word);
    let mut seen = HashSet::new();
    for seed in 0..30 {
        let counting = episode(NativeTask::Counting, 500, seed);
        let question = &counting.questions[0];
        let asked = statuses.iter().find(|s| has(&question.text, s)).unwrap();
        let told = counting.lines.iter().filter(|l| has(&l.text, asked)).count();
        assert_eq!(told.to_string(), question.answer, "{}", question.text);
        seen.insert(told);
        let others = counting.lines.iter().filter(|l| statuses.iter().any(|s| s != asked && has(&l.text, s)));
        assert!(others.count() > 5);

        let corrected = episode(NativeTask::MultiValue, 500, seed);
        let question = &corrected.questions[0];
        let last = corrected.lines.iter().rev().find(|l| l.text.contains(&question.answer)).unwrap();
        let marked =
            ["correct", "second look", "update"].iter().any(|m| last.text.to_lowercase().contains(m));
        assert!(marked, "{} -> {}: {}", question.text, question.answer, last.text);
    }
    assert_eq!(seen, HashSet::from([1, 2, 3, 4, 5]));
}

#[test]
fn longer_chains_have_more_facts() {
    for hops in 2..=4 {
        let episode = native(&NativeConfig::new(NativeTask::Tracking { hops }, 400, 6), &tokens).unwrap();
        let question = &episode.questions[0].text;
        assert_eq!(question.matches("the item that").count(), usize::from(hops) - 2, "{question}");
    }
    let item = NativeConfig::new(NativeTask::Tracking { hops: 3 }, 400, 6).item(&tokens).unwrap();
    assert_eq!(item.id, "native-tracking-3-400-6");
    assert!((score(&item, &answers(&item)[0], None).unwrap() - 1.0).abs() < 1e-12);
}

/// The built-in worker is at home in these words: with the whole log in its cache it finds single facts.
#[test]
fn the_built_in_worker_answers_native_tasks() {
    let conditions = [Condition::handoff(Handoff::FullKv), Condition::handoff(Handoff::None)];
    for (task, wanted) in [(NativeTask::Needle, 10), (NativeTask::MultiKey, 9)] {
        let mut right = [0; 2];
        for seed in 0..12 {
            let rows = calls::ask(embedded(), &conditions, &episode(task, 512, seed)).unwrap();
            for (count, row) in right.iter_mut().zip(&rows) {
                *count += usize::from(row.right());
            }
        }
        assert!(right[0] >= wanted && right[1] <= 2, "{task:?}: {right:?} of 12");
    }
}

#[test]
fn a_suite_is_every_task_at_every_length() {
    let items = suite(&[RulerTask::Needle, RulerTask::Tracking], &[256, 512], 3, 40, &words).unwrap();
    let ids: std::collections::BTreeSet<&str> = items.iter().map(|item| item.id.as_str()).collect();
    assert_eq!((items.len(), ids.len()), (12, 12));
    assert!(ids.contains("ruler-tracking-512-42"), "{ids:?}");
    let again = generate(&RulerConfig::new(RulerTask::Tracking, 512, 42), &words).unwrap();
    assert_eq!(items.iter().find(|item| item.id == again.id), Some(&again));
    for (tasks, lengths, samples, name) in [
        (&[][..], &[256][..], 1, "tasks"),
        (&[RulerTask::Needle], &[], 1, "lengths"),
        (&[RulerTask::Needle], &[256], 0, "samples"),
    ] {
        let error = suite(tasks, lengths, samples, 0, &words).unwrap_err();
        assert!(matches!(error, Error::Config { field, .. } if field == name), "{error}");
    }
    for task in RulerTask::ALL {
        assert_eq!(task.name().parse::<RulerTask>().unwrap(), task);
    }
    assert!("hay".parse::<RulerTask>().is_err());
}
