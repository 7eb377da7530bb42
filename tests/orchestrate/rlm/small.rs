//! Loops for small orchestrators: what they are told, and what of their replies is taken.

use latent_briefing::orchestrate::{Ending, Event, PromptProfile, Role, RunRecord};
use latent_briefing::session::Source;

use super::*;

const QUESTION: &str = "Who keeps the Velmar ledger?";
const ASK: &str = "```repl\nreply = llm_query(\"Who keeps the Velmar ledger?\", context)\nprint(reply)\n```";

fn small() -> RlmConfig {
    let usual = config();
    let mut small = RlmConfig { handoff: usual.handoff, brief_documents: false, ..RlmConfig::small() };
    // The built-in worker was trained on other words.
    small.session = usual.session;
    small
}

/// The answer of a run that asked first and then said this, and what it was told before.
fn said(last: &str) -> (String, usize, String) {
    let mut orchestrator = script([ASK, last, "```repl\nFINAL(\"too late\")\n```"]);
    let run = rlm(small()).run(&mut orchestrator, QUESTION).unwrap();
    (run.answer, run.turns, orchestrator.last().to_owned())
}

#[test]
fn an_answer_is_taken_in_every_form_that_says_that_it_is_one() {
    let forms = [
        "```repl\nFINAL(reply)\n```",
        "```repl\nFINAL(reply)",
        "```python\nFINAL(\"Anara\")\n```",
        "```py\nif reply:\n    FINAL(reply)\n```",
        "```\nFINAL(reply)\n```",
        "```repl FINAL(reply)```",
        "FINAL(reply)",
        "FINAL(\"Anara\")",
        "FINAL(Anara)",
        "The reader says it clearly, so FINAL(\"Anara\").",
        "FINAL_VAR(reply)",
        "```repl\nFINAL(Anara)\n```",
        "```repl\nanswer = {\"content\": \"Anara\", \"ready\": True}\n```",
        "```repl\nanswer = {\"content\": \"Anara\"}\n```",
        "```repl\nanswer = \"Anara\"\n```",
        "```repl\nanswer = reply\n```",
        "```repl\nanswer[\"content\"] = reply\n```",
        "answer = {\"content\": reply, \"ready\": True}",
        "```repl\nanswer[\"content\"] = reply\nanswer[\"ready\"] = True\n```",
        "**Final answer:** Anara",
        "The final answer is: `Anara`",
    ];
    for form in forms {
        let (answer, turns, _) = said(form);
        assert_eq!((answer.as_str(), turns), ("Anara", 2), "{form}");
    }
}

#[test]
fn what_may_not_be_an_answer_is_none() {
    let others = [
        ("I think that it is Anara.", "There was no code. If you know the answer, write:\n```repl\nFINAL("),
        ("```json\n{\"answer\": \"Anara\"}\n```", "There was no code."),
        ("```repl\nanswer = llm_query(\"Who?\")\n```", "You did not print the reply."),
        ("```repl\nanswer = \"Anara\"\nprint(answer)\n```", "Output:\nAnara"),
        ("```repl\nFINAL(found_name)\n```", "NameError"),
        ("", "There was no code."),
        ("```repl\nFINAL(reply, reply)\n```", "FINAL takes one value"),
        (ASK, "You have run this before."),
        ("```repl\nprint(llm_query(\n```", "not valid Python"),
        ("```repl\nimport os\n```", "import nothing"),
        ("```repl\nFINAL(\"the answer\")\n```", "Write the answer itself"),
        ("FINAL(...)", "Write the answer itself"),
        ("```repl\nanswer = \"The answer.\"\n```", "Write the answer itself"),
    ];
    for (other, told) in others {
        let (answer, turns, shown) = said(other);
        assert_eq!((answer.as_str(), turns), ("too late", 3), "{other}");
        assert!(shown.contains(told), "{other}: {shown}");
    }
}

#[test]
fn the_first_answer_without_a_question_to_the_worker_is_refused_once() {
    let guess = "```repl\nanswer = {\"content\": \"Tolio\", \"ready\": True}\n```";
    let mut orchestrator = script([guess, ASK, "```repl\nFINAL(reply)\n```"]);
    let run = rlm(small()).run(&mut orchestrator, QUESTION).unwrap();
    assert_eq!((run.answer.as_str(), run.turns, run.ledger.worker.calls), ("Anara", 3, 1));
    let told = &orchestrator.seen[1].last().unwrap().content;
    let next = "never asked the reader. Ask first. Write:\n```repl\nreply = llm_query(\"Who keeps the Velmar ledger?\")\nprint(reply)";
    assert!(told.contains(next), "{told}");
    // Said twice, it is the answer.
    for twice in [guess, "FINAL(\"Tolio\")"] {
        let run = rlm(small()).run(&mut script([twice, twice]), QUESTION).unwrap();
        assert_eq!((run.answer.as_str(), run.turns, run.ledger.worker.calls), ("Tolio", 2, 0));
    }
    // The standard texts do the same where they are asked to.
    let config = RlmConfig { ask_first: true, ..config() };
    let mut orchestrator = script([ready("'Tolio'"), repl("r = llm_query(\"Who?\")"), ready("'Anara'")]);
    let run = rlm(config).run(&mut orchestrator, QUESTION).unwrap();
    assert_eq!((run.answer.as_str(), run.turns), ("Anara", 3));
    assert!(orchestrator.output(1).contains("no worker was asked"), "{}", orchestrator.output(1));
}

#[test]
fn a_turn_is_one_step_and_the_conversation_keeps_no_more_of_it() {
    let dreams = format!("I ask.\n{ASK}\nOutput:\nTolio\n\n```repl\nFINAL(\"Tolio\")\n```");
    let mut orchestrator = script([dreams, "```repl\nFINAL(reply)\n```".to_owned()]);
    let run = rlm(small()).run(&mut orchestrator, QUESTION).unwrap();
    assert_eq!((run.answer.as_str(), run.turns), ("Anara", 2));
    let seen = &orchestrator.seen[1];
    assert_eq!(seen[seen.len() - 2].content.trim_end(), format!("I ask.\n{ASK}"));
    assert!(seen.last().unwrap().content.starts_with("Output:\nAnara"));
    // Users and assistants take turns, so that every template takes it.
    let roles: Vec<Role> = seen.iter().map(|message| message.role).collect();
    assert_eq!(roles[0], Role::System);
    assert!(roles[1..].chunks(2).all(|pair| pair[0] == Role::User && pair.get(1) != Some(&Role::User)));
    // Short, whatever the tokenizer: about four characters a token.
    let beginning: usize = orchestrator.seen[0].iter().map(|message| message.content.len()).sum();
    assert!(beginning < 2_500, "{beginning} characters before the first turn");
}

#[test]
fn code_without_fences_runs() {
    let bare = "I ask the reader.\nreply = llm_query(\"Who keeps the Velmar ledger?\", context)\nprint(reply)\nThen I answer.";
    let mut orchestrator = script([bare, "FINAL(reply)"]);
    let run = rlm(small()).run(&mut orchestrator, QUESTION).unwrap();
    assert_eq!((run.answer.as_str(), run.turns, run.ledger.sandbox.blocks), ("Anara", 2, 2));
}

#[test]
fn the_last_turns_ask_for_the_answer() {
    let mut config = small();
    config.limits.iterations = 2;
    let mut orchestrator = script([ASK, "Hm.", "```\nAnara\n```"]);
    let run = rlm(config.clone()).run(&mut orchestrator, QUESTION).unwrap();
    assert_eq!((run.answer.as_str(), run.ending), ("Anara", Ending::LastCompletion));
    assert!(orchestrator.seen[1].last().unwrap().content.contains("This is the last step"));
    let mut orchestrator = script([ASK, "Hm.", "FINAL(reply)"]);
    assert_eq!(rlm(config).run(&mut orchestrator, QUESTION).unwrap().answer, "Anara");
}

#[test]
fn the_worker_reads_the_document_before_the_first_turn() {
    let mut config = RlmConfig { brief_documents: true, ..small() };
    config.session.policy = config.session.policy.admitting([Source::Artifact]);
    let mut rlm = Rlm::new(embedded(), monty, config).unwrap();
    rlm.add_context("The Velmar ledger is kept by Anara.\r\n\r\n\nAnara works in Redmoor.\nSo they say.")
        .unwrap();
    let mut order = Vec::new();
    let mut orchestrator = script([ASK, "FINAL(reply)"]);
    rlm.run_with(&mut orchestrator, QUESTION, &mut |event| match event {
        Event::Entered(entered) if entered.source == Source::Artifact => order.push(entered.text.clone()),
        Event::Replied(_) => order.push("turn".to_owned()),
        _ => {}
    })
    .unwrap();
    let document =
        ["The Velmar ledger is kept by Anara.", "Anara works in Redmoor.\nSo they say.", "turn", "turn"];
    assert_eq!(order, document);
    // One that would fill the worker is left to the code, which is told so.
    let mut config = RlmConfig { brief_documents: true, ..small() };
    config.limits.iterations = 1;
    let mut rlm = Rlm::new(embedded(), monty, config).unwrap();
    rlm.add_context(&"many words ".repeat(embedded().config().position_limit())).unwrap();
    let mut orchestrator = script([ASK, "FINAL(reply)"]);
    rlm.run(&mut orchestrator, QUESTION).unwrap();
    let first = &orchestrator.seen[0];
    assert!(
        first[0].content.contains("context[0:8000]")
            && first.last().unwrap().content.contains("`context` has")
    );
    assert!(rlm.session().trajectory().segments().iter().all(|segment| segment.source != Source::Artifact));
}

#[test]
fn a_run_is_resumed_as_it_was_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = RlmConfig { brief_documents: true, log_dir: Some(dir.path().to_owned()), ..small() };
    config.session.policy = config.session.policy.admitting([Source::Artifact]);
    let turns = ["```repl\nFINAL(\"Tolio\")\n```", ASK, "```python\nx = 1\n```\nand more", "FINAL(reply)"];
    let mut whole = script(turns);
    let run = rlm(config.clone()).run(&mut whole, QUESTION).unwrap();
    let path = run.log.unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at + 1).collect();
    for done in 0..turns.len() {
        std::fs::write(&path, &text[..ends[done]]).unwrap();
        // The profile comes from the log.
        let other = RlmConfig { profile: PromptProfile::Standard, ask_first: false, ..config.clone() };
        let mut resumed = Rlm::resume(&path, embedded(), monty, other).unwrap().rlm;
        let mut left = script(turns[done..].to_vec());
        let again = resumed.go_on(&mut left, &mut |_| {}).unwrap();
        assert_eq!((again.answer.as_str(), again.turns), ("Anara", 4), "after {done} turns");
        assert_eq!(left.seen[0], whole.seen[done]);
        let entered = |record: &RunRecord| {
            record
                .iterations
                .iter()
                .flat_map(|i| i.entered.iter().map(|e| e.text.clone()))
                .collect::<Vec<_>>()
        };
        let record = RunRecord::open(&path).unwrap();
        assert_eq!(record.iterations.len(), 4);
        assert!(entered(&record).iter().filter(|text| text.contains("Torwick vault")).count() == 1);
    }
}
