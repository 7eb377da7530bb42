//! A thousand calls in one session.

use latent_briefing::am::Compaction;
use latent_briefing::prelude::*;
use latent_briefing::session::{CompactOldest, RoomPolicy, SummaryConfig};

use super::lines;
use crate::support::checkpoints::{TIED, worker};
use crate::support::embedded;

/// Positions that the trajectory may take.
const CEILING: usize = 700;

/// Kilobytes of this process in memory, where the system tells.
fn resident() -> Option<usize> {
    let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(pages.split_whitespace().nth(1)?.parse::<usize>().ok()? * 4)
}

/// On a tiny worker, whose every letter is a token.
#[test]
fn a_thousand_calls_leave_the_cache_as_it_is() {
    let worker = worker(TIED);
    let limit = worker.config().position_limit();
    let room =
        RoomPolicy::CompactOldest(CompactOldest { reserve: limit - CEILING, ..CompactOldest::default() });
    let mut session =
        WorkerSession::with(&worker, SessionConfig { room, ..SessionConfig::default() }).unwrap();
    let per_slot = session.cache().bytes() / session.seq_len();
    session.extend_all(lines(), &mut |_, _| {}).unwrap();
    let handoffs = [
        Handoff::briefing(Compaction::keep_ratio(0.2)),
        Handoff::FullKv,
        Handoff::bm25(SelectionSize::KeptLen(300)),
        Handoff::Summary(SummaryConfig::default().with_max_tokens(4)),
        Handoff::Notes,
    ];
    let (mut most, mut first) = ((0, 0), None);
    for number in 0..1000 {
        session.note(Some("last"), format!("call {number}")).unwrap();
        let handoff = &handoffs[number % handoffs.len()];
        session.ask("Where does Anara work?").via(handoff).at_most(2).run().unwrap();
        if number % 20 == 19 {
            session.extend(Segment::reply(format!("Redmoor, call {number}"))).unwrap();
        }
        most = (most.0.max(session.cache().runs()), most.1.max(session.cache().bytes()));
        first = first.or(resident().filter(|_| number == 99));
    }
    if let (Some(first), Some(last)) = (first, resident()) {
        eprintln!("resident after 100 calls {first} kB, after 1000 calls {last} kB");
    }
    assert_eq!(session.ledger().sum().calls, 1000);
    assert!(!session.room_reports().is_empty());
    // Head, compacted part, what was behind it, and the tail that is written.
    assert!(most.0 <= 4, "{most:?}");
    let biases = 4 * worker.config().num_hidden_layers * worker.config().num_key_value_heads;
    assert!(most.1 <= CEILING * (per_slot + biases), "{most:?}");
}

/// Without any compaction the cache is one run, whatever was asked in between.
#[test]
fn calls_and_segments_in_turn_add_no_pieces() {
    let mut session = embedded().session().unwrap();
    let mut slots = session.seq_len();
    for _ in 0..60 {
        slots += session.extend(Segment::finding("Anara works in Redmoor.")).unwrap().entered();
        session.ask("Where?").via(Handoff::FullKv).at_most(1).run().unwrap();
        assert_eq!((session.cache().runs(), session.cache().slots()), (1, slots));
    }
}
