//! The layer that watches a run, alerts, tables.

use std::sync::{Arc, Mutex};

use latent_briefing::orchestrate::{
    Allowance, Event, Measure, Monitor, Phase, PriceTable, RunRecord, RunTables, Standing,
};
use tracing_subscriber::layer::SubscriberExt;

use super::*;

const PRICES: &str =
    "[models.scripted]\ninput = 10.0\noutput = 40.0\n[workers.embedded]\nprefill = 1.0\noutput = 2.0";

fn turns() -> [String; 3] {
    let code = "note(\"The Velmar ledger is kept by Anara.\")\nr = llm_query(\"Who keeps the Velmar ledger?\")\nprint(r)";
    [repl(code), repl("print(2)"), ready("r")]
}

#[test]
fn a_line_is_kept_up_to_date_and_alerts_are_in_it() {
    let seen: Arc<Mutex<Vec<Standing>>> = Arc::default();
    let lines = Arc::clone(&seen);
    let monitor = Monitor::new(move |now| lines.lock().unwrap().push(now.clone()));
    // With a single dispatcher, `tracing` asks the one of whichever thread meets an event first.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let mut config = config();
    config.prices = Some(PriceTable::from_toml(PRICES).unwrap());
    config.limits.run = Allowance { tokens: Some(2600), ..Allowance::default() };
    let mut alerts = Vec::new();
    let run = tracing::subscriber::with_default(tracing_subscriber::registry().with(monitor), || {
        let hear = &mut |event: &Event<'_>| {
            if let Event::Alert(alert) = event {
                alerts.push((alert.phase, alert.what, alert.at));
            }
        };
        rlm(config).run_with(&mut script(turns()), "Who?", hear).unwrap()
    });
    assert_eq!(alerts, [(Phase::Run, Measure::Tokens, 0.5)]);
    let seen = seen.lock().unwrap();
    let last = seen.last().unwrap();
    let usage = &run.ledger.orchestrator.usage;
    assert_eq!((last.turn, last.input, last.output, last.calls), (3, usage.input, usage.output, 1));
    assert_eq!((last.findings, last.of.as_str()), (1, "tokens"));
    assert_eq!(last.cost, run.ledger.cost());
    let line = last.to_string();
    assert!(
        line.contains("1 findings") && line.contains("a finding") && line.contains("run's tokens is gone"),
        "{line}"
    );
    // It grows turn by turn.
    assert!(seen.windows(2).all(|pair| pair[0].input <= pair[1].input));
}

#[test]
fn tables_add_up_to_the_ledger() {
    let dir = tempfile::tempdir().unwrap();
    let prices = PriceTable::from_toml(PRICES).unwrap();
    let mut config = logged(config(), dir.path());
    config.prices = Some(prices.clone());
    let run = rlm(config).run(&mut script(turns()), "Who?").unwrap();
    let record = RunRecord::open(run.log.unwrap()).unwrap();
    let tables = RunTables::of(&record, Some(&prices));
    let sum = |rows: &[latent_briefing::orchestrate::TableRow]| {
        let tokens: usize = rows.iter().map(|row| row.input + row.output).sum();
        (tokens, rows.iter().filter_map(|row| row.cost).sum::<f64>())
    };
    let (worker, usage) = (&run.ledger.worker, &run.ledger.orchestrator.usage);
    let tokens = usage.total()
        + worker.trajectory_prefilled
        + worker.tokens.prefilled
        + worker.tokens.reused
        + worker.tokens.drafted
        + worker.tokens.generated;
    for rows in [&tables.agents, &tables.phases, &tables.decisions] {
        let (all, cost) = sum(rows);
        assert_eq!(all, tokens, "{tables}");
        assert!((cost - run.ledger.cost().unwrap()).abs() < 1e-9, "{tables}");
    }
    assert_eq!((tables.decisions.len(), tables.findings), (3, 1));
    assert!((tables.cost_per_finding.unwrap() - run.ledger.cost().unwrap()).abs() < 1e-9);
    assert_eq!(RunTables::of(&record, None).cost_per_finding, None);
}
