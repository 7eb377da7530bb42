//! A trajectory that comes near the model's position limit.

use candle_core::Tensor;
use latent_briefing::am::{BetaMethod, Compaction, Compactor, LayerKv, Protected};
use latent_briefing::model::{KvCache, PrefillOptions};
use latent_briefing::prelude::*;
use latent_briefing::session::Error;
use latent_briefing::session::{CompactOldest, Extended, RoomFit, RoomPolicy, RoomReport};

use super::{contents, lines};
use crate::support::embedded;

const REQUEST: &str = "Repeat the previous context.";
const TASK: &str = "Who keeps the Torwick vault?";

/// The same operations, but for the order of summation over pieces of the cache.
const MOVED: f32 = 1e-3;

/// Positions that the trajectory may take in these tests.
const CEILING: usize = 300;

fn oldest() -> CompactOldest {
    let limit = embedded().config().position_limit();
    CompactOldest { reserve: limit - CEILING, ..CompactOldest::default() }
}

fn session(room: RoomPolicy) -> WorkerSession {
    WorkerSession::with(embedded(), SessionConfig { room, ..SessionConfig::default() }).unwrap()
}

fn compacting() -> WorkerSession {
    session(RoomPolicy::CompactOldest(oldest()))
}

/// As many lines of notes as fit, and the next one.
fn fill(session: &mut WorkerSession) -> (Vec<Segment>, Segment) {
    let mut read = Vec::new();
    for number in 0.. {
        let segment =
            Segment::tool(format!("Part {number}: the Narmont chart is kept by Deka, copy {number}."));
        let tokens = format!("tool: {}\n", segment.text);
        let tokens = embedded().tokenizer().encode_text(&tokens).unwrap().len();
        if session.seq_len() + tokens > CEILING {
            return (read, segment);
        }
        assert!(session.extend(segment.clone()).unwrap().room.is_empty());
        read.push(segment);
    }
    unreachable!("a counter ends")
}

fn aligned(session: &WorkerSession) {
    let cache = session.cache();
    assert_eq!(cache.logical_len(), session.seq_len());
    for layer in 0..cache.num_layers() {
        assert_eq!(cache.slot_count(layer), session.seq_len());
    }
    let units =
        session.unit_starts(latent_briefing::am::Spans::Units(latent_briefing::am::Units::Segments)).unwrap();
    assert!(units.windows(2).all(|pair| pair[0] < pair[1]), "{units:?}");
    assert!(units.iter().all(|start| (*start as usize) < session.seq_len()));
}

/// The same by hand: queries of the repetition, one mask of `lb_am`, every key rotated on its own, one chunk.
fn by_hand(whole: &WorkerSession, policy: CompactOldest, report: RoomReport) -> (KvCache, Vec<u32>) {
    let (model, cache, tokens) = (embedded().model(), whole.cache(), whole.tokens());
    let RoomReport { from, to, kept, .. } = report;
    let mut repeating = cache.fork();
    repeating.truncate(to).unwrap();
    let request = whole.task_tokens(REQUEST).unwrap();
    let options = PrefillOptions::default();
    model.prefill(&request, &mut repeating, &options, &mut |_, _| {}).unwrap();
    let queries =
        model.prefill_capturing(&tokens[from..to], &mut repeating, &options, &mut |_, _| {}).unwrap().queries;
    let compaction = Compaction::kept_len(kept)
        .with_selection(Selection::shared())
        .with_protect(Protected { first: 0, last: 0 });
    let compaction = match policy.fit {
        RoomFit::Nothing => compaction.selection_only(),
        RoomFit::Values => compaction.with_beta(BetaMethod::Zero),
        RoomFit::BiasesAndValues => compaction,
    };
    let layers = cache.layers_range(from, to).unwrap();
    let compacted = Compactor::new(&layers, &queries, &compaction).run().unwrap();
    let slots: Vec<usize> =
        compacted.layers[0].kept.head(0).iter().map(|slot| *slot as usize + from).collect();
    let rows: Vec<usize> = (0..from).chain(slots.iter().copied()).chain(to..tokens.len()).collect();
    let layer = |number: usize| {
        let (old, new) = (cache.layer(number).unwrap(), &compacted.layers[number]);
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for (place, row) in rows.iter().enumerate() {
            let key = old.keys.narrow(1, *row, 1).unwrap();
            let by = place.cast_signed() - row.cast_signed();
            keys.push(model.rerotate(number, &key, &[*row as u32], by).unwrap());
            values.push(match slots.iter().position(|slot| slot == row) {
                Some(slot) => new.values.narrow(1, slot, 1).unwrap(),
                None => old.values.narrow(1, *row, 1).unwrap(),
            });
        }
        let heads = old.keys.dim(0).unwrap();
        let zeros =
            |count: usize| Tensor::zeros((heads, count), candle_core::DType::F32, cache.device()).unwrap();
        let bias = Tensor::cat(&[zeros(from), new.bias.clone(), zeros(tokens.len() - to)], 1).unwrap();
        let (keys, values) = (Tensor::cat(&keys, 1).unwrap(), Tensor::cat(&values, 1).unwrap());
        LayerKv::new(keys, values, Some(bias)).unwrap()
    };
    let layers: Vec<LayerKv> = (0..cache.num_layers()).map(layer).collect();
    let mut fresh = model.new_cache();
    fresh.append_layers(&layers, rows.len()).unwrap();
    (fresh, rows.iter().map(|row| tokens[*row]).collect())
}

#[test]
fn a_compaction_by_hand_gives_the_same_cache() {
    for fit in [RoomFit::Nothing, RoomFit::Values, RoomFit::BiasesAndValues] {
        let policy = CompactOldest { fit, ..oldest() };
        let mut session = session(RoomPolicy::CompactOldest(policy));
        let (read, next) = fill(&mut session);
        let mut whole = embedded().session().unwrap();
        for segment in read {
            whole.extend(segment).unwrap();
        }
        assert_eq!(session.tokens(), whole.tokens());
        let before = whole.seq_len();
        let Extended { room, segments } = session.extend(next.clone()).unwrap();
        let report = room[0];
        assert_eq!((room.len(), report.seq_len), (1, before));
        assert_eq!(session.seq_len(), before - report.freed() + segments[0].entered);
        aligned(&session);

        let (mut cache, mut tokens) = by_hand(&whole, policy, report);
        let added = session.tokens()[session.seq_len() - segments[0].entered..].to_vec();
        embedded().model().prefill(&added, &mut cache, &PrefillOptions::default(), &mut |_, _| {}).unwrap();
        tokens.extend(&added);
        assert_eq!(session.tokens(), tokens);
        let layers = session.cache().layers().unwrap();
        for (number, (got, expected)) in layers.iter().zip(cache.layers().unwrap()).enumerate() {
            let flat = |t: &Tensor| {
                t.flatten_all().unwrap().to_dtype(candle_core::DType::F32).unwrap().to_vec1::<f32>().unwrap()
            };
            for (a, b) in [(&got.keys, &expected.keys), (&got.values, &expected.values)] {
                let (a, b) = (flat(a), flat(b));
                let scale = b.iter().fold(0f32, |most, x| most.max(x.abs()));
                let worst = a.iter().zip(&b).fold(0f32, |most, (a, b)| most.max((a - b).abs()));
                assert!(worst <= MOVED * scale, "{fit:?}, layer {number}: {worst} of {scale}");
            }
            let (a, b) = (flat(got.bias.as_ref().unwrap()), flat(expected.bias.as_ref().unwrap()));
            assert_eq!(b.iter().any(|b| *b != 0.0), fit == RoomFit::BiasesAndValues);
            assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= MOVED), "biases of layer {number}");
        }
        let task = session.task_tokens("Who keeps the Narmont chart?").unwrap();
        let [a, b] = [session.cache().fork(), cache].map(|mut cache| {
            embedded()
                .generate(&mut cache, &task, &GenerateOptions::greedy(8), &mut |_, _| true)
                .unwrap()
                .text
        });
        assert_eq!(a, b);
    }
}

#[test]
fn many_rounds_far_past_the_limit() {
    let mut session = compacting();
    let (mut rounds, mut bytes, mut runs) = (0, Vec::new(), Vec::new());
    let mut number = 0;
    while session.trajectory().len() < 150 {
        number += 1;
        let segment =
            Segment::tool(format!("Part {number}: the Narmont chart is kept by Deka, copy {number}."));
        rounds += session.extend(segment).unwrap().room.len();
        assert!(session.seq_len() <= CEILING);
        aligned(&session);
        bytes.push(session.cache().bytes());
        runs.push(session.cache().runs());
    }
    let ledger = session.ledger().sum();
    assert!(ledger.trajectory_prefilled > 8 * CEILING && rounds >= 10, "{rounds} rounds");
    assert_eq!(session.room_reports().len(), rounds);
    assert_eq!(ledger.room_prefilled, session.room_reports().iter().map(|report| report.read).sum::<usize>());
    // Memory is flat: never more than the positions that the trajectory may take, in a handful of pieces.
    let per_slot = embedded().session().unwrap().cache().bytes() / embedded().session().unwrap().seq_len();
    let biases = 4 * embedded().config().num_hidden_layers * embedded().config().num_key_value_heads;
    assert!(bytes.iter().all(|bytes| *bytes <= CEILING * (per_slot + biases)));
    assert!(runs.iter().all(|runs| *runs <= 4), "{runs:?}");
    // What was said last is known, and briefings are cut from what is left.
    session.extend(Segment::finding("The Torwick vault is kept by Selio.")).unwrap();
    assert_eq!(session.ask(TASK).via(Handoff::FullKv).run().unwrap().answer.text, "Selio");
    for compaction in
        [Compaction::keep_ratio(0.2), Compaction::mad(2.0).with_selection(Selection::per_head())]
    {
        let briefing = session.brief(TASK, &compaction).unwrap();
        assert_eq!(briefing.seq_len(), session.seq_len());
        let explained = briefing.explain(embedded());
        assert_eq!(explained.len(), session.seq_len());
        let text: String = explained.iter().map(|position| position.piece.as_str()).collect();
        assert!(text.ends_with("finding: The Torwick vault is kept by Selio.\n"));
        assert_eq!(session.ask(TASK).over(&briefing).run().unwrap().answer.text, "Selio");
    }
}

/// Every handoff and every kind of briefing answers over a cache whose oldest part is compacted.
#[test]
fn every_handoff_goes_on_behind_a_compaction() {
    let mut session =
        session(RoomPolicy::CompactOldest(CompactOldest { fit: RoomFit::BiasesAndValues, ..oldest() }));
    let (_, next) = fill(&mut session);
    session.extend(next).unwrap();
    session.extend(Segment::finding("The Torwick vault is kept by Selio.")).unwrap();
    assert_eq!(session.room_reports().len(), 1);
    let before = contents(session.cache());
    let briefing = BriefConfig::from(Compaction::keep_ratio(0.5));
    let size = SelectionSize::KeepRatio(0.5);
    for handoff in [
        Handoff::FullKv,
        Handoff::Recent(size),
        "bm25:0.5".parse().unwrap(),
        Handoff::TextReplay,
        Handoff::briefing(briefing.clone()),
        Handoff::briefing(briefing.clone().with_task_state(TaskState::Reuse)),
        Handoff::briefing(briefing.clone().with_on_policy(true)),
        Handoff::briefing(briefing.clone().with_chunking(Chunking::in_place(64))),
    ] {
        let outcomes = session.ask_all([TASK, TASK]).via(&handoff).run().unwrap();
        for outcome in outcomes {
            assert_eq!(outcome.answer.text, "Selio", "{handoff:?}");
        }
    }
    // Chance, a very short summary, text with gaps that is read anew, and queries that know no task.
    for handoff in [
        Handoff::Random { size, seed: 2 },
        "summary:4".parse().unwrap(),
        Handoff::briefing(briefing.clone().with_chunking(Chunking::rerotated(64))),
        Handoff::briefing(briefing.with_queries(QuerySource::ContextPrefill)),
    ] {
        let outcomes = session.ask_all([TASK, TASK]).via(&handoff).run().unwrap();
        assert_eq!(outcomes[0].answer.text, outcomes[1].answer.text);
    }
    assert_eq!(contents(session.cache()), before);
}

/// What was compacted is still all there as text, and text that does not fit is refused.
#[test]
fn replay_needs_the_whole_text() {
    let limit = embedded().config().position_limit();
    let room = RoomPolicy::CompactOldest(CompactOldest { reserve: limit - 1000, ..CompactOldest::default() });
    let mut session = session(room);
    let filler = Segment::tool("Nothing at all was found in this part. ".repeat(30));
    let mut entered = session.seq_len();
    while entered <= limit {
        entered += session.extend(filler.clone()).unwrap().entered();
    }
    assert!(session.seq_len() <= 1000);
    session.extend(Segment::finding("The Torwick vault is kept by Selio.")).unwrap();
    match session.ask(TASK).via(Handoff::TextReplay).run() {
        Err(Error::Model(latent_briefing::model::Error::ContextOverflow { positions, limit: named })) => {
            assert!(positions > entered && named == limit);
        }
        other => panic!("{other:?}"),
    }
    let found = session.ask(TASK).via(Handoff::bm25(SelectionSize::KeptLen(200))).run().unwrap();
    assert_eq!(found.answer.text, "Selio");
    assert!(found.record.seq_len > limit, "the size is a share of all text");
}

/// One segment, and many at once, longer than the trajectory may be.
#[test]
fn what_is_too_long_for_one_round_is_read_in_several() {
    let mut heard = Vec::new();
    let mut session = compacting();
    let long = Segment::tool("Nothing was found in this part. ".repeat(100));
    let extended = session.extend_with(long, &mut |done, all| heard.push((done, all))).unwrap();
    assert!(extended.entered() > 2 * CEILING && extended.room.len() > 1);
    assert_eq!(heard.last(), Some(&(extended.entered(), extended.entered())));
    assert!(heard.windows(2).all(|pair| pair[0].0 <= pair[1].0));
    aligned(&session);
    let many = (0..20).flat_map(|_| lines()).chain([Segment::finding("The Torwick vault is kept by Selio.")]);
    let extended = session.extend_all(many, &mut |_, _| {}).unwrap();
    assert!(extended.room.len() > 2);
    aligned(&session);
    assert_eq!(session.trajectory().len(), 162);
    assert_eq!(session.ask(TASK).via(Handoff::FullKv).run().unwrap().answer.text, "Selio");
}

#[test]
fn breaking_off_between_rounds_changes_nothing() {
    let mut session = compacting();
    fill(&mut session);
    let before = (
        contents(session.cache()),
        session.tokens().to_vec(),
        session.ledger().clone(),
        session.trajectory().len(),
    );
    for stop_at in 1..6 {
        let mut heard = 0;
        let long = Segment::tool("Nothing was found in this part. ".repeat(100));
        let result = session.extend_while([long], &mut |_, _| {
            heard += 1;
            heard < stop_at
        });
        assert!(matches!(result, Err(Error::Cancelled)));
        assert_eq!(contents(session.cache()), before.0);
        assert_eq!(
            (session.tokens(), session.ledger(), session.trajectory().len()),
            (&before.1[..], &before.2, before.3)
        );
        assert!(session.room_reports().is_empty());
    }
}

#[test]
fn refusing_names_the_policy_and_changes_nothing() {
    let mut session = session(RoomPolicy::Refuse);
    session.extend_all(lines(), &mut |_, _| {}).unwrap();
    let before = (contents(session.cache()), session.trajectory().len(), session.ledger().clone());
    let long = "word ".repeat(embedded().config().position_limit());
    let error = session.extend_all([Segment::tool("fits"), Segment::tool(long)], &mut |_, _| {}).unwrap_err();
    assert!(matches!(error, Error::NoRoom { .. }));
    assert!(error.to_string().contains("refuse"), "{error}");
    assert_eq!(before, (contents(session.cache()), session.trajectory().len(), session.ledger().clone()));
}

#[test]
fn policies_out_of_range_are_named() {
    let limit = embedded().config().position_limit();
    let of = |change: fn(&mut CompactOldest)| {
        let mut policy = oldest();
        change(&mut policy);
        RoomPolicy::CompactOldest(policy)
    };
    for (room, field) in [
        (of(|p| p.keep_ratio = 0.0), "room.keep_ratio"),
        (of(|p| p.keep_ratio = 1.0), "room.keep_ratio"),
        (of(|p| p.keep_ratio = f64::NAN), "room.keep_ratio"),
        (of(|p| p.share = 0.0), "room.share"),
        (of(|p| p.share = 1.1), "room.share"),
        (of(|p| p.queries = 0), "room.queries"),
        (of(|p| p.reserve = 3), "room.reserve"),
        (RoomPolicy::CompactOldest(CompactOldest { reserve: limit, ..oldest() }), "room.reserve"),
        (of(|p| p.reserve = usize::MAX), "room.reserve"),
    ] {
        match WorkerSession::with(embedded(), SessionConfig { room, ..SessionConfig::default() }) {
            Err(Error::Config { field: named, .. }) => assert_eq!(named, field),
            other => panic!("{field}: {other:?}"),
        }
    }
    let json = r#"{"compact-oldest": {"keep_ratio": 0.25, "fit": "values"}}"#;
    let room: RoomPolicy = serde_json::from_str(json).unwrap();
    let expected = CompactOldest { keep_ratio: 0.25, fit: RoomFit::Values, ..CompactOldest::default() };
    assert_eq!(room, RoomPolicy::CompactOldest(expected));
    assert_eq!(serde_json::from_str::<RoomPolicy>(&serde_json::to_string(&room).unwrap()).unwrap(), room);
    assert!(serde_json::from_str::<RoomPolicy>(r#"{"compact-oldest": {"keep": 0.25}}"#).is_err());
}

/// All there is counts as the oldest part, down to hardly anything.
#[test]
fn extreme_shares_work() {
    for (keep_ratio, share) in [(0.01, 1.0), (0.9, 0.05), (0.5, 1.0)] {
        let mut session =
            session(RoomPolicy::CompactOldest(CompactOldest { keep_ratio, share, queries: 7, ..oldest() }));
        for _ in 0..12 {
            session.extend_all(lines(), &mut |_, _| {}).unwrap();
            aligned(&session);
        }
        assert!(session.seq_len() <= CEILING && !session.room_reports().is_empty());
        assert!(session.ask(TASK).via(Handoff::FullKv).run().is_ok());
    }
}
