//! Recursive queries.

use latent_briefing::orchestrate::{Allowance, CallKind, RunRecord};

use super::*;

fn deep(depth: usize) -> RlmConfig {
    let mut config = config();
    config.limits.depth = depth;
    config
}

const ASK: &str = "r = rlm_query(\"Who keeps the Velmar ledger?\", context)\nprint(r)";

#[test]
fn a_recursive_query_is_a_loop_of_its_own() {
    let child =
        [repl("line = [x for x in context.split(\"\\n\") if \"Velmar\" in x][0]"), ready("line[-6:-1]")];
    let turns = [vec![repl(ASK)], child.to_vec(), vec![ready("r")]].concat();
    let mut orchestrator = script(turns);
    let dir = tempfile::tempdir().unwrap();
    let config = RlmConfig { log_dir: Some(dir.path().to_owned()), ..deep(2) };
    let mut rlm = rlm(config);
    let run = rlm.run(&mut orchestrator, "Who?").unwrap();
    assert_eq!((run.answer.as_str(), run.turns), ("Anara", 2));
    assert_eq!((run.ledger.orchestrator.turns, run.ledger.sandbox.blocks), (4, 4));
    // The child's conversation is its own.
    assert_eq!(orchestrator.seen[1].len(), 3);
    assert!(orchestrator.seen[1][1].content.contains("Who keeps the Velmar ledger?"));
    assert!(orchestrator.seen[1][0].content.contains("rlm_query and rlm_query_batched are the same as"));
    let record = RunRecord::open(run.log.unwrap()).unwrap();
    let call = &record.iterations[0].code_blocks[0].result.rlm_calls[0];
    assert_eq!((call.kind, call.response.as_str()), (CallKind::Rlm, "Anara"));
    assert_eq!(call.metadata.as_ref().unwrap().iterations.len(), 2);
}

#[test]
fn at_the_limit_of_depth_it_is_a_worker_call() {
    let mut orchestrator = script([repl(ASK), ready("r")]);
    let run = rlm(deep(1)).run(&mut orchestrator, "Who?").unwrap();
    assert_eq!((run.answer.as_str(), run.ledger.worker.calls), ("Anara", 1));
}

#[test]
fn a_child_gets_what_is_left_and_its_limit_is_a_text() {
    let mut config = deep(2);
    config.limits.orchestrator = Allowance { calls: Some(2), ..Allowance::default() };
    let mut orchestrator = script([repl(ASK), repl("x = 1"), repl("x = 2")]);
    let stopped = rlm(config).run(&mut orchestrator, "Who?").unwrap_err();
    // One turn of the parent, one of the child; then neither has any left.
    assert_eq!(orchestrator.seen.len(), 2);
    assert_eq!(stopped.ledger.orchestrator.turns, 2);
    let last = &stopped.messages.last().unwrap().content;
    assert!(last.contains("Error: after 1 turns: the orchestrator's limit of calls"), "{last}");
}

#[test]
fn three_levels_keep_their_variables_apart() {
    let go = |name: &str, inner: &str| {
        repl(&format!("name = \"{name}\"\nr = rlm_query(\"{inner}\", \"text of {inner}\")\nprint(r)"))
    };
    let turns = [
        go("root", "middle"),
        go("middle", "leaf"),
        ready("context"),
        ready("name + \" < \" + r"),
        ready("name + \" < \" + r"),
    ];
    let run = rlm(deep(3)).run(&mut script(turns), "Who?").unwrap();
    assert_eq!(run.answer, "root < middle < text of leaf");
}
