//! For who runs the server: whether it lives, whether it is ready, what it counts, what it offers.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::App;
use super::caller::{Caller, Operator};
use crate::metrics::count;

/// `GET /healthz`: the process lives.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: requests are taken.
pub(super) async fn readyz(State(app): State<Arc<App>>) -> (StatusCode, &'static str) {
    if app.draining.load(Ordering::SeqCst) {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else if app.engine.waiting() >= app.config.queue {
        (StatusCode::SERVICE_UNAVAILABLE, "queue full\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}

/// `GET /metrics`. Where there are keys, it wants the operator's: its counts are of all tenants.
pub(super) async fn metrics(State(app): State<Arc<App>>, _: Operator) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], app.metrics.text()).into_response()
}

/// `GET /v1/status`: what the page shows of the caller's own.
pub(super) async fn status(State(app): State<Arc<App>>, Caller(tenant): Caller) -> Json<Value> {
    let own: Vec<Value> = app.trajectories.of(&tenant).iter().map(|own| json!(own.describe())).collect();
    let alone = app.keys.is_none();
    // With several tenants nobody is told how busy the others are.
    let of_all = |value: i64| if alone { json!(value) } else { Value::Null };
    Json(json!({
        "model": app.worker.name(),
        "dtype": app.worker.dtype().as_str(),
        "positions": app.worker.config().position_limit(),
        "tenant": tenant.name(),
        "running": of_all(app.metrics.running.get()),
        "waiting": of_all(count(app.engine.waiting())),
        "generated_tokens": of_all(app.metrics.generated.get().cast_signed()),
        "prefilled_tokens": of_all(app.metrics.prefilled.get().cast_signed()),
        "begun": app.begun,
        "trajectories": own,
    }))
}

/// `GET /openapi.json`.
pub(super) async fn api() -> Json<Value> {
    Json(openapi())
}

/// What the server offers, as OpenAPI 3.1.
pub fn openapi() -> Value {
    super::super::wire::openapi::document()
}
