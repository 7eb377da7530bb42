//! Limits: what ends a run, what only opens a breaker, what is left over.

use std::time::Duration;

use latent_briefing::orchestrate::{Allowance, Event, Limits, Measure, Phase, PriceTable};

use super::*;

fn limited(change: impl FnOnce(&mut Limits)) -> RlmConfig {
    let mut config = config();
    change(&mut config.limits);
    config
}

const WHO: &str = "r = llm_query(\"Who keeps the Velmar ledger?\", context)\nprint(r)";

#[test]
fn the_workers_breaker_opens_and_the_orchestrator_can_still_answer() {
    let config = limited(|l| l.worker = Allowance { calls: Some(2), ..Allowance::default() });
    let code = "r = []\nfor i in range(4):\n    r.append(llm_query(\"Who keeps the Velmar ledger?\", context))\nprint(r)";
    let mut opened = 0;
    let mut orchestrator = script([repl(code), ready("r[0]")]);
    let run = rlm(config)
        .run_with(&mut orchestrator, "Who?", &mut |event| {
            opened +=
                usize::from(matches!(event, Event::BreakerOpened(limit) if limit.phase == Phase::Worker));
        })
        .unwrap();
    assert_eq!((run.answer.as_str(), run.ledger.worker.calls, opened), ("Anara", 2, 1));
    let shown = orchestrator.output(1);
    assert_eq!(shown.matches("Error: the worker's limit of calls is reached: 2 of 2").count(), 2, "{shown}");
}

#[test]
fn a_batch_is_cut_where_its_budget_ends() {
    let mut config = limited(|l| l.run = Allowance { calls: Some(6), ..Allowance::default() });
    config.session.max_batch = 3;
    let code = "r = llm_query_batched([\"Who keeps the Velmar ledger?\"] * 10, documents=[context] * 10, brief=False)\n\
        print(len([x for x in r if x.startswith(\"Error: the run's limit\")]))";
    let mut orchestrator = script([repl(code), ready("1")]);
    let stopped = rlm(config).run(&mut orchestrator, "Who?").unwrap_err();
    assert_eq!(limit_of(&stopped.error).what, Measure::Calls);
    assert_eq!(stopped.ledger.worker.calls, 6);
    assert_eq!(orchestrator.seen.len(), 1);
    assert!(stopped.partial.is_some());
}

#[test]
fn tokens_of_the_orchestrator_end_a_run_between_turns() {
    let config = limited(|l| l.orchestrator = Allowance { tokens: Some(800), ..Allowance::default() });
    let stopped = rlm(config).run(&mut script([repl("x=1"), repl("x=2"), repl("x=3")]), "Who?").unwrap_err();
    let limit = limit_of(&stopped.error);
    assert_eq!((limit.phase, limit.what, limit.used.as_str()), (Phase::Orchestrator, Measure::Tokens, "920"));
    assert_eq!(stopped.turns, 2);
}

#[test]
fn money_is_counted_by_the_price_table_and_ends_a_run() {
    let prices = "[models.scripted]\ninput = 1000.0\noutput = 0.0\n[workers.embedded]\nprefill = 100.0";
    let mut config = limited(|l| l.run = Allowance { cost: Some(0.5), ..Allowance::default() });
    config.prices = Some(PriceTable::from_toml(prices).unwrap());
    let stopped = rlm(config).run(&mut script([repl(WHO), repl("x=2"), repl("x=3")]), "Who?").unwrap_err();
    assert_eq!(limit_of(&stopped.error).what, Measure::Cost);
    let ledger = &stopped.ledger;
    let prefilled = ledger.worker.tokens.prefilled + ledger.worker.trajectory_prefilled;
    assert!((ledger.orchestrator.cost.unwrap() - 0.9).abs() < 1e-9, "{ledger:?}");
    assert!((ledger.worker.cost.unwrap() - prefilled as f64 * 1e-4).abs() < 1e-9);
    assert_eq!(ledger.currency.as_deref(), Some("USD"));
}

#[test]
fn a_limit_of_money_without_a_price_is_refused_before_anything_is_spent() {
    let config = limited(|l| l.run = Allowance { cost: Some(1.0), ..Allowance::default() });
    let error = Rlm::new(embedded(), monty, config.clone()).unwrap_err();
    assert!(error.to_string().contains("price table"), "{error}");
    let prices = Some(PriceTable::from_toml("[models.other]\ninput = 1\noutput = 1").unwrap());
    let mut orchestrator = script([ready("1")]);
    let stopped = rlm(RlmConfig { prices, ..config }).run(&mut orchestrator, "Who?").unwrap_err();
    assert!(stopped.to_string().contains("scripted"), "{stopped}");
    assert_eq!(orchestrator.seen.len(), 0);
}

#[test]
fn time_ends_a_run_inside_of_code() {
    let config =
        limited(|l| l.run = Allowance { time: Some(Duration::from_millis(400)), ..Allowance::default() });
    let stopped = rlm(config).run(&mut script([repl("while True:\n    pass")]), "Who?").unwrap_err();
    assert_eq!(limit_of(&stopped.error).what, Measure::Time);
    assert!(stopped.ledger.elapsed_s < 10.0);
}

#[test]
fn errors_in_a_row_end_a_run_and_a_good_turn_starts_the_count_anew() {
    let config = limited(|l| l.consecutive_errors = 2);
    let bad = || repl("undefined_name");
    let mut orchestrator = script([bad(), repl("x = 1"), bad(), "no code".into(), repl("x = 2")]);
    let dir = tempfile::tempdir().unwrap();
    let config = RlmConfig { log_dir: Some(dir.path().to_owned()), ..config };
    let stopped = rlm(config).run(&mut orchestrator, "Who?").unwrap_err();
    let record = latent_briefing::orchestrate::RunRecord::open(stopped.log.as_ref().unwrap()).unwrap();
    assert!(record.iterations[4].stopped.as_ref().unwrap().contains("errors in a row"));
    assert_eq!(limit_of(&stopped.error).what, Measure::ConsecutiveErrors);
    assert_eq!(stopped.turns, 4);
}

#[test]
fn the_sandbox_has_a_budget_of_its_own() {
    let config = limited(|l| l.sandbox = Allowance { calls: Some(1), ..Allowance::default() });
    let mut orchestrator = script([repl("x = 1"), repl("x = 2")]);
    let stopped = rlm(config).run(&mut orchestrator, "Who?").unwrap_err();
    assert_eq!(orchestrator.seen.len(), 3);
    assert!(orchestrator.output(2).contains("the sandbox's limit of calls is reached"), "{stopped}");
}

#[test]
fn limits_out_of_range_are_named() {
    for (change, field) in [
        ((|l: &mut Limits| l.iterations = 0) as fn(&mut Limits), "iterations"),
        (|l| l.consecutive_errors = 0, "consecutive_errors"),
        (|l| l.depth = 1000, "depth"),
        (|l| l.run.cost = Some(f64::NAN), "cost"),
        (|l| l.worker.cost = Some(-1.0), "cost"),
    ] {
        let error = Rlm::new(embedded(), monty, limited(change)).unwrap_err();
        assert!(error.to_string().contains(field), "{error}");
    }
}

#[test]
fn a_run_may_get_more_and_go_on() {
    let mut rlm = rlm(limited(|l| l.orchestrator.calls = Some(1)));
    let stopped = rlm.run(&mut script([repl("x = 3")]), "What?").unwrap_err();
    assert_eq!(limit_of(&stopped.error).what, Measure::Calls);
    rlm.set_limits(Limits::default()).unwrap();
    assert_eq!(rlm.go_on(&mut script([ready("x")]), &mut |_| {}).unwrap().answer, "3");
}
