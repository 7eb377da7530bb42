//! From what the engine tells to a whole answer, or to a stream of its pieces.

use std::convert::Infallible;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use axum::response::sse::{Event as Sse, KeepAlive};
use axum::response::{IntoResponse, Response};
use futures_util::Stream;
use serde_json::Value;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_stream::wrappers::ReceiverStream;

use super::App;
use crate::engine::{Event, Finish, Job, Listening, Usage, Work};
use crate::metrics::count;
use crate::wire::openai::Choice;
use crate::{Refusal, Tenant};

/// Pieces that a slow reader may be behind; then its answer goes on unheard until it has caught up.
const BEHIND: usize = 256;
/// A sign of life for those in between.
const ALIVE: Duration = Duration::from_secs(10);

/// Hands a job to the engine.
pub(crate) fn submit(app: &App, tenant: &Tenant, work: Work) -> Result<Listening, Refusal> {
    let (job, listening) = Job::new(tenant.clone(), work, app.config.request_time);
    app.engine.submit(job)?;
    app.metrics.waiting.set(count(app.engine.waiting()));
    Ok(listening)
}

pub(crate) fn lost() -> Refusal {
    Refusal::Internal("the answer was lost in a fault of the server".to_owned())
}

/// The next event; a refusal is an error.
pub(super) async fn next(listening: &mut Listening) -> Result<Event, Refusal> {
    match listening.events.recv().await {
        Some(Event::Refused(refusal)) => Err(refusal),
        Some(event) => Ok(event),
        None => Err(lost()),
    }
}

/// Waits for something without an answer.
pub(super) async fn done(mut listening: Listening) -> Result<Vec<(usize, usize)>, Refusal> {
    match next(&mut listening).await? {
        Event::Done { entered } => Ok(entered),
        _ => Err(lost()),
    }
}

/// Waits for a briefing; what it cost.
pub(super) async fn made(mut listening: Listening) -> Result<Usage, Refusal> {
    match next(&mut listening).await? {
        Event::Made(usage) => Ok(*usage),
        _ => Err(lost()),
    }
}

/// All answers, and what they cost.
pub(super) async fn whole(mut listening: Listening, choices: usize) -> Result<(Vec<Choice>, Usage), Refusal> {
    let mut answers = vec![Choice::default(); choices];
    let (mut usage, mut ended) = (None, 0);
    while ended < choices {
        match next(&mut listening).await? {
            Event::Begun(own) => usage = Some(*own),
            Event::Text { choice, text, tokens, .. } => {
                answers[choice].text.push_str(&text);
                answers[choice].tokens.extend(tokens);
            }
            Event::Ended { choice, finish, generated } => {
                (answers[choice].finish, answers[choice].generated) = (Some(finish), generated);
                ended += 1;
            }
            Event::Done { .. } | Event::Made(_) | Event::Refused(_) => return Err(lost()),
        }
    }
    Ok((answers, usage.ok_or_else(lost)?))
}

/// Turns what happens to answers into a protocol's events.
pub(super) trait Teller: Send + 'static {
    /// The work has begun.
    fn begun(&mut self, usage: Usage) -> Vec<Sse>;
    /// A piece of an answer.
    fn text(&mut self, choice: usize, text: &str, tokens: &[crate::engine::Told]) -> Vec<Sse>;
    /// An answer has ended.
    fn ended(&mut self, choice: usize, finish: &Finish, generated: usize) -> Vec<Sse>;
    /// All have.
    fn over(&mut self) -> Vec<Sse>;
    /// Something went wrong on the way.
    fn refused(&mut self, refusal: &Refusal) -> Vec<Sse>;
}

/// Tells answers as they are written. What is refused before anything is written is an error with its status, not a stream.
pub(super) async fn streamed(
    mut listening: Listening,
    choices: usize,
    mut teller: impl Teller,
) -> Result<Response, Refusal> {
    let first = next(&mut listening).await?;
    let (tell, told) = channel(BEHIND);
    tokio::spawn(async move {
        let mut ended = 0;
        let mut event = Ok(first);
        while say(&tell, told_of(&mut teller, event, &mut ended)).await && ended < choices {
            event = tokio::select! {
                event = next(&mut listening) => event,
                // Whoever has gone is not written for, also where there is nothing to tell before the end.
                () = tell.closed() => return,
            };
            if let Err(refusal) = &event {
                say(&tell, teller.refused(refusal)).await;
                return;
            }
        }
        if ended == choices {
            say(&tell, teller.over()).await;
        }
    });
    let events = axum::response::Sse::new(stream(told));
    Ok(events.keep_alive(KeepAlive::new().interval(ALIVE)).into_response())
}

fn stream(told: Receiver<Sse>) -> impl Stream<Item = Result<Sse, Infallible>> {
    use futures_util::StreamExt;
    ReceiverStream::new(told).map(Ok)
}

fn told_of(teller: &mut impl Teller, event: Result<Event, Refusal>, ended: &mut usize) -> Vec<Sse> {
    match event {
        Ok(Event::Begun(usage)) => teller.begun(*usage),
        Ok(Event::Text { choice, text, tokens, .. }) => teller.text(choice, &text, &tokens),
        Ok(Event::Ended { choice, finish, generated }) => {
            *ended += 1;
            teller.ended(choice, &finish, generated)
        }
        Ok(Event::Done { .. } | Event::Made(_) | Event::Refused(_)) | Err(_) => Vec::new(),
    }
}

/// False where nobody listens any more.
async fn say(tell: &Sender<Sse>, events: Vec<Sse>) -> bool {
    for event in events {
        if tell.send(event).await.is_err() {
            return false;
        }
    }
    true
}

/// An event of JSON.
pub(super) fn data(value: &Value) -> Sse {
    Sse::default().data(value.to_string())
}

/// Says in a header which fields were passed over.
pub(super) fn with_ignored(mut response: Response, ignored: &[String]) -> Response {
    let names = ignored.iter().take(32).filter(|name| name.bytes().all(|b| b.is_ascii_graphic()));
    let names = names.map(|name| lb_io::shown::quoted(name)).collect::<Vec<_>>().join(", ");
    if let (false, Ok(value)) = (names.is_empty(), HeaderValue::from_str(&names)) {
        response.headers_mut().insert(HeaderName::from_static("x-ignored-fields"), value);
    }
    response
}
