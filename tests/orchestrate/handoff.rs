//! Every way to hand the trajectory over, and what it costs.

use latent_briefing::am::Compaction;
use latent_briefing::prelude::*;

use super::notes;
use crate::support::embedded;

const TASK: &str = "What is the code of the Oslund relay?";

#[test]
fn replaying_the_text_answers_like_the_full_cache() {
    let mut session = notes();
    let full = session.ask(TASK).via(Handoff::FullKv).run().unwrap().answer;
    let replay = session.ask(TASK).via(Handoff::TextReplay).run().unwrap().answer;
    assert_eq!(full.text, replay.text);
    assert_eq!(full.tokens.worker_tokens(), replay.tokens.worker_tokens());
    assert_eq!(replay.tokens.prefilled, session.seq_len() + full.tokens.prefilled);
    assert_eq!((full.tokens.reused, replay.tokens.reused), (session.seq_len(), 0));
}

#[test]
fn the_ledger_counts_every_column() {
    let mut session = notes();
    let (seq_len, head) = (session.seq_len(), embedded().session().unwrap().seq_len());
    assert_eq!(session.ledger().trajectory_prefilled(), seq_len);
    let none = session.ask(TASK).via(Handoff::None).run().unwrap().answer.tokens;
    let task = none.attended - head;
    assert_eq!(none.prefilled, head + task);
    let full = session.ask(TASK).via(Handoff::FullKv).run().unwrap().answer.tokens;
    assert_eq!((full.attended, full.prefilled, full.reused), (seq_len + task, task, seq_len));
    let size = SelectionSize::KeptLen(20);
    for handoff in [Handoff::Recent(size), Handoff::Random { size, seed: 3 }] {
        let outcome = session.ask(TASK).via(&handoff).run().unwrap();
        let tokens = outcome.answer.tokens;
        assert_eq!((tokens.attended, tokens.prefilled, tokens.reused), (20 + task, task, 20));
        assert!((outcome.keep_ratio - 20.0 / seq_len as f64).abs() < 1e-9);
    }
    let briefing = BriefConfig::from(Compaction::kept_len(20)).with_lookahead(Lookahead::NONE);
    let briefed = session.ask(TASK).via(briefing).run().unwrap();
    let tokens = briefed.answer.tokens;
    assert_eq!((tokens.attended, tokens.prefilled, tokens.reused), (20 + task, 2 * task, 20));
    assert_eq!(tokens.worker_tokens(), 20 + task + tokens.generated);
    assert_eq!(session.ledger().calls().len(), 5);
    let total = session.ledger().total();
    assert_eq!(total.attended, session.ledger().calls().iter().map(|c| c.tokens.attended).sum::<usize>());
}

#[test]
fn a_selection_of_everything_is_the_full_cache() {
    let mut session = notes();
    let full = session.ask(TASK).via(Handoff::FullKv).run().unwrap().answer;
    for size in [SelectionSize::KeepRatio(1.0), SelectionSize::KeptLen(usize::MAX)] {
        let all = session.ask(TASK).via(Handoff::Random { size, seed: 0 }).run().unwrap();
        assert_eq!(all.answer.text, full.text);
        assert_eq!(all.kept_len, session.seq_len());
    }
}

#[test]
fn sizes_out_of_range_are_named() {
    let mut session = notes();
    for (size, field) in [
        (SelectionSize::KeepRatio(0.0), "keep_ratio"),
        (SelectionSize::KeepRatio(f64::NAN), "keep_ratio"),
        (SelectionSize::KeptLen(0), "kept_len"),
    ] {
        let error = session.ask(TASK).via(Handoff::Recent(size)).run().unwrap_err().to_string();
        assert!(error.contains(field), "{error}");
    }
}

#[test]
fn a_slice_travels_with_the_task() {
    let mut session = notes();
    let plain = session.ask(TASK).via(Handoff::FullKv).run().unwrap().answer.tokens;
    let slice = "finding: The code of the Narmont chart is 7719.";
    let sliced = session.ask(Task::about(slice, TASK)).via(Handoff::FullKv).run().unwrap().answer.tokens;
    let extra = embedded().tokenizer().encode_text(&format!("{slice}\n")).unwrap().len();
    assert_eq!(sliced.prefilled, plain.prefilled + extra);
}
