//! The loop: an orchestrator writes code about long texts, and the code asks a worker.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use lb_orchestrate::api::{Anthropic, AnthropicConfig, OpenAi, OpenAiConfig};
use lb_orchestrate::{
    ChatMessage, ChatRequest, Completion, Event as Step, Orchestrator, Rlm as Loop, RlmConfig, Role, Script,
};
use lb_sandbox::{CPythonConfig, CPythonRepl, Repl};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::{self, OrRaise};
use crate::interrupt::{Event, Link, Listeners, Reply, drive, glanced, locked};
use crate::worker::Worker;
use crate::{refuse_copy, settings};

/// The recursive loop (RLM, arXiv 2512.24601): an orchestrator writes code about long texts, turn by turn; the code runs in a Python
/// process of its own and asks a worker, which is briefed for each prompt. Settings: via (a handoff), max_iterations, max_depth,
/// max_calls, timeout, log_dir, instructions, ask_first, brief_documents, max_new_tokens. `small` is set up for an orchestrator of a few
/// billion parameters. The process is no security boundary.
#[pyclass(frozen, module = "latent_briefing._native")]
#[derive(Debug)]
pub(crate) struct Rlm {
    inner: Mutex<Loop>,
}

/// How a run ended.
#[pyclass(frozen, get_all, module = "latent_briefing._native")]
#[derive(Debug)]
pub(crate) struct Run {
    answer: String,
    turns: usize,
    ending: String,
    ledger: Py<PyAny>,
    log: Option<PathBuf>,
}

#[pymethods]
impl Run {
    fn __str__(&self) -> &str {
        &self.answer
    }

    fn __repr__(&self) -> String {
        format!("Run({:?}, {} turns)", self.answer, self.turns)
    }
}

/// Who writes the turns.
enum Writer {
    /// The caller's function.
    Called,
    Script(Vec<String>),
    OpenAi {
        model: String,
        base_url: Option<String>,
    },
    Anthropic {
        model: String,
        base_url: Option<String>,
    },
}

/// The caller, turn by turn.
struct Caller<'a> {
    link: &'a Link,
}

impl Orchestrator for Caller<'_> {
    fn model(&self) -> &'static str {
        "python"
    }

    fn backend(&self) -> &'static str {
        "program"
    }

    fn complete(&mut self, request: &ChatRequest<'_>) -> lb_orchestrate::Result<Completion> {
        let told = |message: &ChatMessage| (role(message.role).to_owned(), message.content.clone());
        match self.link.ask(Event::Turn(request.messages.iter().map(told).collect())) {
            Reply::Text(text) => Ok(Completion { text, ..Completion::default() }),
            _ => Err(lb_orchestrate::Error::Cancelled),
        }
    }
}

fn role(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
    }
}

impl Writer {
    fn of(given: &Bound<'_, PyAny>) -> PyResult<Self> {
        if given.is_callable() {
            return Ok(Self::Called);
        }
        if let Ok(fields) = given.cast::<PyDict>() {
            let get = |name: &str| -> PyResult<Option<String>> {
                fields.get_item(name)?.map(|value| value.extract()).transpose()
            };
            let model =
                get("model")?.ok_or_else(|| errors::config("orchestrator", "orchestrator: has no model"))?;
            let base_url = get("base_url")?;
            return match get("api")?.as_deref() {
                Some("openai") => Ok(Self::OpenAi { model, base_url }),
                Some("anthropic") => Ok(Self::Anthropic { model, base_url }),
                other => {
                    Err(errors::config("orchestrator", format!("orchestrator: no API is called {other:?}")))
                }
            };
        }
        let replies: PyResult<Vec<String>> = given.extract();
        replies.map(Self::Script).map_err(|_| {
            errors::config(
                "orchestrator",
                "orchestrator: want a function of the messages, a list of turns, or {\"api\": \"openai\", \"model\": ...}",
            )
        })
    }

    fn open<'a>(self, link: &'a Link) -> lb_orchestrate::Result<Box<dyn Orchestrator + 'a>> {
        Ok(match self {
            Self::Called => Box::new(Caller { link }),
            Self::Script(replies) => Box::new(Script::new(replies)),
            Self::OpenAi { model, base_url: Some(url) } => {
                Box::new(OpenAi::new(OpenAiConfig::at(url, model))?)
            }
            Self::OpenAi { model, base_url: None } => Box::new(OpenAi::new(OpenAiConfig::from_env(model)?)?),
            Self::Anthropic { model, base_url: Some(url) } => {
                Box::new(Anthropic::new(AnthropicConfig::at(url, model))?)
            }
            Self::Anthropic { model, base_url: None } => {
                Box::new(Anthropic::new(AnthropicConfig::from_env(model)?)?)
            }
        })
    }
}

/// A step as JSON.
fn told(step: &Step<'_>) -> Option<serde_json::Value> {
    use serde_json::json;
    Some(match step {
        Step::TurnBegan { turn, of } => json!({"kind": "turn_began", "turn": turn, "of": of}),
        Step::Replied(completion) => json!({"kind": "replied", "text": completion.text}),
        Step::Entered(entered) => json!({
            "kind": "entered", "source": entered.source.tag(), "text": entered.text,
            "tokens": entered.pieces.len(), "left_out": entered.left_out,
        }),
        Step::CodeBegan(code) => json!({"kind": "code_began", "code": code}),
        Step::CallsBegan { queries, depth, .. } => json!({
            "kind": "calls_began", "depth": depth,
            "prompts": queries.iter().map(|query| &query.prompt).collect::<Vec<_>>(),
        }),
        Step::CallEnded(call) => json!({"kind": "call_ended", "call": call}),
        Step::CodeEnded(done) => json!({"kind": "code_ended", "stdout": done.stdout, "stderr": done.stderr}),
        Step::Answered(answer) => json!({"kind": "answered", "answer": answer}),
        _ => return None,
    })
}

fn config_of(given: Option<&Bound<'_, PyDict>>, small: bool) -> PyResult<RlmConfig> {
    let mut config = if small { RlmConfig::small() } else { RlmConfig::default() };
    for (key, value) in given.into_iter().flatten() {
        let key: String = key.extract()?;
        match &*key {
            "via" => config.handoff = settings::handoff(Some(&value), None)?,
            "max_iterations" => config.limits.iterations = value.extract()?,
            "max_depth" => config.limits.depth = value.extract()?,
            "timeout" => {
                let seconds = Duration::try_from_secs_f64(value.extract()?);
                let seconds =
                    seconds.map_err(|error| errors::config("timeout", format!("timeout: {error}")))?;
                config.limits.run.time = Some(seconds);
            }
            "max_calls" => config.limits.run.calls = Some(value.extract()?),
            "log_dir" => config.log_dir = value.extract()?,
            "instructions" => config.instructions = value.extract()?,
            "ask_first" => config.ask_first = value.extract()?,
            "brief_documents" => config.brief_documents = value.extract()?,
            "max_new_tokens" => config.session.generate.max_new_tokens = value.extract()?,
            _ => return Err(errors::config(&key, format!("there is no setting {key:?} of a loop"))),
        }
    }
    Ok(config)
}

#[pymethods]
impl Rlm {
    #[new]
    #[pyo3(signature = (worker, *, small = false, python = None, **config))]
    fn new(
        py: Python<'_>,
        worker: &Bound<'_, Worker>,
        small: bool,
        python: Option<PathBuf>,
        config: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let config = config_of(config, small)?;
        let sandbox =
            CPythonConfig { python: python.unwrap_or(running_python(py)?), ..CPythonConfig::default() };
        let open = move || Ok(Box::new(CPythonRepl::start(&sandbox)?) as Box<dyn Repl>);
        let worker = &worker.get().inner;
        let made = py.detach(|| Loop::new(worker, open, config)).or_raise()?;
        Ok(Self { inner: Mutex::new(made) })
    }

    /// Adds a document; the name of the variable that holds it.
    fn add_context(&self, py: Python<'_>, text: &str) -> PyResult<String> {
        let done = drive(py, &Listeners::default(), |link| {
            let mut inner = locked(&self.inner, link).ok_or(lb_orchestrate::Error::Cancelled)?;
            inner.set_cancel(link.cancel.clone());
            inner.add_context(text)
        })?;
        done.or_raise()
    }

    /// Works at a question until there is an answer. The orchestrator is a function from the messages so far ({"role", "content"}) to the
    /// next turn's text, a list of turns, or {"api": "openai" or "anthropic", "model": ..., "base_url": ...}, whose key is in the
    /// environment. `on_event` hears each step as a dictionary with its "kind". Raises RunStopped, with what there was of an
    /// answer; variables, trajectory and conversation stay.
    #[pyo3(signature = (orchestrator, question, *, on_event = None))]
    fn run(
        &self,
        py: Python<'_>,
        orchestrator: &Bound<'_, PyAny>,
        question: &str,
        on_event: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Run> {
        let writer = Writer::of(orchestrator)?;
        let turn = matches!(writer, Writer::Called).then_some(orchestrator);
        let listeners = Listeners { turn, told: on_event.as_ref(), ..Listeners::default() };
        let ended = drive(py, &listeners, |link| -> Result<_, Ended> {
            let mut inner = locked(&self.inner, link).ok_or(lb_orchestrate::Error::Cancelled)?;
            inner.set_cancel(link.cancel.clone());
            let mut orchestrator = writer.open(link)?;
            let run = inner.run_with(&mut *orchestrator, question, &mut |step| {
                if let Some(json) = told(step) {
                    link.ask(Event::Told(json.to_string()));
                }
            });
            run.map_err(Ended::Stopped)
        })?;
        let run = match ended {
            Ok(run) => run,
            Err(Ended::Stopped(stopped)) => return Err(stopped).or_raise(),
            Err(Ended::Failed(error)) => return Err(error).or_raise(),
        };
        Ok(Run {
            answer: run.answer,
            turns: run.turns,
            ending: format!("{:?}", run.ending).to_lowercase(),
            ledger: settings::from_json(py, &run.ledger)?.unbind(),
            log: run.log,
        })
    }

    /// Role and content of each message of the conversation so far.
    #[getter]
    fn messages(&self, py: Python<'_>) -> Vec<(String, String)> {
        let told = |message: &ChatMessage| (role(message.role).to_owned(), message.content.clone());
        glanced(py, &self.inner).messages().iter().map(told).collect()
    }

    #[getter]
    fn ledger<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let ledger = glanced(py, &self.inner).ledger().clone();
        settings::from_json(py, &ledger)
    }

    /// Positions of the trajectory in the worker's cache.
    #[getter]
    fn seq_len(&self, py: Python<'_>) -> usize {
        glanced(py, &self.inner).session().seq_len()
    }

    fn __reduce_ex__(&self, _protocol: usize) -> PyResult<()> {
        refuse_copy("an Rlm holds a process and a cache; its log (log_dir) is what travels")
    }
}

/// Why a run gave no answer.
enum Ended {
    Stopped(Box<lb_orchestrate::Stopped>),
    Failed(lb_orchestrate::Error),
}

impl From<lb_orchestrate::Error> for Ended {
    fn from(error: lb_orchestrate::Error) -> Self {
        Self::Failed(error)
    }
}

/// The interpreter that runs this, where it is a program of its own.
fn running_python(py: Python<'_>) -> PyResult<PathBuf> {
    let path: Option<String> = py.import("sys")?.getattr("executable")?.extract()?;
    Ok(path.filter(|path| !path.is_empty()).map_or_else(|| CPythonConfig::default().python, PathBuf::from))
}
