//! Gates, with the built-in worker.

use std::sync::OnceLock;

use lb_coordinate::{Error, Gate, Readers};
use lb_model::Worker;
use lb_session::{Handoff, OpenSession, Segment};

fn worker() -> &'static Worker {
    static WORKER: OnceLock<Worker> = OnceLock::new();
    WORKER.get_or_init(|| Worker::embedded().unwrap())
}

const LINES: [&str; 4] = [
    "The Oslo ledger is kept by Ana.",
    "The Lima vault is kept by Bo.",
    "The Oslo ledger is stored in the north tower.",
    "The Lima vault is guarded by Cleo.",
];
const TASKS: [&str; 2] = ["Who keeps the Oslo ledger?", "Who keeps the Lima vault?"];

fn offered(gate: Gate) -> (Readers, Vec<Vec<usize>>) {
    let mut readers = Readers::new(worker(), TASKS, gate).unwrap();
    let read = LINES.iter().map(|line| readers.offer(Segment::finding(*line)).unwrap().readers).collect();
    (readers, read)
}

#[test]
fn everyone_reads_everything_as_a_session_would() {
    let (mut readers, read) = offered(Gate::all());
    assert!(read.iter().all(|all| *all == [0, 1]));
    let mut session = worker().session().unwrap();
    let before = session.seq_len();
    for line in LINES {
        session.extend(Segment::finding(line)).unwrap();
    }
    assert_eq!((readers.tokens().gate, readers.tokens().read), (0, 2 * (session.seq_len() - before)));
    for (number, task) in TASKS.iter().enumerate() {
        let alone = session.ask(*task).via(Handoff::FullKv).run().unwrap().answer.text;
        assert_eq!(readers.ask(number, &Handoff::FullKv).unwrap().answer.text, alone);
    }
}

#[test]
fn words_bring_segments_to_whom_they_concern() {
    let (mut readers, read) = offered("bm25:1".parse().unwrap());
    assert_eq!(read, [vec![0], vec![1], vec![0], vec![1]]);
    assert_eq!(readers.tokens().gate, 0);
    assert!(readers.ask(0, &Handoff::FullKv).unwrap().answer.text.contains("Ana"));
    assert!(readers.ask(1, &Handoff::FullKv).unwrap().answer.text.contains("Bo"));
}

#[test]
fn attention_is_a_share_that_costs_tokens_and_one_reads() {
    let mut readers = Readers::new(worker(), TASKS, Gate::attention(1)).unwrap();
    for line in LINES {
        let offered = readers.offer(Segment::finding(line)).unwrap();
        assert_eq!(offered.readers.len(), 1);
        assert!(offered.scores.iter().all(|share| (0.0..=1.0).contains(share)), "{:?}", offered.scores);
        // The one that wants it most.
        let most = offered.scores.iter().copied().fold(0.0, f64::max);
        assert!((offered.scores[offered.readers[0]] - most).abs() < 1e-12);
    }
    assert!(readers.tokens().gate > 0);
    let all = offered(Gate::all()).0.tokens().read;
    assert_eq!(readers.tokens().read, all / 2);
    // The same once more gives the same.
    let (again, _) = offered(Gate::attention(1));
    assert_eq!(again.tokens(), readers.tokens());
}

#[test]
fn chance_is_seeded_and_what_is_wrong_is_said() {
    let of = |seed: u64| offered(format!("random:1,seed={seed}").parse().unwrap()).1;
    assert_eq!(of(3), of(3));
    assert!((0..8).any(|seed| of(seed) != of(3)));
    let none: [&str; 0] = [];
    assert!(matches!(Readers::new(worker(), none, Gate::all()), Err(Error::Config { field: "tasks", .. })));
    let (mut readers, _) = offered(Gate::all());
    let error = readers.ask(2, &Handoff::FullKv).unwrap_err();
    assert_eq!(error.to_string(), "there is no worker 2, there are 2, counted from 0");
}
