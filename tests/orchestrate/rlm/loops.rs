//! Turns: what the orchestrator is shown, what its code can do.

use latent_briefing::orchestrate::{Ending, Event};
use latent_briefing::session::{SessionConfig, Source};

use super::*;

#[test]
fn code_finds_a_worker_reads_and_the_answer_comes_back() {
    let find = "lines = [line for line in context.split(\"\\n\") if \"Velmar\" in line]\nprint(lines[0])";
    let ask = "keeper = llm_query(\"Who keeps the Velmar ledger?\")\nprint(keeper)";
    let mut orchestrator = script([repl(find), repl(ask), ready("keeper")]);
    let mut rlm = rlm(config());
    let run = rlm.run(&mut orchestrator, "Who keeps the Velmar ledger?").unwrap();
    assert_eq!((run.answer.as_str(), run.ending, run.turns), ("Anara", Ending::Answered, 3));
    assert!(orchestrator.output(1).contains("finding: The Velmar ledger is kept by Anara."));
    assert!(orchestrator.output(2).contains("Anara"), "{}", orchestrator.output(2));
    assert_eq!((run.ledger.worker.calls, run.ledger.worker.failed), (1, 0));
    assert_eq!((run.ledger.orchestrator.turns, run.ledger.sandbox.blocks), (3, 3));
    // 2, 4 and 6 messages, and the question.
    assert_eq!(run.ledger.orchestrator.usage.input, 100 * (3 + 6 + 9));
}

#[test]
fn the_conversation_only_grows_and_says_what_the_loop_is() {
    let mut orchestrator = script([repl("x = 1"), "No code at all.".into(), ready("str(x)")]);
    rlm(config()).run(&mut orchestrator, "What is x?").unwrap();
    for (before, after) in orchestrator.seen.iter().zip(&orchestrator.seen[1..]) {
        assert_eq!(after[..before.len()], before[..]);
    }
    let first = &orchestrator.seen[0];
    assert!(first[0].content.contains("llm_query_batched") && first[0].content.contains("answer[\"ready\"]"));
    let length = format!("`context` is a str of {} characters", NOTES.len());
    assert!(first[1].content.contains("What is x?") && first[1].content.contains(&length));
    assert!(first[2].content.ends_with("Turn 1/30:"));
    assert!(orchestrator.output(1).ends_with(", x"), "{}", orchestrator.output(1));
    assert!(orchestrator.output(2).contains("No ```repl block"));
}

#[test]
fn every_source_enters_the_trajectory_in_order_as_the_policy_says() {
    let everything = RlmConfig { session: SessionConfig::default(), ..config() };
    let code = "note(\"keeper\", \"The Velmar ledger is kept by Anara.\")\n\
        r = llm_query(\"Who keeps the Velmar ledger?\")\nprint(\"it is\", r)";
    let mut rlm = rlm(everything);
    rlm.run(&mut script([repl(code), ready("r")]), "Who?").unwrap();
    let segments = rlm.session().trajectory().segments();
    let sources: Vec<Source> = segments.iter().map(|s| s.source).collect();
    let turn = [Source::Reasoning, Source::Code, Source::Finding, Source::Reply, Source::Tool];
    assert_eq!(sources, [&turn[..], &[Source::Reasoning, Source::Code]].concat());
    assert_eq!(segments[2].text, "keeper: The Velmar ledger is kept by Anara.");
    assert!(segments[3].text.starts_with("Who keeps the Velmar ledger? -> "));
    assert_eq!(rlm.session().notes().len(), 1);
    // What the policy keeps out costs the worker nothing.
    let mut rlm = super::rlm(config());
    rlm.run(&mut script([repl("x = 1"), ready("'done'")]), "Who?").unwrap();
    assert_eq!(rlm.ledger().worker.trajectory_prefilled, 0);
}

#[test]
fn several_blocks_run_in_order_and_one_that_fails_does_not_stop_the_next() {
    let text = "```repl\na = 2\n```\nand\n```repl\nb = 1 // 0\n```\nand\n```repl\nprint(a + 1)\n```";
    let mut orchestrator = script([text.to_owned(), ready("a")]);
    let run = rlm(config()).run(&mut orchestrator, "What?").unwrap();
    assert_eq!((run.answer.as_str(), run.ledger.sandbox.faults), ("2", 1));
    let shown = orchestrator.output(1);
    assert!(shown.contains("REPL output (block 2):\n") && shown.contains("ZeroDivisionError"), "{shown}");
    assert!(shown.contains("REPL output (block 3):\n3"), "{shown}");
}

#[test]
fn a_block_that_never_closes_does_not_run_and_says_so() {
    let mut orchestrator = script(["```repl\nanswer[\"content\"] = 1".to_owned(), ready("2")]);
    let run = rlm(config()).run(&mut orchestrator, "What?").unwrap();
    assert_eq!(run.answer, "2");
    assert!(orchestrator.output(1).contains("never closed"));
}

#[test]
fn a_batch_is_answered_in_order_and_faults_stay_where_they_are() {
    let code = "r = llm_query_batched([\"Who keeps the Velmar ledger?\", \"\", \"Who keeps the Oslund relay?\"], \
        documents=[context, context, context], brief=False)\nfor x in r:\n    print(x)";
    let mut orchestrator = script([repl(code), ready("r[0]")]);
    let run = rlm(config()).run(&mut orchestrator, "Who?").unwrap();
    assert_eq!(run.answer, "Anara");
    let shown = orchestrator.output(1);
    assert!(shown.contains("Error: "), "{shown}");
    assert_eq!((run.ledger.worker.calls, run.ledger.worker.failed), (2, 1));
}

#[test]
fn a_call_that_does_not_fit_the_worker_is_a_text_and_the_run_goes_on() {
    let mut orchestrator = script([repl("r = llm_query(\"word \" * 20000)\nprint(r[:120])"), ready("r[:6]")]);
    let run = rlm(config()).run(&mut orchestrator, "Who?").unwrap();
    assert_eq!(run.answer, "Error:");
    assert!(orchestrator.output(1).contains("position"), "{}", orchestrator.output(1));
}

#[test]
fn a_run_lives_on_for_further_questions_and_documents() {
    let mut rlm = rlm(config());
    let first = rlm.run(&mut script([repl("keep = 7"), ready("'one'")]), "First?").unwrap();
    assert_eq!(first.answer, "one");
    assert_eq!(rlm.add_context("Another text.").unwrap(), "context_1");
    let mut orchestrator =
        script([repl("print(keep, answer[\"ready\"])"), ready("context_1[:7] + str(keep)")]);
    let second = rlm.run(&mut orchestrator, "Second?").unwrap();
    assert_eq!((second.answer.as_str(), second.turns), ("Another7", 2));
    assert!(orchestrator.output(1).contains("7 False"), "{}", orchestrator.output(1));
    let opening = &orchestrator.seen[0];
    assert!(opening[opening.len() - 2].content.contains("`context_1` is a str of 13 characters"));
    assert_eq!(second.ledger.orchestrator.turns, 4);
}

#[test]
fn every_step_is_told() {
    let mut told = Vec::new();
    let code = "r = llm_query(\"Who keeps the Velmar ledger?\", context)\nprint(r)";
    rlm(config())
        .run_with(&mut script([repl(code), ready("r")]), "Who?", &mut |event| {
            told.push(match event {
                Event::TurnBegan { turn, of } => format!("turn {turn}/{of}"),
                Event::Replied(_) => "replied".into(),
                Event::Entered(entered) => format!("entered {}", entered.source.tag()),
                Event::CodeBegan(_) => "code".into(),
                Event::CallsBegan { queries, depth, .. } => format!("{} calls at {depth}", queries.len()),
                Event::CallEnded(call) => format!("call: {}", call.response),
                Event::CodeEnded(done) => format!("printed {}", done.stdout.trim()),
                Event::Answered(answer) => format!("answer {answer}"),
                other => format!("{other:?}"),
            });
        })
        .unwrap();
    let first = [
        "turn 1/30",
        "replied",
        "entered reasoning",
        "entered code",
        "code",
        "1 calls at 0",
        "call: Anara",
        "entered reply",
        "printed Anara",
        "entered tool",
    ];
    assert_eq!(told[..first.len()], first);
    assert_eq!(told.last().unwrap(), "answer Anara");
}
