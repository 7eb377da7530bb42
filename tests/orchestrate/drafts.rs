//! Briefings by what stands in for the answer: echoes and drafts, and drafts that become the answer.

use latent_briefing::am::Compaction;
use latent_briefing::prelude::*;
use latent_briefing::session::{DraftOver, Error};

use super::{contents, notes};

const TASK: &str = "What is the code of the Oslund relay?";

fn config() -> BriefConfig {
    BriefConfig::from(Compaction::keep_ratio(0.3)).with_lookahead(Lookahead::NONE)
}

#[test]
fn what_stands_in_for_the_answer_changes_the_briefing_and_is_counted() {
    let session = notes();
    let task = session.task_tokens(TASK).unwrap().len();
    let plain = session.brief(TASK, config()).unwrap();
    let mut seen = vec![contents(plain.cache())];
    let drafts = [Draft::over_full(6), Draft::of(6), Draft { check: 0, ..Draft::of(6) }];
    let mut configs: Vec<BriefConfig> =
        drafts.map(|draft| config().with_lookahead(Lookahead::draft(draft))).to_vec();
    configs.push(config().with_lookahead(Lookahead::echo(8)));
    for config in configs {
        let briefing = session.brief(TASK, &config).unwrap();
        assert_eq!(briefing.seq_len(), session.seq_len());
        assert!((briefing.keep_ratio() - plain.keep_ratio()).abs() < 1e-9);
        let again = session.brief(TASK, &config).unwrap();
        assert_eq!(contents(briefing.cache()), contents(again.cache()), "{config:?}");
        seen.push(contents(briefing.cache()));
        let mut other = notes();
        let cost = other.ask(TASK).via(config).run().unwrap().answer.tokens;
        // The task behind the full cache and over the briefing, and what stood in for the answer.
        assert!(cost.prefilled > 2 * task, "{cost:?}");
    }
    // One round over a briefing, a further one, over the full cache: the same words may come out of them.
    seen.dedup();
    assert!(seen.len() >= 3, "{}", seen.len());
}

/// Nobody's own words are in a trajectory of findings.
#[test]
fn an_echo_of_nothing_is_the_plain_briefing() {
    let mut session = latent_briefing::model::Worker::embedded().unwrap().session().unwrap();
    session.extend(Segment::finding("The code of the Oslund relay is 5521.")).unwrap();
    session.extend(Segment::tool("Grep the Velmar ledger: no match in part 2.")).unwrap();
    // Fitted to queries that differ in the last bits.
    let close = |a: &Briefing, b: &Briefing| {
        let (a, b) = (contents(a.cache()), contents(b.cache()));
        let near = |a: f32, b: f32| a.to_bits() == b.to_bits() || (a - b).abs() <= 1e-3 * a.abs().max(1.0);
        a.iter().flatten().zip(b.iter().flatten()).all(|(a, b)| near(*a, *b))
    };
    let plain = session.brief(TASK, config()).unwrap();
    assert!(close(&plain, &session.brief(TASK, config().with_lookahead(Lookahead::echo(8))).unwrap()));
    session.extend(Segment::reasoning("Perhaps the code is not 5521.")).unwrap();
    let plain = session.brief(TASK, config()).unwrap();
    assert!(!close(&plain, &session.brief(TASK, config().with_lookahead(Lookahead::echo(8))).unwrap()));
}

/// A draft is held to what the worker writes over the final briefing; what it writes does not depend on it.
#[test]
fn answers_are_those_of_the_briefing_whatever_was_drafted() {
    let mut session = notes();
    for draft in [Draft::of(4), Draft::over_full(12)] {
        let briefing = session.brief(TASK, config().with_lookahead(Lookahead::draft(draft))).unwrap();
        let with = session.ask(TASK).over(&briefing).run().unwrap().answer;
        // Weighed letter by letter: the same task, read as another one, has no draft to begin with.
        let worker = session.worker().clone();
        let mut cache = briefing.cache().fork();
        let tokens = session.task_tokens(TASK).unwrap();
        let options = latent_briefing::model::GenerateOptions::greedy(64);
        let without = worker.generate(&mut cache, &tokens, &options, &mut |_, _| true).unwrap();
        assert_eq!(with.text, without.text.trim());
        let mut heard = String::new();
        let hear = |text: &str| {
            heard.push_str(text);
            true
        };
        session.ask(TASK).over(&briefing).stream(hear).run().unwrap();
        assert_eq!(heard.trim(), with.text);
        let short = session.ask(TASK).over(&briefing).at_most(1).run().unwrap().answer;
        assert_eq!(short.tokens.generated, 1);
    }
    let answers = session
        .ask_all([TASK, "Who keeps the Velmar ledger?"])
        .via(config().with_lookahead(Lookahead::draft(Draft::of(6))));
    let together: Vec<String> = answers.run().unwrap().into_iter().map(|o| o.answer.text).collect();
    for (task, text) in [TASK, "Who keeps the Velmar ledger?"].into_iter().zip(together) {
        let alone =
            session.ask(task).via(config().with_lookahead(Lookahead::draft(Draft::of(6)))).run().unwrap();
        assert_eq!(alone.answer.text, text);
    }
}

/// A first briefing of next to nothing guesses wrongly; where the full cache has a look, whenever that is, it has the last word.
#[test]
fn a_draft_that_is_looked_at_is_that_over_the_full_cache() {
    let session = notes();
    let tasks = [TASK, "Who keeps the Velmar ledger?", "What does Anara keep?"];
    let drafted = |task: &str, draft: Draft| {
        session.brief(task, config().with_lookahead(Lookahead::draft(draft))).unwrap().draft().to_vec()
    };
    let mut differ = 0;
    for task in tasks {
        for tokens in [1, 6, 32] {
            let full = drafted(task, Draft::over_full(tokens));
            let poor = Draft { first: Some(0.02), ..Draft::of(tokens) };
            differ += usize::from(drafted(task, Draft { check: 0, ..poor }) != full);
            for check in [1, 3, 8, 100] {
                assert_eq!(drafted(task, Draft { check, ..poor }), full, "{task}, {check} of {tokens}");
            }
        }
    }
    assert!(differ > 0, "no first briefing was poor enough to tell");
    let config = config().with_lookahead(Lookahead::draft(Draft { first: Some(0.02), ..Draft::of(32) }));
    let together = session.brief_batch(tasks, config).unwrap();
    for (task, briefing) in tasks.into_iter().zip(together) {
        assert_eq!(briefing.draft(), drafted(task, Draft::over_full(32)), "{task}");
    }
}

/// A session remembers its answers; a snapshot knows those up to its making.
#[test]
fn answers_of_earlier_calls_join_the_queries() {
    let mut session = notes();
    let config = config().with_lookahead(Lookahead { earlier: 16, ..Lookahead::NONE });
    let contents_of = |briefing: Briefing| contents(briefing.cache());
    let before = session.snapshot();
    let plain = contents_of(session.brief(TASK, &config).unwrap());
    session.ask("Who keeps the Velmar ledger?").via(Handoff::FullKv).run().unwrap();
    let after = session.snapshot();
    let knowing = contents_of(session.brief(TASK, &config).unwrap());
    assert_ne!(knowing, plain);
    assert_eq!(contents_of(before.brief(TASK, &config).unwrap()), plain);
    assert_eq!(contents_of(after.brief(TASK, &config).unwrap()), knowing);
    after.ask(TASK).via(Handoff::FullKv).run().unwrap();
    assert_eq!(contents_of(after.brief(TASK, &config).unwrap()), knowing);
    for outcome in session.ask_all([TASK, "What does Anara keep?"]).via(Handoff::FullKv).run_each() {
        outcome.unwrap();
    }
    assert_ne!(contents_of(session.brief(TASK, &config).unwrap()), knowing);
}

#[test]
fn what_does_not_go_together_is_named() {
    let session = notes();
    let refused = |config: BriefConfig, field: &str| {
        let error = session.brief(TASK, config).unwrap_err();
        let named = matches!(&error, Error::Config { field: own, .. } if *own == field);
        assert!(named, "{field}: {error}");
    };
    refused(config().with_lookahead(Lookahead::draft(Draft::of(0))), "draft.tokens");
    refused(
        config().with_lookahead(Lookahead::draft(Draft { check: 2, ..Draft::over_full(4) })),
        "draft.check",
    );
    refused(
        config().with_lookahead(Lookahead::draft(Draft { first: Some(0.0), ..Draft::of(4) })),
        "draft.first",
    );
    refused(
        config().with_lookahead(Lookahead::draft(Draft { first: Some(0.5), ..Draft::over_full(4) })),
        "draft.first",
    );
    refused(config().with_lookahead(Lookahead::draft(Draft::of(4))).with_on_policy(true), "lookahead");
    refused(
        config().with_lookahead(Lookahead::echo(4)).with_queries(QuerySource::RepeatPrefill),
        "lookahead",
    );
    refused(config().with_lookahead(Lookahead::echo(4)).with_chunking(Chunking::rerotated(20)), "lookahead");
    for (text, over, first, echo) in [
        ("latent-briefing:draft=8", DraftOver::Briefing, Some(0.5), 0),
        ("latent-briefing:draft=8,over=full,echo=16", DraftOver::Full, None, 16),
        ("latent-briefing:draft=8,first=0.25", DraftOver::Briefing, Some(0.25), 0),
    ] {
        let Handoff::LatentBriefing(config) = text.parse().unwrap() else { panic!("{text}") };
        let lookahead = config.lookahead.unwrap();
        let draft = lookahead.draft.unwrap();
        assert_eq!((draft.tokens, draft.over, draft.first, lookahead.echo), (8, over, first, echo), "{text}");
    }
    for (text, lookahead) in [
        ("latent-briefing", None),
        ("latent-briefing:echo=0", Some(Lookahead::NONE)),
        ("latent-briefing:draft=0", Some(Lookahead::NONE)),
        ("latent-briefing:echo=9", Some(Lookahead::echo(9))),
    ] {
        let Handoff::LatentBriefing(config) = text.parse().unwrap() else { panic!("{text}") };
        assert_eq!(config.lookahead, lookahead, "{text}");
    }
    for text in ["latent-briefing:over=full", "latent-briefing:draft=8,over=notes", "latent-briefing:draft=x"]
    {
        assert!(text.parse::<Handoff>().is_err(), "{text}");
    }
}

/// What is guessed from the text changes no answer and no draft.
#[test]
fn guesses_from_the_text_change_nothing() {
    let session_with = |lookup: bool| {
        let config = SessionConfig { lookup, ..SessionConfig::default() };
        let mut session = WorkerSession::with(&notes().worker().clone(), config).unwrap();
        let lines = ["The Velmar ledger is kept by Anara.", "The code of the Oslund relay is 5521."];
        session.extend_all(lines.map(Segment::finding), &mut |_, _| {}).unwrap();
        session
    };
    let (mut with, mut without) = (session_with(true), session_with(false));
    let handoffs: [Handoff; 4] = [
        Handoff::FullKv,
        Handoff::TextReplay,
        config().with_lookahead(Lookahead::draft(Draft::of(12))).into(),
        Renewal::every(3, config().with_lookahead(Lookahead::draft(Draft::over_full(2)))).into(),
    ];
    let tasks = [TASK, "Repeat: The Velmar ledger is kept by Anara."];
    for handoff in handoffs {
        let [with, without] = [&mut with, &mut without].map(|session| {
            let outcomes = session.ask_all(tasks).via(handoff.clone()).run().unwrap();
            let told = |outcome: &Outcome| {
                let renewed: Vec<usize> = outcome.renewals.iter().map(|renewed| renewed.written).collect();
                let draft = outcome.briefing.as_ref().map(|briefing| briefing.draft().to_vec());
                (outcome.answer.text.clone(), outcome.record.tokens.generated, draft, renewed)
            };
            outcomes.iter().map(told).collect::<Vec<_>>()
        });
        assert_eq!(with, without, "{}", handoff.name());
    }
}
