//! The clients against servers that others wrote, which serve the built-in worker. They run where an environment
//! variable tells where the server is.

use std::env;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use latent_briefing::model::{Checkpoint, GgufFormat};
use latent_briefing::orchestrate::api::{
    Anthropic, AnthropicConfig, Connection, Failure, OpenAi, OpenAiConfig, Retries, Streaming,
};
use latent_briefing::orchestrate::{
    ChatMessage, ChatRequest, Completion, Error, Finish, LocalConfig, LocalOrchestrator, Orchestrator, Role,
};
use latent_briefing::session::CancelToken;

use crate::support::embedded;

/// A Python interpreter with `transformers[serving]`.
const PYTHON: &str = "LATENT_BRIEFING_TRANSFORMERS";
/// The program `llama-server` of llama.cpp.
const LLAMA_SERVER: &str = "LATENT_BRIEFING_LLAMA_SERVER";
/// Until the server has loaded its libraries and the model.
const STARTS_WITHIN: Duration = Duration::from_mins(3);

/// What a variable names, or word that the test is skipped.
fn program(variable: &str) -> Option<OsString> {
    let program = env::var_os(variable).filter(|program| !program.is_empty());
    if program.is_none() {
        eprintln!("skipped: {variable} is not set");
    }
    program
}

struct Server {
    child: Child,
    port: u16,
}

impl Server {
    /// Runs a command that serves on the port that it is given.
    fn start(command: &mut Command) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        command.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut server = Self { child, port };
        let begin = Instant::now();
        while !server.is_healthy() {
            let ended = server.child.try_wait().unwrap();
            assert!(
                ended.is_none() && begin.elapsed() < STARTS_WITHIN,
                "the server did not start: {ended:?}"
            );
            thread::sleep(Duration::from_millis(200));
        }
        server
    }

    fn is_healthy(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        let mut answer = String::new();
        let asked = stream.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        asked.is_ok() && stream.read_to_string(&mut answer).is_ok() && answer.starts_with("HTTP/1.1 200")
    }

    fn openai(&self, model: &str, streaming: Streaming) -> OpenAi {
        let url = format!("http://127.0.0.1:{}/v1", self.port);
        let connection = connection(streaming);
        let config = OpenAiConfig { temperature: Some(0.0), connection, ..OpenAiConfig::at(url, model) };
        OpenAi::new(config).unwrap()
    }

    fn anthropic(&self, streaming: Streaming) -> Anthropic {
        let url = format!("http://127.0.0.1:{}", self.port);
        let connection = connection(streaming);
        let config =
            AnthropicConfig { temperature: Some(0.0), connection, ..AnthropicConfig::at(url, "worker") };
        Anthropic::new(config).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn connection(streaming: Streaming) -> Connection {
    let retries = Retries { count: 1, first_pause: Duration::from_millis(100), ..Retries::default() };
    Connection { streaming, retries, ..Connection::default() }
}

fn turn(orchestrator: &mut dyn Orchestrator, messages: &[ChatMessage], max_tokens: usize) -> Completion {
    let cancel = CancelToken::new();
    let max_tokens = Some(max_tokens);
    orchestrator.complete(&ChatRequest { messages, max_tokens, deadline: None, cancel: &cancel }).unwrap()
}

/// A conversation, turn by turn: every client has to say what the first orchestrator says, for as many tokens and `more`.
fn assert_same_turns(
    first: &mut dyn Orchestrator,
    clients: &mut [&mut dyn Orchestrator],
    more: usize,
) -> Vec<ChatMessage> {
    let lines: Vec<String> = super::super::lines().iter().map(|segment| segment.text.clone()).collect();
    let mut messages = vec![ChatMessage::new(Role::System, lines.join("\n"))];
    for question in
        ["Who works in Redmoor?", "Who keeps the Velmar ledger?", "What is the code of the Oslund relay?"]
    {
        messages.push(ChatMessage::new(Role::User, question));
        let expected = turn(first, &messages, 24);
        for (index, client) in clients.iter_mut().enumerate() {
            let remote = turn(&mut **client, &messages, 24);
            eprintln!("{} {index}: {remote:?}", client.backend());
            assert_eq!(remote.text, expected.text, "client {index}");
            assert_eq!(remote.usage.input, expected.usage.input, "client {index}");
            assert_eq!(remote.usage.output, expected.usage.output + more, "client {index}");
            assert_eq!((remote.usage.unreported, remote.finish), (0, Finish::Stop));
        }
        messages.push(ChatMessage::new(Role::Assistant, expected.text));
    }
    messages.pop();
    messages
}

#[test]
fn transformers_serve_says_what_the_local_orchestrator_says() {
    let Some(python) = program(PYTHON) else { return };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/lb-model/assets/worker");
    let model = folder.to_str().unwrap();
    let mut command = Command::new(python);
    command.args(["-c", "from transformers.cli.transformers import main; main()", "serve", model]);
    command.args(["--device", "cpu", "--dtype", "float32"]).env("HF_HUB_OFFLINE", "1");
    let server = Server::start(&mut command);
    let (mut whole, mut streamed) =
        (server.openai(model, Streaming::Off), server.openai(model, Streaming::On));
    let mut local = LocalOrchestrator::new(embedded().clone(), LocalConfig::default()).unwrap();
    // The server counts the token that ends the turn.
    let messages = assert_same_turns(&mut local, &mut [&mut whole, &mut streamed], 1);

    super::super::rlm::a_short_run_over(&mut streamed);

    let short = turn(&mut streamed, &messages, 1);
    assert_eq!((short.finish, short.usage.output), (Finish::Length, 1));
    let cancel = CancelToken::new();
    let request = ChatRequest { messages: &messages, max_tokens: None, deadline: None, cancel: &cancel };
    let error = server.openai("another-model", Streaming::On).complete(&request).unwrap_err();
    eprintln!("{error}");
    let Error::Api { failure, attempts: 1, .. } = error else { panic!("{error:?}") };
    assert!(matches!(*failure, Failure::Refused { status: 400, .. }), "{failure:?}");
}

#[test]
fn llama_server_says_the_same_to_every_client() {
    let Some(llama_server) = program(LLAMA_SERVER) else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("worker.gguf");
    Checkpoint::embedded().write_gguf(&file, GgufFormat::F32).unwrap();
    let mut command = Command::new(llama_server);
    // One slot, so that each turn finds the prompt of the last one.
    command.arg("-m").arg(&file).args(["--jinja", "-c", "4096", "-np", "1", "-t", "2"]);
    let server = Server::start(&mut command);
    let (mut whole, mut streamed) =
        (server.openai("worker", Streaming::Off), server.openai("worker", Streaming::On));
    let (mut message, mut events) = (server.anthropic(Streaming::Off), server.anthropic(Streaming::On));
    // llama.cpp splits this worker's text by the rules of Qwen2, so its counts are its own.
    let messages = assert_same_turns(&mut whole, &mut [&mut streamed, &mut message, &mut events], 0);
    for client in [&mut streamed as &mut dyn Orchestrator, &mut events] {
        let again = turn(client, &messages, 24);
        assert!(again.usage.cached > again.usage.input / 2, "{:?}", again.usage);
        let short = turn(client, &messages, 1);
        assert_eq!((short.finish, short.usage.output), (Finish::Length, 1));
    }
}
