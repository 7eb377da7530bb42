//! Price tables, what they make of tokens, and estimates.

use latent_briefing::orchestrate::{
    Assumptions, Error, Estimate, EstimateInputs, ModelPrice, PriceTable, Usage, WorkerSpeed,
};
use latent_briefing::session::{CallTokens, Handoff};

use crate::support::embedded;

const TABLE: &str = r#"
currency = "EUR"
[models."gpt-5*"]
input = 1.0
output = 8.0
[models."gpt-5-mini"]
input = 0.25
cached_input = 0.025
output = 2.0
[models."claude-*"]
input = 3.0
cached_input = 0.3
cache_write = 3.75
output = 15.0
[workers."*"]
prefill = 0.01
output = 0.1
second = 0.0005
"#;

fn close(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-12, "{a} {b}");
}

#[test]
fn the_longest_name_that_fits_counts() {
    let table = PriceTable::from_toml(TABLE).unwrap();
    assert_eq!(table.currency, "EUR");
    close(table.model("gpt-5-mini").unwrap().input, 0.25);
    close(table.model("gpt-5-mini-2026").unwrap().input, 1.0);
    assert!(table.model("gpt-4").is_none());
    assert!(table.worker("Qwen3-4B").is_some());
}

#[test]
fn cached_and_written_tokens_are_paid_apart() {
    let usage = Usage {
        input: 1_000_000,
        cached: 600_000,
        cache_written: 100_000,
        output: 20_000,
        reasoning: 5_000,
        ..Usage::default()
    };
    let table = PriceTable::from_toml(TABLE).unwrap();
    let anthropic = table.model("claude-opus").unwrap().of(&usage);
    close(anthropic, 0.3 * 3.0 + 0.6 * 0.3 + 0.1 * 3.75 + 0.02 * 15.0);
    // Without prices of their own they cost what input costs.
    close(table.model("gpt-5").unwrap().of(&usage), 1.0 + 0.02 * 8.0);
    // An API that counts more cached tokens than input must not make money.
    let odd = Usage { input: 10, cached: 20, ..Usage::default() };
    assert!(table.model("claude-opus").unwrap().of(&odd) >= 0.0);
}

#[test]
fn a_worker_costs_tokens_and_seconds() {
    let table = PriceTable::from_toml(TABLE).unwrap();
    let tokens = CallTokens { prefilled: 2_000_000, generated: 10_000, ..CallTokens::default() };
    close(table.worker("embedded").unwrap().of(&tokens, 100.0), 0.02 + 0.001 + 0.05);
}

#[test]
fn what_is_wrong_with_a_table_is_said_with_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("prices.toml");
    for (text, hint) in [
        ("[models.a]\ninput = -1\noutput = 1", "input = -1"),
        ("[models.a]\ninput = nan\noutput = 1", "input"),
        ("[models.a]\ninput = 1", "output"),
        ("[models.a]\ninput = 1\noutput = 1\nimput = 2", "imput"),
        ("[models.a", "line 1"),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = PriceTable::open(&path).unwrap_err();
        assert!(matches!(&error, Error::Prices { path: p, .. } if *p == path));
        assert!(error.to_string().contains(hint), "{error}");
    }
    std::fs::write(&path, [0xff, 0x80]).unwrap();
    assert!(PriceTable::open(&path).unwrap_err().to_string().contains("prices.toml"));
    assert!(PriceTable::open(dir.path().join("none.toml")).is_err());
}

fn inputs(handoff: Handoff) -> EstimateInputs {
    EstimateInputs {
        assumptions: Assumptions { cached: 0.0, ..Assumptions::default() },
        likely_turns: 6,
        iterations: 30,
        handoff,
        model: Some(ModelPrice { input: 1.0, cached_input: None, cache_write: None, output: 10.0 }),
        worker: None,
        speed: None,
    }
}

#[test]
fn an_estimate_adds_up_turn_by_turn() {
    let estimate = Estimate::of(&inputs(Handoff::TextReplay)).unwrap();
    let run = estimate.low;
    // Two turns: the opening twice, what the first turn added once.
    assert_eq!((run.turns, run.calls), (2, 6));
    assert_eq!(run.orchestrator.input, 2 * 900 + 350 + 500);
    assert_eq!(run.orchestrator.output, 700);
    // Text replay reads the trajectory for every call; besides, what each turn adds is read once.
    let learns = 350.0 + 500.0 + 3.0 * 60.0;
    let read = 3.0 * (350.0 + 800.0) + 3.0 * (learns + 350.0 + 800.0) + 2.0 * learns;
    assert_eq!(run.worker.prefilled, read as usize);
    assert!((run.cost.unwrap() - (2650.0 + 7000.0) / 1e6).abs() < 1e-9);
    assert_eq!(estimate.high.turns, 30);
}

#[test]
fn a_briefing_is_estimated_below_text_replay() {
    let briefed = Estimate::of(&inputs("latent-briefing".parse().unwrap())).unwrap().high;
    let replayed = Estimate::of(&inputs(Handoff::TextReplay)).unwrap().high;
    assert!(briefed.worker.attended * 3 < replayed.worker.attended);
    assert!(briefed.worker.prefilled < replayed.worker.prefilled);
}

#[test]
fn a_measured_speed_gives_seconds() {
    let speed = WorkerSpeed::measure(embedded()).unwrap();
    assert!(speed.prefill > 0.0 && speed.decode > 0.0);
    let run = Estimate::of(&EstimateInputs { speed: Some(speed), ..inputs(Handoff::FullKv) }).unwrap().likely;
    assert!(run.worker_s.unwrap() > 0.0);
}

#[test]
fn absurd_assumptions_are_named() {
    let wrong = Assumptions { keep_ratio: 1.5, ..Assumptions::default() };
    let error = Estimate::of(&EstimateInputs { assumptions: wrong, ..inputs(Handoff::None) }).unwrap_err();
    assert!(error.to_string().contains("keep_ratio"), "{error}");
    let wrong = Assumptions { calls: f64::NAN, ..Assumptions::default() };
    assert!(Estimate::of(&EstimateInputs { assumptions: wrong, ..inputs(Handoff::None) }).is_err());
    assert!(Estimate::of(&EstimateInputs { likely_turns: 0, ..inputs(Handoff::None) }).is_err());
}
