//! Routes, and what all of them share.

mod answers;
mod briefings;
mod caller;
mod chat;
mod json;
mod messages;
mod models;
mod operations;
mod page;
mod refused;
mod trajectories;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use lb_model::Worker;
use tower_http::timeout::RequestBodyTimeoutLayer;

use crate::Refusal;
use crate::config::ServeConfig;
use crate::engine::Engine;
use crate::journal::Storage;
use crate::keys::Keys;
use crate::metrics::{Answered, Metrics};
use crate::trajectories::Trajectories;

pub(crate) use answers::{lost, submit};
pub(crate) use briefings::{Brief, Fetched};
pub(crate) use chat::about;
pub use operations::openapi;
pub(crate) use trajectories::{Append, Create, Fork};

/// What handlers work with.
pub(crate) struct App {
    pub(crate) worker: Worker,
    pub(crate) engine: Engine,
    pub(crate) trajectories: Arc<Trajectories>,
    pub(crate) keys: Option<Keys>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) config: ServeConfig,
    pub(crate) draining: AtomicBool,
    pub(crate) storage: Option<Storage>,
    /// For files on their way.
    pub(crate) folder: PathBuf,
    pub(crate) begun: u64,
}

/// Every route.
pub(crate) fn router(app: Arc<App>) -> Router {
    let anthropic = Router::new()
        .route("/v1/messages", post(messages::create))
        .route("/v1/messages/count_tokens", post(messages::count))
        .layer(middleware::map_response(refused::for_anthropic));
    Router::new()
        .route("/v1/chat/completions", post(chat::chat))
        .route("/v1/completions", post(chat::completion))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::one))
        .route("/v1/trajectories", post(trajectories::create).get(trajectories::list))
        .route("/v1/trajectories/{id}", get(trajectories::one).delete(trajectories::delete))
        .route("/v1/trajectories/{id}/segments", post(trajectories::append).get(trajectories::segments_list))
        .route("/v1/trajectories/{id}/fork", post(trajectories::fork))
        .route("/v1/trajectories/{id}/briefings", get(trajectories::briefings).post(briefings::create))
        .merge(anthropic)
        .route("/v1/status", get(operations::status))
        .route("/healthz", get(operations::healthz))
        .route("/readyz", get(operations::readyz))
        .route("/metrics", get(operations::metrics))
        .route("/openapi.json", get(operations::api))
        .route("/", get(page::page))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(RequestBodyTimeoutLayer::new(app.config.body_time))
        .layer(middleware::from_fn_with_state(app.clone(), from_here))
        .layer(middleware::from_fn_with_state(app.clone(), counted))
        .with_state(app)
}

async fn no_route(request: Request) -> Refusal {
    Refusal::Route(format!("there is no {}", lb_io::shown::quoted(request.uri().path())))
}

async fn no_method(request: Request) -> Response {
    refused::with_status(&Refusal::Route(format!("{} is not for this path", request.method())), 405)
}

/// Where there are no keys, whoever reaches the address is answered; a page of some other site, which a browser on this machine shows, is not
/// to reach it by way of its visitor.
async fn from_here(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if app.keys.is_none()
        && let Some(foreign) = foreign(&request)
    {
        return Refusal::Foreign(foreign).into_response();
    }
    next.run(request).await
}

/// The host or origin that is not this machine.
fn foreign(request: &Request) -> Option<String> {
    let text =
        |name: header::HeaderName| Some(request.headers().get(name)?.to_str().unwrap_or("?").to_owned());
    let is_here = |host: &str| {
        let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
        let name = name.map_or(host, |(name, _)| name).trim_matches(['[', ']']);
        name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    let host = request.uri().host().map(str::to_owned).or_else(|| text(header::HOST));
    if let Some(host) = host.filter(|host| !is_here(host)) {
        return Some(host);
    }
    let origin = text(header::ORIGIN)?;
    let host = origin.split_once("://").map_or(origin.as_str(), |(_, host)| host);
    (!is_here(host)).then_some(origin)
}

/// Counts a request by its route, never by its path.
async fn counted(
    State(app): State<Arc<App>>,
    path: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let route = path.map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let begin = Instant::now();
    let span = tracing::info_span!("request", route, method = %request.method());
    let response = tracing::Instrument::instrument(next.run(request), span).await;
    tracing::debug!(
        route,
        status = response.status().as_u16(),
        ms = begin.elapsed().as_millis() as u64,
        "answered"
    );
    app.metrics.seconds.observe(begin.elapsed().as_secs_f64());
    app.metrics.requests.get_or_create(&Answered { route, status: response.status().as_u16() }).inc();
    response
}

impl App {
    /// The model's names.
    pub(crate) fn names(&self) -> Vec<String> {
        let own = [self.worker.name().to_owned(), "latent-briefing".to_owned()];
        let mut names: Vec<String> = own.into_iter().chain(self.config.aliases.iter().cloned()).collect();
        names.dedup();
        names
    }

    /// The name that an answer carries; an error for another model than the one that is there.
    pub(crate) fn model(&self, asked: Option<&str>) -> Result<String, Refusal> {
        match asked {
            None => Ok(self.worker.name().to_owned()),
            Some(asked) if self.names().iter().any(|name| name == asked) => Ok(asked.to_owned()),
            Some(asked) => Err(Refusal::Absent { what: "model", name: asked.to_owned() }),
        }
    }
}
