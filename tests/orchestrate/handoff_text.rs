//! Handoffs as short texts and as JSON.

use latent_briefing::am::selectors::SnapKv;
use latent_briefing::am::{BetaMethod, Compaction, ScoreAgg, Selection, Sharing, Spans, Units, ValuesMethod};
use latent_briefing::prelude::*;
use latent_briefing::session::{
    HandoffKind, Learned, LlmLingua, LongLlmLingua, PassageOrder, SelectiveContext, SentenceScore,
    SqueezeConfig, SummaryConfig, SummaryScope, TextUnit,
};

fn all() -> Vec<(&'static str, Handoff)> {
    let ratio = SelectionSize::KeepRatio;
    let summary = SummaryConfig::default();
    let briefing = |compaction: Compaction| Handoff::briefing(compaction);
    let reuse = BriefConfig::from(Compaction::keep_ratio(0.2)).with_task_state(TaskState::Reuse);
    vec![
        ("none", Handoff::None),
        ("full-kv", Handoff::FullKv),
        ("full-kv:bits=16", Handoff::FullKv),
        ("full-kv:bits=4", Handoff::PackedKv(Storage::Bits4)),
        ("packed-kv", Handoff::PackedKv(Storage::Bits8)),
        ("packed-kv:bits=2", Handoff::PackedKv(Storage::Bits2)),
        ("text-replay", Handoff::TextReplay),
        ("notes", Handoff::Notes),
        ("summary", Handoff::Summary(summary.clone())),
        ("summary:200", Handoff::Summary(summary.clone().with_max_tokens(200))),
        (
            "summary:50,scope=task",
            Handoff::Summary(summary.with_max_tokens(50).with_scope(SummaryScope::Task)),
        ),
        ("bm25", Handoff::bm25(ratio(0.1))),
        ("bm25:0.25", Handoff::bm25(ratio(0.25))),
        ("bm25:64t,passage=40", Handoff::Bm25 { size: SelectionSize::KeptLen(64), passage: 40 }),
        ("recent:0.1", Handoff::Recent(ratio(0.1))),
        (" recent : 32t ", Handoff::Recent(SelectionSize::KeptLen(32))),
        ("random:keep=0.5, seed=7", Handoff::Random { size: ratio(0.5), seed: 7 }),
        ("latent-briefing", Handoff::briefing(BriefConfig::default())),
        ("latent-briefing:tau=2.5", briefing(Compaction::mad(2.5))),
        ("latent-briefing:keep=0.1", briefing(Compaction::keep_ratio(0.1))),
        ("latent-briefing:keep=40t", briefing(Compaction::kept_len(40))),
        ("latent-briefing:error=0.1", briefing(Compaction::error_below(0.1))),
        ("latent-briefing:keep=0.2,state=reuse", Handoff::briefing(reuse)),
        (
            "latent-briefing:keep=0.2,bits=8",
            BriefConfig::from(Compaction::keep_ratio(0.2)).with_storage(Storage::Bits8).into(),
        ),
        ("latent-briefing:bits=16", Handoff::briefing(BriefConfig::default())),
        (
            "renewed-briefing:keep=0.2,bits=2",
            Renewal {
                briefing: BriefConfig::from(Compaction::keep_ratio(0.2)).with_storage(Storage::Bits2),
                ..Renewal::default()
            }
            .into(),
        ),
        ("latent-briefing:coverage=0.9", briefing(Compaction::coverage(0.9))),
        (
            "latent-briefing:keep=0.1,select=per-head,heads=all,floor=0.1",
            briefing(
                Compaction::keep_ratio(0.1)
                    .with_selection(Selection::per_head())
                    .with_sharing(Sharing::All { floor: 0.1 }),
            ),
        ),
        ("renewed-briefing:keep=0.1,renew=8", Renewal::every(8, Compaction::keep_ratio(0.1)).into()),
        (
            "latent-briefing:keep=0.1,select=per-head,fit=none",
            briefing(Compaction::keep_ratio(0.1).with_selection(Selection::per_head()).selection_only()),
        ),
        (
            "latent-briefing:keep=0.1,select=snapkv( window=16; pool=5 ),state=reuse",
            Handoff::briefing(
                BriefConfig::from(
                    Compaction::keep_ratio(0.1)
                        .with_selection(Selection::new(SnapKv { window: 16, pool: 5 })),
                )
                .with_task_state(TaskState::Reuse),
            ),
        ),
        (
            "latent-briefing:keep=0.1,score=max,spans=1,fit=biases",
            briefing(
                Compaction::keep_ratio(0.1)
                    .with_score(ScoreAgg::Max)
                    .with_spans(Spans::OFF)
                    .with_values(ValuesMethod::Copy),
            ),
        ),
        (
            "latent-briefing:keep=0.1,score=rms,spans=sentences,fit=values",
            briefing(
                Compaction::keep_ratio(0.1)
                    .with_score(ScoreAgg::Rms)
                    .with_spans(Spans::Units(Units::Sentences))
                    .with_beta(BetaMethod::Zero),
            ),
        ),
    ]
}

/// Messages with fewer tokens.
fn messages() -> Vec<(&'static str, Handoff)> {
    let ratio = SelectionSize::KeepRatio;
    let sentences = |size, by| Handoff::Sentences { size, by };
    vec![
        ("selective-context", Handoff::SelectiveContext(SelectiveContext::default())),
        (
            "selective-context:0.3,unit=token",
            Handoff::SelectiveContext(SelectiveContext { size: ratio(0.3), unit: TextUnit::Token }),
        ),
        ("llmlingua:keep=0.5", Handoff::LlmLingua(LlmLingua::default())),
        (
            "llmlingua:64t,stretch=50,coarse=3,passage=64",
            Handoff::LlmLingua(LlmLingua {
                size: SelectionSize::KeptLen(64),
                stretch: 50,
                coarse: 3.0,
                passage: 64,
            }),
        ),
        ("longllmlingua", Handoff::LongLlmLingua(LongLlmLingua::default())),
        (
            "longllmlingua:0.1,order=relevance,spread=0",
            Handoff::LongLlmLingua(LongLlmLingua {
                size: ratio(0.1),
                order: PassageOrder::Relevance,
                spread: 0.0,
                ..LongLlmLingua::default()
            }),
        ),
        ("sentences", sentences(ratio(0.1), SentenceScore::Bm25)),
        ("sentences:0.2,by=attention", sentences(ratio(0.2), SentenceScore::Attention)),
        ("squeeze", Handoff::Squeeze(SqueezeConfig::default())),
        (
            "squeeze:k=2,kl=0.5,tokens=64,draft=8,temperature=1,seed=7",
            Handoff::Squeeze(SqueezeConfig {
                k: 2,
                kl: 0.5,
                tokens: 64,
                draft: 8,
                temperature: 1.0,
                seed: 7,
            }),
        ),
    ]
}

/// Queries of other kinds, and parts that are compacted apart.
fn by_other_queries() -> Vec<(&'static str, Handoff)> {
    vec![
        (
            "latent-briefing:keep=0.1,echo=64,draft=32,first=0.5,check=8",
            BriefConfig::from(Compaction::keep_ratio(0.1))
                .with_lookahead(Lookahead { echo: 64, draft: Some(Draft::of(32)), ..Lookahead::NONE })
                .into(),
        ),
        (
            "latent-briefing:keep=0.1,earlier=32",
            BriefConfig::from(Compaction::keep_ratio(0.1))
                .with_lookahead(Lookahead { earlier: 32, ..Lookahead::NONE })
                .into(),
        ),
        (
            "latent-briefing:keep=0.1,vectors=some.safetensors",
            BriefConfig::from(Compaction::keep_ratio(0.1))
                .with_lookahead(Lookahead::learned("some.safetensors"))
                .into(),
        ),
        (
            "latent-briefing:keep=0.1,vectors=a folder/some.safetensors,weight=2.5,echo=64,draft=32",
            BriefConfig::from(Compaction::keep_ratio(0.1))
                .with_lookahead(Lookahead {
                    echo: 64,
                    learned: Some(Learned { weight: 2.5, ..Learned::of("a folder/some.safetensors") }),
                    draft: Some(Draft::of(32)),
                    ..Lookahead::NONE
                })
                .into(),
        ),
        (
            "latent-briefing:keep=0.1,queries=repeat,chunks=512",
            BriefConfig::from(Compaction::keep_ratio(0.1))
                .with_queries(QuerySource::RepeatPrefill)
                .with_chunking(Chunking::in_place(512))
                .into(),
        ),
        (
            "latent-briefing:keep=0.1,pieces=512",
            BriefConfig::from(Compaction::keep_ratio(0.1)).with_chunking(Chunking::rerotated(512)).into(),
        ),
    ]
}

#[test]
fn short_texts_are_handoffs() {
    for (text, handoff) in all().into_iter().chain(messages()).chain(by_other_queries()) {
        assert_eq!(text.parse::<Handoff>().unwrap(), handoff, "{text}");
    }
}

#[test]
fn a_text_that_is_none_says_why() {
    for (text, word) in [
        ("", "latent-briefing"),
        ("full", "full-kv"),
        ("none:0.1", "no such argument"),
        ("notes:a=1", "\"a\""),
        ("summary:many", "whole number"),
        ("summary:0", "at least 1"),
        ("summary:scope=all", "trajectory or task"),
        ("bm25:", "each argument once"),
        ("bm25:0.1,0.2", "each argument once"),
        ("bm25:1.5", "(0, 1]"),
        ("bm25:0t", "at least 1"),
        ("bm25:64", "(0, 1]"),
        ("bm25:-3t", "64t"),
        ("bm25:passage=0", "at least 1"),
        ("recent:nan", "(0, 1]"),
        ("random:seed=x", "whole number"),
        ("random:seed=1,seed=2", "each argument once"),
        ("latent-briefing:0.1", "no such argument"),
        ("latent-briefing:tau=-1", "tau"),
        ("latent-briefing:tau=4,keep=0.1", "one of"),
        ("latent-briefing:heads=some", "equal, layer, all or coverage"),
        ("latent-briefing:floor=0.2", "goes with heads"),
        ("latent-briefing:select=shared,heads=all", "does not go with"),
        ("latent-briefing:draft=8,over=notes", "briefing or full"),
        ("latent-briefing:first=0.3", "go with draft"),
        ("latent-briefing:weight=2", "goes with vectors"),
        ("latent-briefing:vectors=,echo=8", "a file of vectors"),
        ("latent-briefing:vectors=a,weight=0", "above 0"),
        ("latent-briefing:vectors=a,weight=inf", "above 0"),
        ("latent-briefing:vectors=a,queries=repeat", "task's own queries"),
        ("latent-briefing:chunks=64,pieces=64", "chunks= or pieces="),
        ("latent-briefing:queries=all", "self-study"),
        ("latent-briefing:queries=repeat,echo=8", "task's own queries"),
        ("renewed-briefing:renew=0", "at least 1"),
        ("latent-briefing:state=warm", "recompute or reuse"),
        ("latent-briefing:select=best", "per-layer"),
        ("latent-briefing:select=per-haed", "there are per-head"),
        ("latent-briefing:select=snapkv(windw=3)", "takes window, pool"),
        ("latent-briefing:select=snapkv(pool=4)", "snapkv.pool"),
        ("latent-briefing:tau=4,select=recent", "does not go with"),
        ("latent-briefing:fit=some", "all, none, values or biases"),
        ("latent-briefing:score=min", "mean, max or rms"),
        ("latent-briefing:spans=words", "sentences or segments"),
        ("latent-briefing:spans=4", "odd"),
        ("latent-briefing:bits=3", "16, 8, 4 or 2"),
        ("full-kv:bits=0", "16, 8, 4 or 2"),
        ("packed-kv:bits=16", "full-kv"),
        ("recent:0.1,bits=8", "no such argument"),
    ] {
        let error = text.parse::<Handoff>().expect_err(text).to_string();
        assert!(error.contains(word), "{text:?}: {error:?} does not name {word:?}");
    }
}

#[test]
fn json_has_the_names_and_comes_back() {
    for (_, handoff) in all().into_iter().chain(messages()).chain(by_other_queries()) {
        let json = serde_json::to_value(&handoff).unwrap();
        let name = json.as_str().or_else(|| json.as_object()?.keys().next().map(String::as_str)).unwrap();
        assert_eq!(name, handoff.name());
        assert_eq!(serde_json::from_value::<Handoff>(json).unwrap(), handoff);
        let kind = serde_json::to_value(handoff.kind()).unwrap();
        assert_eq!(kind, handoff.name());
        assert_eq!(handoff.name().parse::<HandoffKind>().unwrap(), handoff.kind());
    }
    let short: Handoff = serde_json::from_str(r#"{"bm25": {"size": {"kept_len": 9}}}"#).unwrap();
    assert_eq!(short, Handoff::bm25(SelectionSize::KeptLen(9)));
    for wrong in [r#"{"recent": {"keep": 0.1}}"#, r#""nothing""#, r#"{"summary": {"tokens": 3}}"#] {
        assert!(serde_json::from_str::<Handoff>(wrong).is_err(), "{wrong}");
    }
}

/// What was read from a file is checked before anything is computed.
#[test]
fn ranges_are_checked_when_it_is_used() {
    let mut session = super::notes();
    let handoff: Handoff = serde_json::from_str(r#"{"recent": {"keep_ratio": 7.0}}"#).unwrap();
    let error = session.ask("Who?").via(&handoff).run().unwrap_err().to_string();
    assert!(error.contains("keep_ratio"), "{error}");
    assert!(session.ledger().calls().is_empty());
}
