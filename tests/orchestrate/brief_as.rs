//! Every way to make a briefing: units of the text, sources of queries, on-policy, chunks.

use latent_briefing::am::{Budget, Compaction, HeadBudgets, ScoreAgg, Selection, Spans, Units};
use latent_briefing::model::GenerateOptions;
use latent_briefing::prelude::*;
use latent_briefing::session::CallTokens;
use latent_briefing::session::Error;

use super::{contents, lines, notes};
use crate::support::compare::{assert_close, flat};
use crate::support::embedded;

const TASK: &str = "Who keeps the Velmar ledger?";

fn ratio(ratio: f64) -> BriefConfig {
    BriefConfig::from(Compaction::keep_ratio(ratio)).with_lookahead(Lookahead::NONE)
}

/// Logits of the task's last token over a briefing.
fn logits(session: &WorkerSession, cache: &latent_briefing::model::KvCache) -> Vec<f64> {
    let task = embedded().tokenizer().encode_text("Task: Who keeps the Velmar ledger?").unwrap();
    flat(&session.worker().model().forward(&task, &mut cache.fork()).unwrap())
}

fn bytes(contents: &[Vec<f32>]) -> Vec<Vec<u32>> {
    contents.iter().map(|values| values.iter().map(|value| value.to_bits()).collect()).collect()
}

#[test]
fn a_compaction_is_a_configuration_of_a_briefing() {
    let session = notes();
    let compaction = Compaction::keep_ratio(0.3);
    let a = session.brief(TASK, &compaction).unwrap();
    let b = session.brief(TASK, BriefConfig::from(compaction)).unwrap();
    assert_eq!(contents(a.cache()), contents(b.cache()));
    let config = ratio(0.3).with_task_state(TaskState::Reuse);
    let c = session.brief(TASK, &config).unwrap();
    assert_eq!(c.task_state(), TaskState::Reuse);
    let json = serde_json::to_string(&config.with_chunking(Chunking::in_place(7))).unwrap();
    let back: BriefConfig = serde_json::from_str(&json).unwrap();
    assert_eq!(serde_json::to_string(&back).unwrap(), json);
    assert_eq!(serde_json::from_str::<BriefConfig>("{}").unwrap(), BriefConfig::default());
}

#[test]
fn briefings_compared_are_those_made_alone() {
    let session = notes();
    let largest = Compaction::keep_ratio(0.3).with_score(ScoreAgg::Max).with_selection(Selection::per_head());
    let configs = [
        ratio(0.3),
        ratio(0.2).with_task_state(TaskState::Reuse),
        largest.into(),
        ratio(0.5),
        ratio(0.3).with_on_policy(true),
        ratio(0.3).with_chunking(Chunking::in_place(7)),
    ];
    let together = session.brief_each(TASK, &configs).unwrap();
    assert_eq!(together.len(), configs.len());
    for (briefing, config) in together.iter().zip(&configs) {
        let alone = session.brief(TASK, config).unwrap();
        assert_eq!(bytes(&contents(briefing.cache())), bytes(&contents(alone.cache())), "{config:?}");
        assert_eq!(briefing.task_state(), alone.task_state());
    }
    assert!(session.brief_each("", &configs).is_err());
    assert!(session.brief_each(TASK, &[ratio(0.3), ratio(7.0)]).is_err());
}

/// Whatever the handoff, what is prepared is what an answer is written from.
#[test]
fn what_is_prepared_is_what_answers_come_from() {
    let mut session = notes();
    for text in [
        "none",
        "full-kv",
        "text-replay",
        "bm25:0.4",
        "recent:0.3",
        "latent-briefing:keep=0.3",
        "latent-briefing:keep=0.3,state=reuse",
    ] {
        let handoff: Handoff = text.parse().unwrap();
        let prepared = session.ask(TASK).via(&handoff).prepare().unwrap();
        let outcome = session.ask(TASK).via(&handoff).run().unwrap();
        assert_eq!(prepared.kept_len, outcome.kept_len, "{text}");
        assert!((prepared.keep_ratio - outcome.keep_ratio).abs() < 1e-12, "{text}");
        let cost = outcome.answer.tokens;
        assert_eq!(prepared.tokens, CallTokens { generated: 0, ..cost }, "{text}");
        let (worker, mut cache) = (embedded(), prepared.cache);
        let options = GenerateOptions::default();
        let made = match &prepared.logits {
            Some(logits) => worker.generate_from_logits(&mut cache, logits, &options, &mut |_, _| true),
            None => worker.generate(&mut cache, &prepared.prompt, &options, &mut |_, _| true),
        };
        assert_eq!(made.unwrap().text.trim(), outcome.answer.text, "{text}");
    }
    let calls = session.ledger().calls().len();
    session.ask(TASK).via(Handoff::FullKv).prepare().unwrap();
    assert_eq!(session.ledger().calls().len(), calls, "nothing is recorded");
}

#[test]
fn whole_sentences_and_segments_stay() {
    for units in [Units::Sentences, Units::Segments] {
        let pieces = notes();
        let mut once = embedded().session().unwrap();
        once.extend_all(lines(), &mut |_, _| {}).unwrap();
        let config =
            Compaction::keep_ratio(0.6).with_selection(Selection::shared()).with_spans(Spans::Units(units));
        let briefing = pieces.brief(TASK, &config).unwrap();
        let joined = once.brief(TASK, &config).unwrap();
        let marks =
            |briefing: &Briefing| briefing.explain(embedded()).iter().map(|p| p.kept).collect::<Vec<_>>();
        assert_eq!(marks(&briefing), marks(&joined));
        // A line of the notes is kept whole or not at all.
        let explained = briefing.explain(embedded());
        let head = embedded().session().unwrap().seq_len();
        assert!(explained[0].kept);
        let mut lines: Vec<Vec<bool>> = vec![Vec::new()];
        for position in &explained[head..] {
            lines.last_mut().unwrap().push(position.kept);
            if position.piece.ends_with('\n') {
                lines.push(Vec::new());
            }
        }
        assert!(lines.len() > 8);
        assert!(lines.iter().all(|line| line.iter().all(|kept| *kept) || line.iter().all(|kept| !kept)));
        assert!(explained.iter().any(|p| !p.kept));
    }
}

#[test]
fn every_source_of_queries_makes_the_same_briefing_twice() {
    let mut session = notes();
    let study = QuerySource::SelfStudy {
        prompts: vec!["What is known?".into(), "Who is named?".into()],
        max_new_tokens: 4,
        temperature: 0.8,
        seed: 5,
    };
    let random = QuerySource::Random { count: 16, seed: 3 };
    let parts = vec![(QuerySource::Task, 1.0), (QuerySource::ContextPrefill, 2.0), (random.clone(), 1.0)];
    let mixture = QuerySource::Mixture { parts, cap: 20, seed: 9 };
    let sources =
        [QuerySource::Task, QuerySource::ContextPrefill, QuerySource::RepeatPrefill, study, random, mixture];
    for source in sources {
        let config = ratio(0.3).with_queries(source.clone());
        let [a, b] = [(); 2].map(|()| session.brief(TASK, &config).unwrap());
        assert_eq!(bytes(&contents(a.cache())), bytes(&contents(b.cache())), "{source:?}");
        assert_eq!(a.kept_len(), session.brief(TASK, Compaction::keep_ratio(0.3)).unwrap().kept_len());
        let task = session.brief(TASK, ratio(0.3)).unwrap();
        let same = bytes(&contents(task.cache())) == bytes(&contents(a.cache()));
        assert_eq!(same, source == QuerySource::Task, "{source:?}");
        assert!(session.ask(TASK).over(&a).run().unwrap().answer.tokens.prefilled > 0);
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<BriefConfig>(&json).unwrap(), config);
    }
}

#[test]
fn a_trajectory_that_cannot_be_repeated_is_refused() {
    let mut session = notes();
    let limit = embedded().config().max_position_embeddings;
    session.extend(Segment::tool("word ".repeat(limit / 5))).unwrap();
    let config = ratio(0.3).with_queries(QuerySource::RepeatPrefill);
    match session.brief(TASK, &config) {
        Err(Error::Model(latent_briefing::model::Error::ContextOverflow { positions, .. })) => {
            assert!(positions > limit);
        }
        other => panic!("{other:?}"),
    }
}

fn policies(session: &WorkerSession) -> Vec<Compaction> {
    let (layers, heads) = (session.cache().num_layers(), embedded().config().num_key_value_heads);
    let shares = (0..layers).map(|l| (0..heads).map(|h| (1 + l + 2 * h) as f64).collect()).collect();
    vec![
        Compaction::keep_ratio(0.3),
        Compaction::keep_ratio(0.3).with_selection(Selection::per_layer()),
        Compaction::mad(1.0).with_selection(Selection::per_head()),
        Compaction::keep_ratio(0.3)
            .with_selection(Selection::per_head())
            .with_head_budgets(HeadBudgets { shares }),
        Compaction::with_budget(Budget::ErrorBelow { epsilon: 0.3, min_kept: 16 }),
    ]
}

#[test]
fn on_and_off_policy_agree_on_the_first_layer_and_on_the_slots_of_a_shared_mask() {
    let mut session = notes();
    let before = contents(session.cache());
    for compaction in policies(&session) {
        let plain = BriefConfig::from(compaction.clone()).with_lookahead(Lookahead::NONE);
        let off = session.brief(TASK, plain).unwrap();
        let config = BriefConfig::from(compaction.clone()).with_on_policy(true);
        let (on, reuse) = (
            session.brief(TASK, &config).unwrap(),
            session.brief(TASK, config.clone().with_task_state(TaskState::Reuse)).unwrap(),
        );
        let (a, b) = (contents(off.cache()), contents(on.cache()));
        for part in 0..3 {
            let wide = |values: &[f32]| values.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
            let live = |values: Vec<f64>| values.into_iter().map(|x| x.max(-1e9)).collect::<Vec<_>>();
            assert_close(&live(wide(&a[part])), &live(wide(&b[part])), 1e-4);
        }
        assert_ne!(a, b);
        assert_eq!(on.cache().logical_len(), session.seq_len());
        assert_eq!(on.report().scores.len(), session.seq_len());
        if compaction.selection == Selection::shared() {
            let marks = |b: &Briefing| b.explain(embedded()).iter().map(|p| p.kept_by).collect::<Vec<_>>();
            assert_eq!(marks(&off), marks(&on));
        }
        assert!((off.keep_ratio() - on.keep_ratio()).abs() < 0.2);
        // The task's state was computed over the briefing: reused or not, the answer is the same.
        let (a, b) = (
            session.ask(TASK).over(&on).run().unwrap().answer,
            session.ask(TASK).over(&reuse).run().unwrap().answer,
        );
        assert_eq!((a.text, a.tokens.attended), (b.text, b.tokens.attended));
    }
    assert_eq!(before, contents(session.cache()));
}

#[test]
fn on_policy_with_everything_kept_is_off_policy() {
    let session = notes();
    for selection in [Selection::shared(), Selection::per_head()] {
        let config = BriefConfig::from(Compaction::keep_ratio(1.0).with_selection(selection));
        let off = session.brief(TASK, &config).unwrap();
        let on = session.brief(TASK, config.with_on_policy(true)).unwrap();
        assert_eq!(contents(off.cache()), contents(on.cache()));
    }
}

#[test]
fn a_chunk_as_long_as_the_trajectory_is_no_chunk() {
    let session = notes();
    let whole = session.brief(TASK, ratio(0.3)).unwrap();
    for len in [session.seq_len(), usize::MAX] {
        let chunked = session.brief(TASK, ratio(0.3).with_chunking(Chunking::in_place(len))).unwrap();
        assert_eq!(contents(whole.cache()), contents(chunked.cache()));
        assert_eq!(whole.report().scores, chunked.report().scores);
    }
    let one = session.brief(TASK, ratio(0.3).with_chunking(Chunking::rerotated(usize::MAX))).unwrap();
    // Read without noting what it sees, a task's last few queries are summed in another order.
    for (a, b) in contents(whole.cache()).iter().zip(contents(one.cache())) {
        let far = a.iter().zip(&b).fold(0f32, |far, (a, b)| far.max((a - b).abs()));
        assert!(a.len() == b.len() && far < 1e-4, "{far:e}");
    }
}

#[test]
fn chunks_that_keep_everything_are_the_full_cache() {
    let session = notes();
    let full = logits(&session, session.cache());
    for len in [1, 17, 64] {
        let config = ratio(1.0).with_chunking(Chunking::in_place(len));
        let briefing = session.brief(TASK, &config).unwrap();
        assert_close(&logits(&session, briefing.cache()), &full, 1e-3);
    }
    // Read on its own, a chunk has the keys of the whole in the first layer, which has seen nothing but the token.
    let config = ratio(1.0).with_chunking(Chunking::rerotated(30));
    let briefing = session.brief(TASK, &config).unwrap();
    let (a, b) = (briefing.cache().layer(0).unwrap(), session.cache().layer(0).unwrap());
    assert_close(&flat(&a.keys), &flat(&b.keys), 1e-3);
    assert_close(&flat(&a.values), &flat(&b.values), 1e-3);
    assert_eq!(briefing.cache().logical_len(), session.seq_len());
}

#[test]
fn chunks_add_up_to_one_briefing() {
    let mut session = notes();
    let compactions = [
        Compaction::keep_ratio(0.4),
        Compaction::mad(1.0).with_selection(Selection::per_head()),
        Compaction::keep_ratio(0.4).with_spans(Spans::Units(Units::Sentences)),
    ];
    for compaction in compactions {
        for chunking in [Chunking::in_place(40), Chunking::rerotated(40), Chunking::in_place(3)] {
            let config = BriefConfig::from(compaction.clone()).with_chunking(chunking);
            let briefing = session.brief(TASK, &config).unwrap();
            let report = briefing.report();
            assert_eq!((report.seq_len, report.scores.len()), (session.seq_len(), session.seq_len()));
            assert_eq!(briefing.cache().logical_len(), session.seq_len());
            let explained = briefing.explain(embedded());
            assert!((explained[0].kept_by - 1.0).abs() < f32::EPSILON);
            let kept: f32 = explained.iter().map(|p| p.kept_by).sum();
            assert!((f64::from(kept) / session.seq_len() as f64 - briefing.keep_ratio()).abs() < 1e-4);
            assert_eq!(briefing.kept_len(), (f64::from(kept) - 1e-3).ceil() as usize);
            assert!(!report.masks.is_empty());
            let answer = session.ask(TASK).over(&briefing).run().unwrap().answer;
            assert!(answer.tokens.reused == briefing.kept_len() && answer.tokens.generated > 0);
        }
    }
}

#[test]
fn what_does_not_go_together_is_named() {
    let session = notes();
    let mixture = |parts: Vec<(QuerySource, f64)>, cap| QuerySource::Mixture { parts, cap, seed: 0 };
    let study = |prompts: &[&str], max_new_tokens, temperature| QuerySource::SelfStudy {
        prompts: prompts.iter().map(|p| (*p).to_owned()).collect(),
        max_new_tokens,
        temperature,
        seed: 0,
    };
    let inner = mixture(vec![(QuerySource::Task, 1.0)], 4);
    let base = || ratio(0.3);
    for (config, name) in [
        (base().with_on_policy(true).with_queries(QuerySource::ContextPrefill), "on_policy"),
        (base().with_on_policy(true).with_chunking(Chunking::in_place(9)), "on_policy"),
        (base().with_chunking(Chunking::in_place(0)), "chunking.chunk_len"),
        (base().with_chunking(Chunking::rerotated(9)).with_queries(QuerySource::RepeatPrefill), "queries"),
        (base().with_chunking(Chunking::rerotated(9)).with_task_state(TaskState::Reuse), "task_state"),
        (base().with_queries(QuerySource::Random { count: 0, seed: 0 }), "queries.count"),
        (base().with_queries(study(&[], 4, 0.0)), "queries.prompts"),
        (base().with_queries(study(&["x", " "], 4, 0.0)), "queries.prompts"),
        (base().with_queries(study(&["x"], 0, 0.0)), "queries.max_new_tokens"),
        (base().with_queries(study(&["x"], 4, f64::NAN)), "queries.temperature"),
        (base().with_queries(mixture(vec![], 4)), "queries.parts"),
        (base().with_queries(mixture(vec![(QuerySource::Task, 0.0)], 4)), "queries.parts"),
        (base().with_queries(mixture(vec![(inner, 1.0)], 4)), "queries.parts"),
        (base().with_queries(mixture(vec![(QuerySource::Task, 1.0)], 0)), "queries.cap"),
    ] {
        match session.brief(TASK, &config) {
            Err(Error::Config { field, .. }) => assert_eq!(field, name),
            other => panic!("{name}: {other:?}"),
        }
    }
}
