//! The generator of briefing episodes.

use std::collections::HashSet;

use latent_briefing::eval::Error;
use latent_briefing::eval::episodes::{Difficulty, Episode, EpisodeConfig, Kind, LineKind, Split, split_of};
use proptest::prelude::*;

fn draw(seed: u64, split: Split, words: (usize, usize), questions: usize) -> Episode {
    Episode::generate(
        seed,
        &EpisodeConfig { split, difficulty: None, words, questions, plain: false, focus: None },
    )
    .unwrap()
}

/// Capitalised words that do not start a sentence or stand alone as a label: the names.
fn names(episode: &Episode) -> HashSet<String> {
    let texts = episode.lines.iter().map(|l| &l.text).chain(episode.questions.iter().map(|q| &q.text));
    texts
        .flat_map(|text| text.split(|c: char| !c.is_alphabetic()).filter(|w| !w.is_empty()).skip(1))
        .filter(|w| w.chars().next().is_some_and(char::is_uppercase))
        .map(str::to_owned)
        .collect()
}

#[test]
fn no_held_out_name_occurs_in_training() {
    let collect = |split| (0..60).flat_map(|s| names(&draw(s, split, (40, 600), 10))).collect::<HashSet<_>>();
    let (train, held_out) = (collect(Split::Train), collect(Split::HeldOut));
    assert!(train.len() > 300 && held_out.len() > 200, "{} {}", train.len(), held_out.len());
    assert!(train.is_disjoint(&held_out), "{:?}", train.intersection(&held_out).next());
    assert!(train.iter().all(|n| split_of(n) == Split::Train));
    assert!(held_out.iter().all(|n| split_of(n) == Split::HeldOut));
}

#[test]
fn every_kind_and_difficulty_comes_up() {
    let episodes: Vec<Episode> = (0..40).map(|s| draw(s, Split::HeldOut, (300, 900), 5)).collect();
    for kind in Kind::ALL {
        assert!(
            episodes.iter().flat_map(|e| &e.questions).filter(|q| q.kind == kind).count() >= 10,
            "{kind:?}"
        );
    }
    for difficulty in [Difficulty::Easy, Difficulty::Hard] {
        assert!(episodes.iter().filter(|e| e.difficulty == difficulty).count() >= 10);
    }
    for source in [LineKind::Finding, LineKind::Reasoning, LineKind::Tool] {
        let telling = episodes.iter().filter(|e| e.lines.iter().any(|l| l.source == source)).count();
        assert!(telling >= 36, "{source:?} in {telling} of 40");
    }
}

/// Where a log states that a subject has a value, as plain text: lines that hold both.
fn lines_with<'a>(episode: &'a Episode, a: &str, b: &str) -> Vec<(usize, &'a str)> {
    let lines = episode.lines.iter().enumerate().filter(|(_, l)| l.source != LineKind::Reasoning);
    lines.map(|(i, l)| (i, l.text.as_str())).filter(|(_, t)| mentions(t, a) && mentions(t, b)).collect()
}

/// A whole word or phrase, in either case of its first letter.
fn mentions(text: &str, phrase: &str) -> bool {
    let (text, phrase) = (text.to_lowercase(), phrase.to_lowercase());
    text.match_indices(&phrase).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + phrase.len()..].chars().next();
        !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
    })
}

/// The one name that a lookup question holds: an item (`the NAME noun`) or a person.
fn subject(question: &str) -> String {
    let words: Vec<&str> = question.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).collect();
    let is_name = |w: &str| w.chars().next().is_some_and(char::is_uppercase) && split_of(w) == Split::HeldOut;
    let at = words.iter().skip(1).position(|w| is_name(w)).map_or(0, |i| i + 1);
    words[at].to_owned()
}

#[test]
fn the_log_holds_the_answer_to_every_lookup() {
    let mut seen = [0; 2];
    for seed in 0..60 {
        let episode = draw(seed, Split::HeldOut, (200, 800), 12);
        for question in &episode.questions {
            if !matches!(question.kind, Kind::OneHop | Kind::Corrected) {
                continue;
            }
            let name = subject(&question.text);
            let stated = lines_with(&episode, &name, &question.answer);
            assert!(!stated.is_empty(), "seed {seed}: {} -> {}", question.text, question.answer);
            seen[usize::from(question.kind == Kind::Corrected)] += 1;
        }
    }
    assert!(seen[0] > 100 && seen[1] > 100, "{seen:?}");
}

#[test]
fn counts_are_the_counts_of_the_log() {
    let mut seen = 0;
    for seed in 0..80 {
        let episode = draw(seed, Split::HeldOut, (200, 800), 12);
        for question in episode.questions.iter().filter(|q| q.kind == Kind::Count) {
            let statuses = ["sealed", "open", "damaged", "missing", "copied"];
            let asked = statuses.iter().find(|s| mentions(&question.text, s)).unwrap();
            // Status lines are the tool lines that neither grep, scan nor open a part.
            let status_lines =
                episode.lines.iter().filter(|l| l.source == LineKind::Tool && mentions(&l.text, asked));
            let told = status_lines.filter(|l| !l.text.to_lowercase().starts_with("open part")).count();
            assert_eq!(told.to_string(), question.answer, "seed {seed}: {}", question.text);
            seen += 1;
        }
    }
    assert!(seen > 40, "{seen}");
}

#[test]
fn corrected_answers_come_last() {
    for seed in 0..40 {
        let episode = draw(seed, Split::HeldOut, (200, 800), 20);
        for question in episode.questions.iter().filter(|q| q.kind == Kind::Corrected) {
            let name = subject(&question.text);
            let last = lines_with(&episode, &name, &question.answer).last().map(|(_, t)| t.to_lowercase());
            let last = last.unwrap();
            let marked = ["correct", "second look", "update"].iter().any(|m| last.contains(m));
            assert!(marked, "seed {seed}: {} -> {}: {last}", question.text, question.answer);
        }
    }
}

#[test]
fn items_have_the_fields_of_longbench_v2() {
    let episode = draw(11, Split::HeldOut, (200, 400), 8);
    let items = episode.long_bench_items();
    assert_eq!(items.len(), episode.questions.len());
    for (item, question) in items.iter().zip(&episode.questions) {
        let json = serde_json::to_value(item).unwrap();
        for field in [
            "_id",
            "domain",
            "sub_domain",
            "difficulty",
            "length",
            "question",
            "choice_A",
            "choice_B",
            "choice_C",
            "choice_D",
            "answer",
            "context",
        ] {
            assert!(json[field].is_string(), "{field}");
        }
        let letter = json["answer"].as_str().unwrap();
        assert_eq!(json[format!("choice_{letter}")], question.answer.as_str());
        let choices: HashSet<&String> = question.choices.iter().collect();
        assert_eq!(choices.len(), 4, "{:?}", question.choices);
    }
}

#[test]
fn plain_episodes_state_facts_one_way_and_ask_one_hop() {
    for seed in 0..40 {
        let config = EpisodeConfig { plain: true, ..EpisodeConfig::held_out((60, 200), 30) };
        let episode = Episode::generate(seed, &config).unwrap();
        assert!(episode.questions.iter().all(|q| q.kind == Kind::OneHop));
        assert!(episode.lines.iter().all(|l| l.source != LineKind::Reasoning));
        // Sentences of one relation differ in names and values alone.
        let keepers = episode.lines.iter().filter(|l| l.text.contains("kept") || l.text.contains("keeper"));
        assert!(keepers.map(|l| &l.text).all(|text| text.contains(": kept by ")));
    }
}

#[test]
fn lengths_out_of_range_are_named() {
    for (words, questions, field) in [
        ((5, 100), 3, "words"),
        ((200, 100), 3, "words"),
        ((40, 50_000), 3, "words"),
        ((40, 100), 0, "questions"),
    ] {
        let config = EpisodeConfig {
            split: Split::Train,
            difficulty: None,
            words,
            questions,
            plain: false,
            focus: None,
        };
        match Episode::generate(1, &config) {
            Err(Error::Config { field: named, .. }) => assert_eq!(named, field),
            other => panic!("{other:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn an_episode_is_a_function_of_its_seed(seed in any::<u64>(), words in 10_usize..1500, questions in 1_usize..30) {
        for split in [Split::Train, Split::HeldOut] {
            let a = draw(seed, split, (words, words), questions);
            prop_assert_eq!(&a, &draw(seed, split, (words, words), questions));
            prop_assert!(!a.questions.is_empty() && a.questions.len() <= questions);
            prop_assert!(a.questions.iter().all(|q| q.choices.contains(&q.answer) && q.choices.len() == 4));
            let texts: HashSet<&String> = a.questions.iter().map(|q| &q.text).collect();
            prop_assert_eq!(texts.len(), a.questions.len());
            let told = a.words() as f64;
            prop_assert!(words < 300 || (told / words as f64 - 1.0).abs() < 0.25, "{} words for {}", told, words);
        }
    }
}
