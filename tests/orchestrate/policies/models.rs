//! Several models: who is asked in turn under real failures of servers, within deadlines, and what it costs.

use std::time::{Duration, Instant};

use latent_briefing::orchestrate::{
    ChainConfig, ChatMessage, ChatRequest, Completion, Error, ModelChain, ModelSpec, Orchestrator, Policies,
    PriceTable, Role, RunRecord,
};
use latent_briefing::session::CancelToken;
use serde_json::json;

use super::*;
use crate::support::api_server::{ApiServer, How, Reply, closed_port};

fn said(text: &str) -> Reply {
    let body = json!({
        "choices": [{ "index": 0, "message": { "role": "assistant", "content": text }, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": 1000, "completion_tokens": 100 },
    });
    Reply::json(200, body.to_string())
}

fn busy() -> Reply {
    Reply::json(503, r#"{"error": {"message": "try later"}}"#)
}

fn refused() -> Reply {
    Reply::json(401, r#"{"error": {"message": "no such key"}}"#)
}

fn spec(name: &str, url: &str) -> ModelSpec {
    ModelSpec { name: name.to_owned(), base_url: Some(url.to_owned()), retries: 1, ..ModelSpec::default() }
}

fn chain(models: Vec<ModelSpec>) -> ChainConfig {
    ChainConfig { models, first_pause_s: 0.01, longest_pause_s: 0.05, ..ChainConfig::default() }
}

const PRICES: &str = "[models.small]\ninput = 1.0\noutput = 4.0\n[models.large]\ninput = 10.0\noutput = 40.0";

fn prices() -> PriceTable {
    PriceTable::from_toml(PRICES).unwrap()
}

fn ask(chain: &mut ModelChain, deadline: Option<Duration>) -> Result<Completion, Error> {
    let messages = [ChatMessage::new(Role::User, "Who keeps the ledger?")];
    let (cancel, deadline) = (CancelToken::new(), deadline.map(|time| Instant::now() + time));
    chain.complete(&ChatRequest { messages: &messages, max_tokens: None, deadline, cancel: &cancel })
}

#[test]
fn models_are_asked_in_turn_until_one_answers() {
    let first = ApiServer::start([busy(), refused()]);
    let second = ApiServer::start([said(""), said("Tolio.")]);
    let third = ApiServer::start([said("Anara.")]);
    let mut config =
        chain(vec![spec("a", &first.url()), spec("small", &second.url()), spec("large", &third.url())]);
    config.cool_down_s = 0.0;
    let mut chain = ModelChain::connect(config, Some(prices())).unwrap();
    // The first is busy and is asked by its own client twice (one repetition); the second says nothing; the third answers.
    let completion = ask(&mut chain, None).unwrap();
    assert_eq!(completion.text, "Anara.");
    let used: Vec<(&str, bool)> =
        completion.by_model.iter().map(|m| (m.model.as_str(), m.refused.is_some())).collect();
    assert_eq!(used, [("small", true), ("large", false)]);
    assert_eq!((completion.usage.input, completion.usage.output), (2000, 200));
    assert_eq!([first.requests().len(), second.requests().len(), third.requests().len()], [2, 1, 1]);
    let choice = chain.report().choices[0].clone();
    let fell: Vec<&str> = choice.fell.iter().map(|fall| fall.model.as_str()).collect();
    assert_eq!((choice.model.as_deref(), fell), (Some("large"), vec!["a", "small"]));
    assert!(choice.fell[0].why.contains("401") && choice.fell[1].why.contains("empty"), "{choice:?}");
    let cost = (1000.0 + 400.0) / 1e6 + (10_000.0 + 4_000.0) / 1e6;
    assert!((choice.cost.unwrap() - cost).abs() < 1e-12 && choice.saved().unwrap() < 0.0, "{choice:?}");
    // The next turn begins with the first again, which has no reply left; the second answers.
    let completion = ask(&mut chain, None).unwrap();
    assert_eq!(completion.text, "Tolio.");
    let saved = chain.report().choices[1].saved().unwrap();
    assert!((saved - (14_000.0 - 1_400.0) / 1e6).abs() < 1e-12, "{saved}");
    let report = chain.report();
    let counts: Vec<_> = report.models.iter().map(|m| (m.requests, m.taken, m.failed, m.refused)).collect();
    assert_eq!(counts, [(2, 0, 2, 0), (2, 1, 0, 1), (1, 1, 0, 0)]);
    assert!(report.to_string().contains("Against large alone: "), "{report}");
}

#[test]
fn a_round_without_a_reply_is_followed_by_another() {
    let first = ApiServer::start([busy(), busy(), said("Anara.")]);
    let mut chain =
        ModelChain::connect(chain(vec![spec("a", &first.url()), spec("b", &closed_port())]), None).unwrap();
    let start = Instant::now();
    assert_eq!(ask(&mut chain, None).unwrap().text, "Anara.");
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(first.requests().len(), 3);
    let fell: Vec<&str> = chain.report().choices[0].fell.iter().map(|fall| fall.model.as_str()).collect();
    assert_eq!(fell, ["a", "b"]);
}

#[test]
fn nobody_is_asked_again_who_will_never_answer() {
    let (first, second) = (ApiServer::start([refused()]), ApiServer::start([refused()]));
    let mut config = chain(vec![spec("a", &first.url()), spec("b", &second.url())]);
    config.rounds = 5;
    let mut chain = ModelChain::connect(config, None).unwrap();
    let error = ask(&mut chain, None).unwrap_err();
    let Error::NoModel { tried } = &error else { panic!("{error}") };
    assert!(
        tried.starts_with("a: ") && tried.contains("; b: ") && tried.matches("401").count() == 2,
        "{tried}"
    );
    assert_eq!((first.requests().len(), second.requests().len()), (1, 1));
}

#[test]
fn a_pause_does_not_outlast_the_deadline() {
    let server = ApiServer::start(vec![busy(); 9]);
    let mut config = chain(vec![ModelSpec { retries: 0, ..spec("a", &server.url()) }]);
    (config.first_pause_s, config.longest_pause_s, config.rounds) = (60.0, 60.0, 4);
    let mut chain = ModelChain::connect(config, None).unwrap();
    let start = Instant::now();
    let error = ask(&mut chain, Some(Duration::from_secs(5))).unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(4), "a pause that cannot help is not begun");
    assert_eq!(server.requests().len(), 1);
    assert_eq!(chain.report().choices.len(), 1);
}

#[test]
fn a_model_that_takes_too_long_gives_way_within_the_deadline() {
    let slow = ApiServer::start([said("late").how(How::Mute)]);
    let quick = ApiServer::start([said("Anara."), said("Benth.")]);
    let mut models = vec![spec("a", &slow.url()), spec("b", &quick.url())];
    models[0].limits.request_s = Some(0.2);
    let mut chain = ModelChain::connect(chain(models), None).unwrap();
    let start = Instant::now();
    assert_eq!(ask(&mut chain, Some(Duration::from_secs(30))).unwrap().text, "Anara.");
    assert!(start.elapsed() < Duration::from_secs(10));
    // It has just failed, and is asked last.
    assert_eq!(ask(&mut chain, None).unwrap().text, "Benth.");
    assert_eq!(slow.requests().len(), 1);
}

#[test]
fn limits_pass_a_model_over_and_rules_choose_by_difficulty() {
    let small = ApiServer::start(vec![said("small"); 9]);
    let large = ApiServer::start(vec![said("large"); 9]);
    let mut config = Policies::from_toml(RULES).unwrap().models.unwrap();
    config.models = vec![spec("small", &small.url()), spec("large", &large.url())];
    config.models[0].limits.requests = Some(3);
    let mut chain = ModelChain::connect(config, Some(prices())).unwrap();
    assert_eq!(ask(&mut chain, None).unwrap().text, "small");
    // An error in the outputs makes the turn difficult.
    let ask_hard = |chain: &mut ModelChain| {
        let messages = [
            ChatMessage::new(Role::User, "Who keeps the ledger?"),
            ChatMessage::new(Role::Assistant, repl("x = y")),
            ChatMessage::new(Role::User, "REPL output:\nNameError: name 'y' is not defined"),
        ];
        let cancel = CancelToken::new();
        chain.complete(&ChatRequest {
            messages: &messages,
            max_tokens: None,
            deadline: None,
            cancel: &cancel,
        })
    };
    assert_eq!(ask_hard(&mut chain).unwrap().text, "large");
    assert_eq!(chain.report().choices[1].rule, Some(1));
    // 0.0014 + 0.014 of 0.05 are gone; one more large turn, and less than half is left.
    assert_eq!(ask_hard(&mut chain).unwrap().text, "large");
    assert_eq!(ask_hard(&mut chain).unwrap().text, "small");
    assert!(chain.report().choices[3].signals.budget_left < 0.5);
    assert_eq!(ask(&mut chain, None).unwrap().text, "small");
    // The small one has had its three requests.
    assert_eq!(ask(&mut chain, None).unwrap().text, "large");
    assert!(chain.report().choices[5].fell[0].why.contains("requests"));
    assert_eq!(chain.report().models[0].passed_over, 1);
}

const RULES: &str = "[models]
budget = 0.05
[[models.model]]
name = \"small\"
[[models.model]]
name = \"large\"
[[models.rule]]
order = [\"large\", \"small\"]
[models.rule.when]
difficulty = [0.4, 1.0]
budget_left = [0.5, 1.0]
";

#[test]
fn what_cannot_be_is_refused_before_anything_is_sent() {
    let refused = |change: &dyn Fn(&mut ChainConfig)| {
        let mut config = chain(vec![spec("a", "http://127.0.0.1:1"), spec("b", "http://127.0.0.1:1")]);
        change(&mut config);
        ModelChain::connect(config, None).unwrap_err().to_string()
    };
    assert!(refused(&|config| config.models.clear()).contains("models.model is empty"));
    assert!(refused(&|config| config.models[1].name = "a".to_owned()).contains("is there twice"));
    assert!(refused(&|config| config.reference = Some("c".to_owned())).contains("is none of the models"));
    assert!(refused(&|config| config.budget = Some(1.0)).contains("needs a price of every model"));
    assert!(refused(&|config| config.rounds = 0).contains("models.rounds"));
    let named = refused(&|config| config.models[0].key_env = Some("NO_SUCH_KEY_OF_A_TEST".to_owned()));
    assert!(named.contains("key_env"), "{named}");
}

/// A loop over a chain: its log has who said what, money is counted by model, and a replay has the same.
#[test]
fn a_run_counts_each_model_by_its_own_price() {
    let dir = tempfile::tempdir().unwrap();
    let small = ApiServer::start([busy(), said(&repl("print(1)"))]);
    let large = ApiServer::start([said(&ready("'done'"))]);
    let mut models = vec![spec("small", &small.url()), spec("large", &large.url())];
    models[0].retries = 0;
    models[1].limits.requests = Some(1);
    let mut chain = ModelChain::connect(chain(models), Some(prices())).unwrap();
    let mut config = logged(config(), dir.path());
    config.prices = Some(prices());
    config.limits.run.cost = Some(1.0);
    // The small one fails at first, the large one says that it is done.
    let run = rlm(config).run(&mut chain, "Who?").unwrap();
    assert_eq!(run.answer, "done");
    assert!((run.ledger.orchestrator.cost.unwrap() - 14_000.0 / 1e6).abs() < 1e-12);
    let record = RunRecord::open(run.log.unwrap()).unwrap();
    assert_eq!(record.metadata.root_model, "small > large");
    assert_eq!(record.iterations[0].by_model[0].model, "large");
    let tables = latent_briefing::orchestrate::RunTables::of(&record, Some(&prices()));
    assert!(tables.agents.iter().any(|row| row.name == "large" && row.input == 1000), "{tables}");
}
