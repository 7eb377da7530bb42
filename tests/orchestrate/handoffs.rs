//! Notes, summaries and retrieval: text in the trajectory's place.

use latent_briefing::prelude::*;
use latent_briefing::session::Error;
use latent_briefing::session::{CallTokens, Note, SummaryConfig, SummaryScope};

use super::{lines, notes};
use crate::support::embedded;

const TASK: &str = "What is the code of the Oslund relay?";

fn text_len(text: &str) -> usize {
    embedded().tokenizer().encode_text(text).unwrap().len()
}

fn head() -> usize {
    embedded().session().unwrap().seq_len()
}

/// The text that a handoff of text gives: what a fresh session of these segments replays.
fn replayed(segments: &[Segment], task: &str) -> (String, CallTokens) {
    let mut session = embedded().session().unwrap();
    session.extend_all(segments.iter().cloned(), &mut |_, _| {}).unwrap();
    let answer = session.ask(task).via(Handoff::TextReplay).run().unwrap().answer;
    (answer.text, answer.tokens)
}

#[test]
fn notes_stand_in_the_trajectorys_place() {
    let mut session = embedded().session().unwrap();
    session.note(Some("relay"), "The code of the Oslund relay is 4821.").unwrap();
    session.note(None, "The Torwick vault is stored in Coldhaven.").unwrap();
    session.note(Some("vault"), "unsure").unwrap();
    session.note(Some(" relay "), "The code of the Oslund relay is 5521.").unwrap();
    session.note(None, "The Torwick vault is stored in Coldhaven.").unwrap();
    let kept: Vec<String> = session.notes().iter().map(Note::to_string).collect();
    let relay = "relay: The code of the Oslund relay is 5521.";
    let vault = "The Torwick vault is stored in Coldhaven.";
    assert_eq!(kept, [relay, vault, "vault: unsure", vault]);
    // Without any trajectory, and as text.
    let outcome = session.ask(TASK).via(Handoff::Notes).run().unwrap();
    let expected = replayed(&kept.iter().map(Segment::finding).collect::<Vec<_>>(), TASK);
    assert_eq!((outcome.answer.text, outcome.answer.tokens), expected);
    assert_eq!(outcome.kept_len + session.task_tokens(TASK).unwrap().len(), expected.1.attended);
    assert!(expected.0.contains("5521"), "{}", expected.0);
    assert_eq!(session.seq_len(), head());
    for (key, text) in [(None, " "), (Some("x"), ""), (Some("  "), "y")] {
        assert!(matches!(session.note(key, text), Err(Error::Empty { .. })));
    }
    assert_eq!(session.notes().len(), 4);
}

#[test]
fn no_notes_are_the_task_alone() {
    let mut session = notes();
    let none = session.ask(TASK).via(Handoff::None).run().unwrap().answer;
    let empty = session.ask(TASK).via(Handoff::Notes).run().unwrap();
    assert_eq!((&empty.answer.text, empty.answer.tokens), (&none.text, none.tokens));
    assert_eq!(empty.kept_len, head());
}

#[test]
fn a_summary_is_kept_until_the_trajectory_grows() {
    let mut session = notes();
    let handoff = Handoff::Summary(SummaryConfig::default().with_max_tokens(12));
    let first = session.ask(TASK).via(&handoff).run().unwrap();
    let second = session.ask(TASK).via(&handoff).run().unwrap();
    assert!((1..=12).contains(&first.answer.tokens.drafted));
    assert_eq!(second.answer.tokens.drafted, 0);
    assert_eq!(first.answer.text, second.answer.text);
    let [a, b] = [first.answer.tokens, second.answer.tokens];
    let request = a.prefilled - b.prefilled;
    assert!(request > 0 && a.attended == b.attended && a.reused == 0);
    assert_eq!(a.worker_tokens(), b.worker_tokens() + a.drafted);
    assert_eq!(b.attended, second.kept_len + session.task_tokens(TASK).unwrap().len());
    assert!(first.record.times.brief > second.record.times.brief);
    // Another way to write it, and more to summarise, are other summaries.
    let longer = Handoff::Summary(SummaryConfig::default().with_max_tokens(13));
    assert!(session.ask(TASK).via(&longer).run().unwrap().answer.tokens.drafted > 0);
    session.extend(Segment::finding("Anara moved to Ironwick.")).unwrap();
    assert!(session.ask(TASK).via(&longer).run().unwrap().answer.tokens.drafted > 0);
    assert_eq!(session.ask(TASK).via(&longer).run().unwrap().answer.tokens.drafted, 0);
}

/// What the worker writes over the full cache is what it then reads.
#[test]
fn a_summary_for_a_task_shows_the_task() {
    let mut session = notes();
    let config = SummaryConfig::default()
        .with_max_tokens(8)
        .with_instruction("Say it:")
        .with_scope(SummaryScope::Task);
    let request = format!("Say it:\n{TASK}");
    let written = session.ask(request.as_str()).via(Handoff::FullKv).at_most(8).run();
    let written = written.unwrap().answer;
    let tokens = session.task_tokens(request.as_str()).unwrap().len();
    let handoff = Handoff::Summary(config);
    for _ in 0..2 {
        let outcome = session.ask(TASK).via(&handoff).run().unwrap();
        let expected = replayed(&[Segment::finding(written.text.as_str())], TASK);
        assert_eq!(outcome.answer.text, expected.0);
        let CallTokens { prefilled, drafted, .. } = outcome.answer.tokens;
        assert_eq!((prefilled, drafted), (expected.1.prefilled + tokens, written.tokens.generated));
    }
    let mut empty = embedded().session().unwrap();
    assert!(empty.is_empty());
    assert!(matches!(empty.ask(TASK).via(&handoff).run(), Err(Error::Empty { arg: "trajectory" })));
}

/// Tokens of the segments with these numbers, as lines.
fn lines_len(numbers: &[usize]) -> usize {
    let lines = lines();
    numbers.iter().map(|n| text_len(&format!("{}: {}\n", lines[*n].source.tag(), lines[*n].text))).sum()
}

#[test]
fn retrieval_takes_what_matches_in_its_own_order() {
    let mut session = notes();
    // Three lines name the relay; the last two also its code.
    let picked = [2, 4];
    let size = SelectionSize::KeptLen(head() + lines_len(&picked));
    let outcome = session.ask(TASK).via(Handoff::bm25(size)).run().unwrap();
    let all = lines();
    let expected = replayed(&picked.map(|number| all[number].clone()), TASK);
    assert_eq!((&outcome.answer.text, outcome.answer.tokens), (&expected.0, expected.1));
    assert_eq!(outcome.kept_len, head() + lines_len(&picked));
    assert!((outcome.keep_ratio - outcome.kept_len as f64 / session.seq_len() as f64).abs() < 1e-9);
    // Everything is the whole text, but for what matches nothing.
    let everything = session.ask(TASK).via(Handoff::bm25(SelectionSize::KeepRatio(1.0))).run().unwrap();
    assert!(everything.kept_len > outcome.kept_len && everything.kept_len <= session.seq_len());
    let index_is_kept = session.ask(TASK).via(Handoff::bm25(size)).run().unwrap();
    assert_eq!(index_is_kept.answer.text, expected.0);
}

#[test]
fn retrieval_without_a_match_takes_the_most_recent() {
    let mut session = notes();
    let size = SelectionSize::KeptLen(head() + lines_len(&[6, 7]));
    let task = "Qwyx?";
    let outcome = session.ask(task).via(Handoff::bm25(size)).run().unwrap();
    let expected = replayed(&lines()[6..], task);
    assert_eq!((outcome.answer.text, outcome.answer.tokens), expected);
}

#[test]
fn retrieval_cuts_long_segments_into_passages() {
    let mut session = embedded().session().unwrap();
    let filler = "Nothing was found here. ".repeat(30);
    let fact = "The code of the Oslund relay is 5521.";
    session.extend(Segment::tool(format!("{filler}{fact} {filler}"))).unwrap();
    let size = SelectionSize::KeptLen(head() + 48);
    let outcome = session.ask(TASK).via(Handoff::Bm25 { size, passage: 24 }).run().unwrap();
    assert!(outcome.kept_len > head() && outcome.kept_len <= head() + 48);
    assert!(outcome.answer.text.contains("5521"), "{}", outcome.answer.text);
}

/// A question in another language, a number, an identifier.
#[test]
fn retrieval_finds_words_of_any_kind() {
    let segments = [
        Segment::finding("Das Büro ist in Köln."),
        Segment::code("def parse_config(path): return 1"),
        Segment::tool("exit code 5521"),
        Segment::finding("会議は東京です。"),
    ];
    let mut session = embedded().session().unwrap();
    session.extend_all(segments.clone(), &mut |_, _| {}).unwrap();
    for (task, number) in [("WO IST DAS BÜRO?", 0), ("config of what?", 1), ("5521?", 2), ("東京", 3)] {
        let line = format!("{}: {}\n", segments[number].source.tag(), segments[number].text);
        let size = SelectionSize::KeptLen(head() + text_len(&line));
        let outcome = session.ask(task).via(Handoff::bm25(size)).run().unwrap();
        let expected = replayed(&segments[number..=number], task);
        assert_eq!((outcome.answer.text, outcome.answer.tokens), expected, "{task}");
    }
}

#[test]
fn retrieval_sees_what_the_policy_lets_in() {
    let policy = BoundaryPolicy::confirmed();
    let mut session =
        WorkerSession::with(embedded(), SessionConfig { policy, ..SessionConfig::default() }).unwrap();
    session.extend(Segment::reasoning("The code of the Oslund relay is 1111.")).unwrap();
    let outcome = session.ask(TASK).via(Handoff::bm25(SelectionSize::KeepRatio(1.0))).run().unwrap();
    assert_eq!(outcome.kept_len, head());
}
