//! What is read for a message, who pays for it, and what cannot be asked for.

use lb_session::{CancelToken, Error, Handoff, HandoffKind, Prepared, Segment, WorkerSession};

use super::{TASK, head_len, lines, session_of};

fn prepared(session: &mut WorkerSession, handoff: &str) -> Prepared {
    session.ask(TASK).via(handoff.parse::<Handoff>().unwrap()).prepare().unwrap()
}

#[test]
fn the_pass_over_the_text_is_paid_for_once() {
    let mut session = session_of(lines());
    let text = session.seq_len();
    let own = |made: &Prepared| made.tokens.prefilled - made.prompt.len();
    let first = prepared(&mut session, "selective-context:0.5");
    assert_eq!(own(&first), text);
    assert_eq!(own(&prepared(&mut session, "selective-context:0.25,unit=token")), 0);
    // The pass is known; tokens of passages are judged, and what was kept is read.
    let lingua = prepared(&mut session, "llmlingua:0.5,coarse=100");
    assert!(own(&lingua) > lingua.kept_len && own(&lingua) <= text + lingua.kept_len, "{:?}", lingua.tokens);
    assert_eq!(own(&prepared(&mut session, "llmlingua:0.5,coarse=100")), 0);
    assert!(own(&prepared(&mut session, "llmlingua:0.4")) > 0);
    // For a question nothing is kept: each passage and the question behind it, then twice what was chosen.
    let long = prepared(&mut session, "longllmlingua:0.5");
    assert!(own(&long) > text, "{:?}", long.tokens);
    assert_eq!(own(&prepared(&mut session, "longllmlingua:0.5")), own(&long));
    let task = session.task_tokens(TASK).unwrap().len();
    assert_eq!(own(&prepared(&mut session, "sentences:0.5")), 0);
    assert_eq!(own(&prepared(&mut session, "sentences:0.5,by=attention")), task);
    // Of calls together, the first pays for what they have in common.
    session.extend(Segment::finding("The Oslund relay is old.")).unwrap();
    let handoff: Handoff = "selective-context:0.5".parse().unwrap();
    let outcomes = session.ask_all([TASK, "Who?"]).via(handoff).at_most(1).run().unwrap();
    let reads: Vec<usize> = outcomes.iter().map(|outcome| outcome.answer.tokens.prefilled).collect();
    assert!(reads[0] > reads[1] + session.seq_len() / 2, "{reads:?}");
    assert!(outcomes.iter().all(|outcome| outcome.brief > std::time::Duration::ZERO));
}

#[test]
fn several_tasks_are_those_one_by_one() {
    let tasks = [TASK, "Who keeps the Velmar ledger?"];
    for handoff in
        ["longllmlingua:0.4", "sentences:0.3,by=attention", "squeeze:k=2,tokens=8", "llmlingua:0.4"]
    {
        let handoff: Handoff = handoff.parse().unwrap();
        let (mut together, mut alone) = (session_of(lines()), session_of(lines()));
        let outcomes = together.ask_all(tasks).via(&handoff).run().unwrap();
        for (task, outcome) in tasks.iter().zip(outcomes) {
            let single = alone.ask(*task).via(&handoff).run().unwrap();
            assert_eq!(outcome.kept_len, single.kept_len, "{handoff:?}");
            assert_eq!(outcome.answer.text, single.answer.text, "{handoff:?}");
            assert_eq!(outcome.record.handoff, handoff.kind());
        }
    }
}

#[test]
fn a_call_that_is_called_off_ends() {
    let cancel = CancelToken::new();
    cancel.cancel();
    for handoff in ["selective-context", "llmlingua", "longllmlingua", "sentences:by=attention", "squeeze"] {
        let mut session = session_of(lines());
        let ask = session.ask(TASK).via(handoff.parse::<Handoff>().unwrap()).cancelled_by(&cancel);
        assert!(matches!(ask.run(), Err(Error::Cancelled)), "{handoff}");
    }
}

#[test]
fn what_cannot_be_is_an_error_that_names_it() {
    for (text, word) in [
        ("selective-context:1.5", "(0, 1]"),
        ("selective-context:0", "(0, 1]"),
        ("selective-context:nan", "(0, 1]"),
        ("selective-context:0t", "at least 1"),
        ("selective-context:unit=word", "phrase, sentence or token"),
        ("selective-context:0.5,stretch=9", "no such argument"),
        ("llmlingua:stretch=7", "8 to 4096"),
        ("llmlingua:stretch=-1", "whole number"),
        ("llmlingua:coarse=0.5", "1 to 100"),
        ("llmlingua:coarse=inf", "1 to 100"),
        ("llmlingua:passage=0", "at least 1"),
        ("llmlingua:spread=0.1", "no such argument"),
        ("longllmlingua:spread=2", "0 to 1"),
        ("longllmlingua:spread=nan", "0 to 1"),
        ("longllmlingua:order=best", "text or relevance"),
        ("sentences:by=length", "bm25 or attention"),
        ("sentences:-0.1", "(0, 1]"),
        ("squeeze:0.1", "no such argument"),
        ("squeeze:k=0", "1 to 64"),
        ("squeeze:k=65", "1 to 64"),
        ("squeeze:kl=-1", "0 or more"),
        ("squeeze:kl=inf", "0 or more"),
        ("squeeze:tokens=0", "at least 1"),
        ("squeeze:draft=0", "1 to 1024"),
        ("squeeze:temperature=0", "above 0"),
        ("squeeze:temperature=nan", "above 0"),
        ("squeeze:seed=x", "whole number"),
        ("squeeze:k=2,k=3", "each argument once"),
    ] {
        let error = text.parse::<Handoff>().expect_err(text);
        assert!(matches!(error, Error::Config { .. }), "{error:?}");
        assert!(error.to_string().contains(word), "{text}: {error} does not name {word:?}");
    }
    assert!("lingua".parse::<HandoffKind>().unwrap_err().to_string().contains("longllmlingua"));
}

#[test]
fn names_and_tables_come_back() {
    for text in [
        "selective-context:0.3,unit=sentence",
        "llmlingua:0.4,stretch=50,coarse=3,passage=64",
        "longllmlingua:40t,order=relevance,spread=0.5",
        "sentences:0.2,by=attention",
        "squeeze:k=3,kl=0.5,tokens=40,draft=4,temperature=1.5,seed=9",
    ] {
        let handoff: Handoff = text.parse().unwrap();
        let json = serde_json::to_value(&handoff).unwrap();
        assert_eq!(json.as_object().unwrap().keys().next().unwrap(), handoff.name());
        assert_eq!(serde_json::from_value::<Handoff>(json).unwrap(), handoff);
        assert!(text.starts_with(handoff.name()) && handoff.is_text());
        assert_eq!(serde_json::to_value(handoff.kind()).unwrap(), handoff.name());
    }
    for wrong in
        [r#"{"llmlingua": {"strech": 3}}"#, r#"{"squeeze": {"k": -1}}"#, r#"{"sentences": {"by": "x"}}"#]
    {
        assert!(serde_json::from_str::<Handoff>(wrong).is_err(), "{wrong}");
    }
    // What a file says is checked when it is used.
    let mut session = session_of(lines());
    let handoff: Handoff = serde_json::from_str(r#"{"squeeze": {"k": 0}}"#).unwrap();
    assert!(session.ask(TASK).via(handoff).run().unwrap_err().to_string().contains("k = 0"));
    assert!(session.seq_len() > head_len());
}
