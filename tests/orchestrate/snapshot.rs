//! A moment of a trajectory, briefed and answered from many threads while its session goes on.

use latent_briefing::am::{Compaction, Omp, Selection};
use latent_briefing::model::Worker;
use latent_briefing::prelude::*;
use latent_briefing::session::{CompactOldest, RoomPolicy};

use super::{contents, lines, notes};
use crate::support::embedded;

const TASKS: [&str; 4] = [
    "Who keeps the Velmar ledger?",
    "What is the code of the Oslund relay?",
    "Where does Anara work?",
    "Say it in one word: in which place is the vault of Torwick stored, if it is stored anywhere at all?",
];

fn handoffs() -> Vec<Handoff> {
    let size = SelectionSize::KeptLen(30);
    let ratio = || BriefConfig::from(Compaction::keep_ratio(0.3));
    vec![
        Handoff::None,
        Handoff::FullKv,
        Handoff::TextReplay,
        Handoff::Notes,
        "summary:6".parse().unwrap(),
        "summary:6,scope=task".parse().unwrap(),
        Handoff::bm25(SelectionSize::KeptLen(70)),
        Handoff::Random { size, seed: 3 },
        ratio().into(),
        ratio().with_task_state(TaskState::Reuse).into(),
        ratio().with_on_policy(true).into(),
        ratio().with_chunking(Chunking::rerotated(20)).into(),
        ratio().with_queries(QuerySource::RepeatPrefill).into(),
        Compaction::keep_ratio(0.3).with_selection(Selection::omp(Omp::default())).into(),
        Compaction::error_below(0.3).with_selection(Selection::per_head()).into(),
    ]
}

/// Everything that a call yields, down to the bits.
#[derive(Debug, PartialEq)]
struct Seen {
    text: String,
    slots: [usize; 4],
    keep_ratio: u64,
    briefing: Vec<Vec<u32>>,
    logits: Vec<u32>,
}

fn bits(contents: Vec<Vec<f32>>) -> Vec<Vec<u32>> {
    contents.into_iter().map(|part| part.into_iter().map(f32::to_bits).collect()).collect()
}

fn seen(snapshot: &Snapshot, handoff: &Handoff, task: &str) -> Seen {
    let outcome = snapshot.ask(task).via(handoff).run().unwrap();
    let mut prepared = snapshot.ask(task).via(handoff).prepare().unwrap();
    let model = snapshot.worker().model();
    let logits =
        prepared.logits.unwrap_or_else(|| model.forward(&prepared.prompt, &mut prepared.cache).unwrap());
    let tokens = outcome.answer.tokens;
    Seen {
        text: outcome.answer.text,
        // Who asks first pays for a summary; so much is the same for all.
        slots: [tokens.attended, tokens.reused, tokens.generated, outcome.kept_len],
        keep_ratio: outcome.keep_ratio.to_bits(),
        briefing: outcome.briefing.map(|briefing| bits(contents(briefing.cache()))).unwrap_or_default(),
        logits: logits.to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect(),
    }
}

fn seen_by_all(snapshot: &Snapshot, task: &str) -> Vec<Seen> {
    handoffs().iter().map(|handoff| seen(snapshot, handoff, task)).collect()
}

fn with_notes() -> WorkerSession {
    let mut session = notes();
    session.note(Some("relay"), "its code is 5521").unwrap();
    session
}

/// What goes to other threads, and what they share.
#[test]
fn sessions_and_snapshots_go_to_any_thread() {
    fn shared<T: Send + Sync>() {}
    fn cloned<T: Clone + Send + Sync + 'static>() {}
    cloned::<Snapshot>();
    cloned::<Worker>();
    shared::<WorkerSession>();
    shared::<Briefing>();
    shared::<Outcome>();
    shared::<latent_briefing::session::Prepared>();
    shared::<latent_briefing::session::Error>();
}

#[test]
fn many_threads_ask_one_snapshot_at_once() {
    let snapshot = with_notes().snapshot();
    let alone: Vec<Vec<Seen>> = TASKS.iter().map(|task| seen_by_all(&snapshot, task)).collect();
    // One that knows no summary and no index yet.
    let fresh = with_notes().snapshot();
    let together: Vec<Vec<Seen>> = std::thread::scope(|scope| {
        let threads = TASKS.map(|task| {
            let own = fresh.clone();
            scope.spawn(move || seen_by_all(&own, task))
        });
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(together, alone);
    assert_eq!(fresh.brief_batch(TASKS, Compaction::keep_ratio(0.3)).unwrap().len(), TASKS.len());
}

/// The session writes into the memory that the snapshot reads from, behind what the snapshot has.
#[test]
fn a_snapshot_stays_as_it_was_while_the_session_goes_on() {
    let grow = |session: &mut WorkerSession, number: usize| {
        let text = format!("Part {number}: {}", "nothing was found here. ".repeat(60));
        session.extend(Segment::tool(text)).unwrap();
    };
    let mut session = with_notes();
    let snapshot = session.snapshot();
    let before = bits(contents(snapshot.cache()));
    let (seq_len, tokens) = (snapshot.seq_len(), snapshot.tokens().to_vec());
    let alone: Vec<Vec<Seen>> = TASKS.iter().map(|task| seen_by_all(&snapshot, task)).collect();
    let together: Vec<Vec<Seen>> = std::thread::scope(|scope| {
        let threads = TASKS.map(|task| {
            let snapshot = &snapshot;
            scope.spawn(move || seen_by_all(snapshot, task))
        });
        for number in 0.. {
            if number >= 4 && threads.iter().all(std::thread::ScopedJoinHandle::is_finished) {
                break;
            }
            if number < 8 {
                session.note(None, format!("part {number} is read")).unwrap();
                grow(&mut session, number);
            }
            session.ask(TASKS[number % TASKS.len()]).via(Handoff::FullKv).at_most(2).run().unwrap();
        }
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(together, alone);
    assert_eq!((snapshot.seq_len(), snapshot.tokens(), snapshot.notes().len()), (seq_len, &tokens[..], 1));
    assert_eq!(bits(contents(snapshot.cache())), before);
    // The session has read what it would have read without a snapshot, in one run of memory.
    let mut other = with_notes();
    let parts = session.trajectory().len() - other.trajectory().len();
    (0..parts).for_each(|number| grow(&mut other, number));
    assert_eq!(session.cache().runs(), 1);
    assert_eq!(bits(contents(session.cache())), bits(contents(other.cache())));
    drop(session);
    assert_eq!(seen_by_all(&snapshot, TASKS[0]), alone[0]);
}

#[test]
fn a_snapshot_keeps_what_its_session_compacts() {
    let limit = embedded().config().position_limit();
    let room = RoomPolicy::CompactOldest(CompactOldest { reserve: limit - 300, ..CompactOldest::default() });
    let config = SessionConfig { room, ..SessionConfig::default() };
    let mut session = WorkerSession::with(embedded(), config).unwrap();
    session.extend_all(lines(), &mut |_, _| {}).unwrap();
    let snapshot = session.snapshot();
    let before = (snapshot.tokens().to_vec(), bits(contents(snapshot.cache())));
    let full = snapshot.ask(TASKS[0]).via(Handoff::FullKv).run().unwrap().answer.text;
    while session.room_reports().is_empty() {
        session.extend_all(lines(), &mut |_, _| {}).unwrap();
    }
    assert_eq!((snapshot.tokens().to_vec(), bits(contents(snapshot.cache()))), before);
    assert_eq!(snapshot.ask(TASKS[0]).via(Handoff::FullKv).run().unwrap().answer.text, full);
}

/// Over a snapshot nothing is recorded but by whoever asked; what one call has made serves all of the same moment.
#[test]
fn a_session_and_its_snapshots_share_what_they_make() {
    let mut session = notes();
    let snapshot = session.snapshot();
    let handoff: Handoff = "summary:6".parse().unwrap();
    let first = snapshot.ask(TASKS[0]).via(&handoff).run().unwrap();
    assert!(first.answer.tokens.drafted > 0 && session.ledger().calls().is_empty());
    session.record(first.record);
    assert_eq!(session.ledger().calls(), [first.record]);
    assert_eq!(session.ask(TASKS[1]).via(&handoff).run().unwrap().answer.tokens.drafted, 0);
    session.extend(Segment::finding("Anara moved to Ironwick.")).unwrap();
    assert!(session.ask(TASKS[1]).via(&handoff).run().unwrap().answer.tokens.drafted > 0);
    assert_eq!(snapshot.ask(TASKS[1]).via(&handoff).run().unwrap().answer.tokens.drafted, 0);
    assert_eq!(session.ledger().calls().len(), 3);
    // The same questions, one by one and together, over either.
    let briefings = snapshot.brief_batch(TASKS, Compaction::keep_ratio(0.4)).unwrap();
    let over = snapshot.ask_all(TASKS).over(&briefings).run().unwrap();
    for ((task, briefing), together) in TASKS.iter().zip(&briefings).zip(over) {
        let alone = session.ask(*task).over(briefing).run().unwrap();
        assert_eq!((alone.answer.text, alone.answer.tokens), (together.answer.text, together.answer.tokens));
    }
    let spans = latent_briefing::am::Spans::Units(latent_briefing::am::Units::Segments);
    assert!(snapshot.unit_starts(spans).unwrap().len() < session.unit_starts(spans).unwrap().len());
    assert_eq!(snapshot.task_tokens(TASKS[0]).unwrap(), session.task_tokens(TASKS[0]).unwrap());
}
