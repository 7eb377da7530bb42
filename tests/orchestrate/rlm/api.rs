//! The loop over an API that breaks: it recovers, or ends with a typed error and what there was of an answer. The key is
//! nowhere.

use std::time::Duration;

use latent_briefing::orchestrate::api::{
    Anthropic, AnthropicConfig, ApiKey, Connection, OpenAi, OpenAiConfig, Retries, Streaming, Timeouts,
};
use latent_briefing::orchestrate::{Error, Orchestrator, RunRecord};
use serde_json::{Value, json};

use super::*;
use crate::support::api_server::{ApiServer, How, Reply};

const SECRET: &str = "sk-test-5ec4e7d0c0ffee00112233445566";

fn connection() -> Connection {
    let (ms, s) = (Duration::from_millis, Duration::from_secs);
    let timeouts = Timeouts { connect: s(5), silence: ms(300), whole: s(20) };
    let retries = Retries { count: 2, first_pause: ms(1), longest_pause: s(2) };
    Connection { timeouts, retries, streaming: Streaming::Off, ..Connection::default() }
}

fn anthropic(server: &ApiServer) -> Anthropic {
    let key = Some(ApiKey::new(SECRET).unwrap());
    let config =
        AnthropicConfig { key, connection: connection(), ..AnthropicConfig::at(server.url(), "test-model") };
    Anthropic::new(config).unwrap()
}

fn openai(server: &ApiServer) -> OpenAi {
    let key = Some(ApiKey::new(SECRET).unwrap());
    OpenAi::new(OpenAiConfig {
        key,
        connection: connection(),
        ..OpenAiConfig::at(server.url(), "test-model")
    })
    .unwrap()
}

/// A reply in the format of Anthropic's messages, thoughts first.
fn says(text: &str) -> Reply {
    let body = json!({
        "id": "msg_01", "type": "message", "role": "assistant", "model": "test-model",
        "content": [{"type": "thinking", "thinking": "I should look.", "signature": "EqQB"}, {"type": "text", "text": text}],
        "stop_reason": "end_turn", "stop_sequence": null,
        "usage": {"input_tokens": 10, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 70, "output_tokens": 8},
    });
    Reply::json(200, body.to_string())
}

fn chat_says(text: &str) -> Reply {
    let message = json!({"role": "assistant", "content": text});
    let body = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "model": "test-model",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 8, "total_tokens": 108,
            "prompt_tokens_details": {"cached_tokens": 70}},
    });
    Reply::json(200, body.to_string())
}

fn error(status: u16, kind: &str) -> Reply {
    Reply::json(status, json!({"type": "error", "error": {"type": kind, "message": kind}}).to_string())
}

const ASK: &str = "r = llm_query(\"Who keeps the Velmar ledger?\", context)\nprint(r)";

#[test]
fn an_exchange_with_every_temporary_fault_comes_to_its_answer() {
    let ask = repl(ASK);
    let server = ApiServer::start([
        error(429, "rate_limit_error").header("retry-after", "0"),
        error(529, "overloaded_error"),
        says("I look at the text first."),
        error(500, "api_error"),
        says(&ask).how(How::Cut(40)),
        says(&ask),
        Reply::json(200, "{\"type\": \"mess"),
        Reply::json(200, "{}").how(How::Silent),
        says("```repl\na = 1\n```\n```repl\nprint(a + 1)\n```"),
        says("```repl\nanswer[\"content\"] = 1"),
        says(&ready("r")),
    ]);
    let mut orchestrator = anthropic(&server);
    let dir = tempfile::tempdir().unwrap();
    let run = rlm(logged(dir.path())).run(&mut orchestrator, "Who?").unwrap();
    assert_eq!((run.answer.as_str(), run.turns, server.left()), ("Anara", 5, 0));
    let usage = run.ledger.orchestrator.usage;
    assert_eq!((usage.input, usage.cached, usage.cache_written, usage.output), (500, 350, 100, 40));
    let record = RunRecord::open(run.log.unwrap()).unwrap();
    assert_eq!(record.iterations[0].reasoning.as_deref(), Some("I should look."));
    let last = &record.iterations[4].prompt;
    assert!(last.iter().any(|m| m.content.contains("No ```repl block")));
    assert!(last.iter().any(|m| m.content.contains("REPL output (block 2):\n2")));
    assert!(last.iter().any(|m| m.content.contains("never closed")));
    // What was asked for grows at its end alone, so that the provider's cache can serve it.
    let asked: Vec<Value> = server.requests().into_iter().map(|request| request.body).collect();
    assert!(asked.iter().all(|body| body["system"] == asked[0]["system"]));
}

#[test]
fn what_does_not_get_better_ends_the_run_with_the_answer_so_far() {
    let draft = repl("answer[\"content\"] = \"perhaps Anara\"");
    let overloaded = || error(529, "overloaded_error");
    let cases = [
        (vec![overloaded(), overloaded(), overloaded()], 529),
        (vec![error(401, "authentication_error")], 401),
    ];
    for (faults, status) in cases {
        let server = ApiServer::start([vec![says(&draft)], faults].concat());
        let stopped = rlm(config()).run(&mut anthropic(&server), "Who?").unwrap_err();
        let Error::Api { failure, .. } = &stopped.error else { panic!("{stopped}") };
        assert_eq!(failure.status(), Some(status));
        assert_eq!((stopped.partial.as_deref(), stopped.turns, server.left()), (Some("perhaps Anara"), 1, 0));
    }
}

#[test]
fn a_deadline_of_the_run_ends_a_reply_that_does_not_come() {
    let server = ApiServer::start([chat_says(&repl("x = 1")), chat_says("late").how(How::Mute)]);
    let mut config = config();
    config.limits.run.time = Some(Duration::from_millis(700));
    let mut connection = connection();
    connection.timeouts.silence = Duration::from_secs(20);
    let key = Some(ApiKey::new(SECRET).unwrap());
    let api = OpenAiConfig { key, connection, ..OpenAiConfig::at(server.url(), "test-model") };
    let stopped = rlm(config).run(&mut OpenAi::new(api).unwrap(), "Who?").unwrap_err();
    assert_eq!(limit_of(&stopped.error).what, latent_briefing::orchestrate::Measure::Time);
    assert!(stopped.ledger.elapsed_s < 10.0 && stopped.partial.is_some());
}

#[test]
fn the_key_is_in_no_log_page_error_or_debug_output() {
    // The service echoes the key in an error.
    let server = ApiServer::start([
        chat_says(&repl(ASK)),
        Reply::json(
            401,
            json!({"error": {"message": format!("Incorrect API key provided: {SECRET}")}}).to_string(),
        ),
    ]);
    let mut orchestrator = openai(&server);
    let dir = tempfile::tempdir().unwrap();
    let mut rlm = rlm(logged(dir.path()));
    let stopped = rlm.run(&mut orchestrator, "Who?").unwrap_err();
    let sent = &server.requests()[0].headers["authorization"];
    assert!(sent.contains(SECRET), "the key was used");
    let record = RunRecord::open(stopped.log.as_ref().unwrap()).unwrap();
    let shown = [
        format!("{stopped} {stopped:?} {:?}", stopped.error),
        format!("{rlm:?} {:?} {:?}", rlm.config(), rlm.ledger()),
        format!("{orchestrator:?} {}", orchestrator.model()),
        std::fs::read_to_string(&record.path).unwrap(),
        latent_briefing::explain::run_page(&record).unwrap(),
        latent_briefing::explain::trace(&record, 100),
    ];
    for text in shown {
        assert!(!text.contains(SECRET) && !text.contains(&SECRET[8..]), "{text}");
    }
}
