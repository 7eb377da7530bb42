//! OpenAI's chat completions and completions.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::sse::Event as Sse;
use axum::response::{IntoResponse, Response};
use lb_model::{Conversation, Worker};
use lb_session::Task;
use serde_json::Value;

use super::answers::{Teller, data, streamed, submit, whole, with_ignored};
use super::caller::Caller;
use super::json::Body;
use super::{App, refused};
use crate::engine::{Finish, Spoken, Told, Usage, Work};
use crate::trajectories::{now, random_name};
use crate::wire::briefing::{BriefingField, task};
use crate::wire::calls::{called, names};
use crate::wire::openai::{ChatRequest, CompletionRequest, Head, Kind};
use crate::wire::sampling::{Room, passed_over};
use crate::{Refusal, Tenant};

/// Bytes from which on the tokens of a text are counted before it is encoded as a whole.
const LONG: usize = 64 << 10;

/// `POST /v1/chat/completions`.
pub(super) async fn chat(
    State(app): State<Arc<App>>,
    Caller(tenant): Caller,
    Body(request): Body<ChatRequest>,
) -> Result<Response, Refusal> {
    let ignored = passed_over(&request.rest)?;
    let head = head(&app, Kind::Chat, request.model.as_deref())?;
    let conversation = request.conversation()?;
    let log_probs = match (request.logprobs, request.top_logprobs) {
        (Some(true), most) => Some(most.unwrap_or(0)),
        (_, Some(1..)) => return Err(Refusal::field("top_logprobs", "only with logprobs")),
        _ => None,
    };
    let tools = names(request.tools.as_ref());
    let spoken = request.sampling().spoken(&app.worker, room(&app), log_probs)?;
    let work = match &request.briefing {
        Some(field) => about(&app, &tenant, field, task(&conversation.messages)?, spoken.clone()).await?,
        None => Work::Complete { prompt: rendered(&app, conversation).await?, spoken: spoken.clone() },
    };
    let costs = request.stream_options.unwrap_or_default().include_usage.unwrap_or(false);
    let wanted = Wanted { stream: request.stream.unwrap_or(false), costs, tools };
    Ok(with_ignored(answered(&app, &tenant, work, &spoken, head, wanted).await?, &ignored))
}

/// `POST /v1/completions`.
pub(super) async fn completion(
    State(app): State<Arc<App>>,
    Caller(tenant): Caller,
    Body(request): Body<CompletionRequest>,
) -> Result<Response, Refusal> {
    let ignored = passed_over(&request.rest)?;
    let head = head(&app, Kind::Completion, request.model.as_deref())?;
    let spoken = request.sampling().spoken(&app.worker, room(&app), request.logprobs)?;
    let work = match (&request.briefing, &request.prompt) {
        (Some(field), Value::String(text)) => {
            about(&app, &tenant, field, text.clone().into(), spoken.clone()).await?
        }
        (Some(_), _) => return Err(Refusal::field("prompt", "with a briefing it is the question, a text")),
        (None, prompt) => {
            Work::Complete { prompt: prompted(&app, prompt.clone()).await?, spoken: spoken.clone() }
        }
    };
    let costs = request.stream_options.unwrap_or_default().include_usage.unwrap_or(false);
    let wanted = Wanted { stream: request.stream.unwrap_or(false), costs, tools: Vec::new() };
    Ok(with_ignored(answered(&app, &tenant, work, &spoken, head, wanted).await?, &ignored))
}

fn room(app: &App) -> Room {
    Room { usual: app.config.max_tokens }
}

fn head(app: &App, kind: Kind, model: Option<&str>) -> Result<Head, Refusal> {
    let prefix = if kind == Kind::Chat { "chatcmpl" } else { "cmpl" };
    Ok(Head { kind, id: format!("{prefix}-{}", random_name()?), created: now(), model: app.model(model)? })
}

/// An answer about a trajectory.
pub(crate) async fn about(
    app: &App,
    tenant: &Tenant,
    field: &BriefingField,
    task: Task,
    spoken: Spoken,
) -> Result<Work, Refusal> {
    match (&field.trajectory, &field.object) {
        (Some(id), None) => {
            let trajectory = app.trajectory(tenant, id).await?;
            Ok(Work::Ask { trajectory, task, handoff: field.handoff()?, spoken })
        }
        (None, Some(id)) => {
            if field.names_handoff() {
                return Err(Refusal::field(
                    "briefing.handoff",
                    "a briefing that is there was made by its own",
                ));
            }
            Ok(Work::Over { briefing: app.briefing(tenant, id).await?, task, spoken })
        }
        _ => Err(Refusal::field("briefing", "want `trajectory`, or `object` for a briefing that is stored")),
    }
}

/// Works on what takes longer than a moment outside of the threads that talk to clients.
async fn aside<T: Send + 'static>(
    app: &App,
    work: impl FnOnce(&Worker) -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let worker = app.worker.clone();
    let done = tokio::task::spawn_blocking(move || work(&worker)).await;
    done.map_err(|error| Refusal::Internal(error.to_string()))?
}

/// A conversation as the worker's template has it.
pub(super) async fn rendered(app: &App, conversation: Conversation) -> Result<Vec<u32>, Refusal> {
    aside(app, move |worker| {
        let limit = worker.config().position_limit();
        let options = conversation.options();
        Ok(worker.encode_conversation_within(&conversation.messages, &options, limit, &mut || true)?)
    })
    .await
}

async fn prompted(app: &App, prompt: Value) -> Result<Vec<u32>, Refusal> {
    let text = match prompt {
        Value::String(text) => text,
        Value::Array(list) if list.len() == 1 && list[0].is_string() => {
            list[0].as_str().unwrap_or_default().to_owned()
        }
        Value::Array(list) if list.iter().all(Value::is_u64) => {
            let tokens = list.iter().map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok()));
            let tokens: Option<Vec<u32>> = tokens.collect();
            let tokens = tokens.ok_or_else(|| Refusal::field("prompt", "a token beyond 32 bits"))?;
            let limit = app.worker.config().position_limit();
            if tokens.len() > limit {
                return Err(Refusal::TooLong(format!("{} tokens are more than {limit}", tokens.len())));
            }
            return Ok(tokens);
        }
        _ => return Err(Refusal::field("prompt", "want a text, a list of one text, or a list of tokens")),
    };
    aside(app, move |worker| {
        let limit = worker.config().position_limit();
        // Far more than fits is not encoded to its end.
        if text.len() > LONG {
            worker.tokenizer().encode_text_within(&text, limit, &mut || true)?;
        }
        Ok(worker.tokenizer().encode_prompt(&text)?)
    })
    .await
}

/// How an answer is told.
struct Wanted {
    stream: bool,
    costs: bool,
    /// Functions that the answer may call.
    tools: Vec<String>,
}

async fn answered(
    app: &App,
    tenant: &Tenant,
    work: Work,
    spoken: &Spoken,
    head: Head,
    wanted: Wanted,
) -> Result<Response, Refusal> {
    let listening = submit(app, tenant, work)?;
    let choices = spoken.choices;
    if wanted.stream {
        let told = vec![Written::default(); choices];
        return streamed(listening, choices, Chunks { head, wanted, told, usage: None, generated: 0 }).await;
    }
    let (choices, usage) = whole(listening, choices).await?;
    Ok(Json(head.whole(&choices, &usage, &wanted.tools)).into_response())
}

/// What of an answer was told.
#[derive(Clone, Default)]
struct Written {
    opened: bool,
    characters: usize,
    /// Where it may call functions: its whole text, told at its end.
    text: String,
}

/// A stream of chunks.
struct Chunks {
    head: Head,
    wanted: Wanted,
    told: Vec<Written>,
    usage: Option<Usage>,
    generated: usize,
}

impl Chunks {
    fn open(&mut self, choice: usize) -> Option<Sse> {
        if std::mem::replace(&mut self.told[choice].opened, true) {
            return None;
        }
        self.head.opening(choice).map(|chunk| data(&chunk))
    }
}

impl Teller for Chunks {
    fn begun(&mut self, usage: Usage) -> Vec<Sse> {
        self.usage = Some(usage);
        (0..self.told.len()).filter_map(|choice| self.open(choice)).collect()
    }

    fn text(&mut self, choice: usize, text: &str, tokens: &[Told]) -> Vec<Sse> {
        let mut events: Vec<Sse> = self.open(choice).into_iter().collect();
        let written = &mut self.told[choice];
        if !self.wanted.tools.is_empty() {
            written.text.push_str(text);
            return events;
        }
        let offset = written.characters;
        written.characters += text.chars().count();
        events.push(data(&self.head.piece(choice, text, tokens, offset)));
        events
    }

    fn ended(&mut self, choice: usize, finish: &Finish, generated: usize) -> Vec<Sse> {
        self.generated += generated;
        let mut events: Vec<Sse> = self.open(choice).into_iter().collect();
        let mut calls = Vec::new();
        if !self.wanted.tools.is_empty() {
            let (said, own) = called(&self.told[choice].text, &self.wanted.tools);
            calls = own;
            if !said.is_empty() {
                events.push(data(&self.head.piece(choice, &said, &[], 0)));
            }
        }
        let any = !calls.is_empty();
        if any {
            events.push(data(&self.head.calls(choice, calls)));
        }
        events.push(data(&self.head.closing(choice, finish, any)));
        events
    }

    fn over(&mut self) -> Vec<Sse> {
        let costs = self.usage.as_ref().filter(|_| self.wanted.costs);
        let costs = costs.map(|usage| data(&self.head.cost(usage, self.generated)));
        costs.into_iter().chain([Sse::default().data("[DONE]")]).collect()
    }

    fn refused(&mut self, refusal: &Refusal) -> Vec<Sse> {
        vec![data(&refused::openai(refusal)), Sse::default().data("[DONE]")]
    }
}
