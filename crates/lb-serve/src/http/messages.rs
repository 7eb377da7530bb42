//! Anthropic's messages.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::sse::Event as Sse;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::answers::{Teller, streamed, submit, whole, with_ignored};
use super::caller::Caller;
use super::chat::{about, rendered};
use super::json::Body;
use super::{App, refused};
use crate::Refusal;
use crate::engine::{Finish, Told, Usage, Work};
use crate::trajectories::random_name;
use crate::wire::anthropic::{self, MessagesRequest, Named};
use crate::wire::briefing::task;
use crate::wire::sampling::passed_over;

/// `POST /v1/messages`.
pub(super) async fn create(
    State(app): State<Arc<App>>,
    Caller(tenant): Caller,
    Body(request): Body<MessagesRequest>,
) -> Result<Response, Refusal> {
    let ignored = passed_over(&request.rest)?;
    let model = app.model(request.model.as_deref())?;
    let spoken = request.spoken(&app.worker)?;
    let conversation = request.conversation()?;
    let tools = request.tools();
    let work = match &request.briefing {
        Some(field) => about(&app, &tenant, field, task(&conversation.messages)?, spoken).await?,
        None => Work::Complete { prompt: rendered(&app, conversation).await?, spoken },
    };
    let id = format!("msg_{}", random_name()?);
    let listening = submit(&app, &tenant, work)?;
    let response = if request.stream.unwrap_or(false) {
        let events = Events {
            id,
            model,
            tools,
            text: String::new(),
            begun: false,
            generated: 0,
            end: None,
            early: Vec::new(),
        };
        streamed(listening, 1, events).await?
    } else {
        let (mut choices, usage) = whole(listening, 1).await?;
        let choice = choices.remove(0);
        let finish = choice.finish.unwrap_or(Finish::End);
        Json(anthropic::whole(&id, &model, (&choice.text, &tools), &finish, (&usage, choice.generated)))
            .into_response()
    };
    Ok(with_ignored(response, &ignored))
}

/// `POST /v1/messages/count_tokens`.
pub(super) async fn count(
    State(app): State<Arc<App>>,
    Caller(_): Caller,
    Body(request): Body<MessagesRequest>,
) -> Result<Json<Value>, Refusal> {
    app.model(request.model.as_deref())?;
    let tokens = rendered(&app, request.conversation()?).await?;
    Ok(Json(json!({ "input_tokens": tokens.len() })))
}

/// A stream of named events.
struct Events {
    id: String,
    model: String,
    /// Those that it may use.
    tools: Vec<String>,
    /// Where it may call functions: its whole text, told at its end.
    text: String,
    begun: bool,
    generated: usize,
    end: Option<(Finish, bool)>,
    /// Pieces that came before it was known what the call costs.
    early: Vec<Sse>,
}

fn named((name, value): Named) -> Sse {
    Sse::default().event(name).data(value.to_string())
}

impl Teller for Events {
    fn begun(&mut self, usage: Usage) -> Vec<Sse> {
        self.begun = true;
        let mut events = vec![named(anthropic::opening(&self.id, &self.model, &usage))];
        if self.tools.is_empty() {
            events.push(named(anthropic::block_opening()));
        }
        events.append(&mut self.early);
        events
    }

    fn text(&mut self, _: usize, text: &str, _: &[Told]) -> Vec<Sse> {
        if !self.tools.is_empty() {
            self.text.push_str(text);
            return Vec::new();
        }
        let piece = named(anthropic::piece(text));
        if self.begun {
            return vec![piece];
        }
        self.early.push(piece);
        Vec::new()
    }

    fn ended(&mut self, _: usize, finish: &Finish, generated: usize) -> Vec<Sse> {
        self.generated = generated;
        let (events, calls) = if self.tools.is_empty() {
            (vec![anthropic::block_closing(0)], false)
        } else {
            anthropic::with_tools(&self.text, &self.tools)
        };
        self.end = Some((finish.clone(), calls));
        events.into_iter().map(named).collect()
    }

    fn over(&mut self) -> Vec<Sse> {
        let Some((finish, calls)) = self.end.take() else { return Vec::new() };
        anthropic::closing(&finish, calls, self.generated).map(named).into()
    }

    fn refused(&mut self, refusal: &Refusal) -> Vec<Sse> {
        vec![named(("error", refused::anthropic(refusal)))]
    }
}
