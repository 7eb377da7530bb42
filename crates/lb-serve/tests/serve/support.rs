//! A server and a client for it.

use std::io::{BufRead, BufReader};
use std::sync::OnceLock;
use std::time::Duration;

use lb_model::Worker;
use lb_serve::{Running, ServeConfig, Server};
use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::Response;

/// The built-in worker, loaded once.
pub(crate) fn worker() -> &'static Worker {
    static WORKER: OnceLock<Worker> = OnceLock::new();
    WORKER.get_or_init(|| Worker::embedded().unwrap())
}

pub(crate) struct Client {
    agent: Agent,
    base: String,
    key: Option<String>,
}

/// What a server answered.
pub(crate) struct Told {
    pub(crate) status: u16,
    pub(crate) body: Value,
    pub(crate) retry_after: Option<String>,
    pub(crate) ignored: Option<String>,
}

pub(crate) fn config() -> ServeConfig {
    let mut config = ServeConfig::default();
    config.listen = ([127, 0, 0, 1], 0).into();
    config
}

pub(crate) fn serve(config: ServeConfig) -> (Running, Client) {
    let server = Server::start(worker(), config).unwrap();
    let client = Client::of(&server, None);
    (server, client)
}

pub(crate) fn usual() -> (Running, Client) {
    serve(config())
}

impl Client {
    pub(crate) fn of(server: &Running, key: Option<&str>) -> Self {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_mins(2)))
            .build()
            .new_agent();
        Self { agent, base: format!("http://{}", server.address()), key: key.map(str::to_owned) }
    }

    pub(crate) fn at(address: &str) -> Self {
        let agent = Agent::config_builder().http_status_as_error(false).build().new_agent();
        Self { agent, base: format!("http://{address}"), key: None }
    }

    /// Nothing where the server is gone.
    pub(crate) fn try_post(&self, path: &str, body: &Value) -> Option<Told> {
        let request =
            self.agent.post(format!("{}{path}", self.base)).header("content-type", "application/json");
        let mut response = request.send(body.to_string()).ok()?;
        let status = response.status().as_u16();
        let body = serde_json::from_str(&response.body_mut().read_to_string().ok()?).ok()?;
        Some(Told { status, body, retry_after: None, ignored: None })
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Told {
        self.post_text(path, &body.to_string())
    }

    pub(crate) fn post_text(&self, path: &str, body: &str) -> Told {
        told(self.send(path, body))
    }

    fn send(&self, path: &str, body: &str) -> Response<ureq::Body> {
        let mut request =
            self.agent.post(format!("{}{path}", self.base)).header("content-type", "application/json");
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        request.send(body).unwrap()
    }

    pub(crate) fn get(&self, path: &str) -> Told {
        let mut request = self.agent.get(format!("{}{path}", self.base));
        if let Some(key) = &self.key {
            request = request.header("x-api-key", key);
        }
        told(request.call().unwrap())
    }

    pub(crate) fn delete(&self, path: &str) -> Told {
        let mut request = self.agent.delete(format!("{}{path}", self.base));
        if let Some(key) = &self.key {
            request = request.header("x-api-key", key);
        }
        told(request.call().unwrap())
    }

    pub(crate) fn text(&self, path: &str) -> String {
        let mut response = self.agent.get(format!("{}{path}", self.base)).call().unwrap();
        response.body_mut().read_to_string().unwrap()
    }

    /// Events of a stream: the name and the data of each.
    pub(crate) fn stream(&self, path: &str, body: &Value) -> Vec<(String, String)> {
        let response = self.send(path, &body.to_string());
        assert_eq!(response.status().as_u16(), 200);
        assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/event-stream"));
        let (mut name, mut events) = (String::new(), Vec::new());
        for line in BufReader::new(response.into_body().into_reader()).lines() {
            let line = line.unwrap();
            if let Some(event) = line.strip_prefix("event: ") {
                event.clone_into(&mut name);
            } else if let Some(data) = line.strip_prefix("data: ") {
                events.push((std::mem::take(&mut name), data.to_owned()));
            }
        }
        events
    }

    /// The number of a counter or gauge.
    pub(crate) fn metric(&self, name: &str) -> usize {
        let text = self.text("/metrics");
        let line = text.lines().find(|line| line.split(['{', ' ']).next() == Some(name));
        line.unwrap_or_else(|| panic!("no {name} in\n{text}")).rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// A trajectory of these findings.
    pub(crate) fn trajectory(&self, lines: &[&str]) -> String {
        let segments: Vec<Value> =
            lines.iter().map(|text| json!({ "source": "finding", "text": text })).collect();
        let made = self.post("/v1/trajectories", &json!({ "segments": segments }));
        assert_eq!(made.status, 201, "{}", made.body);
        made.body["id"].as_str().unwrap().to_owned()
    }
}

fn told(mut response: Response<ureq::Body>) -> Told {
    let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let (retry_after, ignored) = (header("retry-after"), header("x-ignored-fields"));
    let status = response.status().as_u16();
    let text = response.body_mut().read_to_string().unwrap();
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Told { status, body, retry_after, ignored }
}

/// A question for a chat.
pub(crate) fn chat(question: &str) -> Value {
    json!({ "messages": [{ "role": "user", "content": question }], "max_tokens": 24 })
}

/// Lines about ledgers.
pub(crate) const LINES: [&str; 4] = [
    "The Oslo ledger is kept by Ana.",
    "The Turin ledger is kept by Bo.",
    "The Kyoto ledger has 40 pages and is kept by Cleo.",
    "Nobody knows who keeps the Lima ledger.",
];

/// Until something holds, for at most ten seconds.
pub(crate) fn until(mut holds: impl FnMut() -> bool) {
    for _ in 0..200 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("it never held");
}
