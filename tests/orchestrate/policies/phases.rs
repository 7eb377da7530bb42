//! Phases with budgets, and an end where nothing new comes.

use latent_briefing::orchestrate::{EarlyEnd, Ending, Event, PhaseBudget, RunRecord};

use super::*;

fn phase(name: &str, turns: usize) -> PhaseBudget {
    PhaseBudget {
        name: name.to_owned(),
        turns: Some(turns),
        tokens: None,
        calls: None,
        cost: None,
        carry_over: 1.0,
    }
}

#[test]
fn phases_are_told_and_the_answer_is_asked_for_behind_the_last() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = logged(config(), dir.path());
    config.phases = vec![phase("explore", 2), phase("check", 1)];
    let mut orchestrator = script([repl("x = 1"), repl("x = 2"), repl("x = 3"), "It is three.".to_owned()]);
    let mut began = Vec::new();
    let hear = &mut |event: &Event<'_>| {
        if let Event::PhaseBegan { name, allowance } = event {
            began.push(format!("{name}: {allowance}"));
        }
    };
    let run = rlm(config.clone()).run_with(&mut orchestrator, "What is x?", hear).unwrap();
    assert_eq!((run.answer.as_str(), run.ending, run.turns), ("It is three.", Ending::PhasesOver, 3));
    assert_eq!(began, ["explore: 2 turns", "check: 1 turns"]);
    let told = |turn: usize| orchestrator.seen[turn].last().unwrap().content.clone();
    assert!(told(0).starts_with("The phase \"explore\" begins. It may take 2 turns."), "{}", told(0));
    assert!(!told(1).contains("phase") && told(2).contains("\"check\"") && told(3).contains("no turns left"));
    let record = RunRecord::open(run.log.unwrap()).unwrap();
    let phases: Vec<_> = record.iterations.iter().map(|i| i.phase.clone().unwrap_or_default()).collect();
    assert_eq!(phases, ["explore", "explore", "check", ""]);
    // Cut off behind the second turn, it goes on in the third's phase.
    let text = std::fs::read_to_string(&record.path).unwrap();
    let ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at + 1).collect();
    std::fs::write(&record.path, &text[..ends[2]]).unwrap();
    let mut rlm = Rlm::resume(&record.path, embedded(), monty, config).unwrap().rlm;
    let again = rlm.go_on(&mut script([repl("x = 3"), "It is three.".to_owned()]), &mut |_| {}).unwrap();
    assert_eq!((again.ending, again.turns), (Ending::PhasesOver, 3));
}

#[test]
fn a_question_ends_early_where_turns_bring_nothing_new() {
    let mut config = config();
    config.early_end = Some(EarlyEnd { turns: 2 });
    let draft = repl("answer[\"content\"] = \"Anara\"\nprint(\"same\")");
    let turns = [draft.clone(), draft.clone(), draft.clone(), "Anara".to_owned(), repl("never")];
    let run = rlm(config.clone()).run(&mut script(turns), "Who?").unwrap();
    assert_eq!((run.answer.as_str(), run.ending, run.turns), ("Anara", Ending::Settled, 3));
    // Something new begins the count anew.
    let turns =
        [draft.clone(), draft.clone(), repl("print(\"new\")"), draft.clone(), draft, "Anara".to_owned()];
    let run = rlm(config).run(&mut script(turns), "Who?").unwrap();
    assert_eq!((run.ending, run.turns), (Ending::Settled, 5));
    // Without the policy all turns are taken.
    let mut config = super::config();
    config.limits.iterations = 4;
    let turns = vec![repl("print(\"same\")"); 4];
    let run = rlm(config).run(&mut script(turns.into_iter().chain(["Anara".to_owned()])), "Who?").unwrap();
    assert_eq!((run.ending, run.turns), (Ending::LastCompletion, 4));
}
