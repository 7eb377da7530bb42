//! Which model is there.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::App;
use super::caller::Caller;
use crate::Refusal;

fn described(app: &App, name: &str) -> Value {
    let config = app.worker.config();
    json!({
        "id": name, "object": "model", "created": app.begun, "owned_by": "latent-briefing",
        // As Anthropic's clients read it.
        "type": "model", "display_name": app.worker.name(), "created_at": "1970-01-01T00:00:00Z",
        "max_model_len": config.position_limit(),
        "dtype": app.worker.dtype().as_str(),
    })
}

/// `GET /v1/models`.
pub(super) async fn list(State(app): State<Arc<App>>, Caller(_): Caller) -> Json<Value> {
    let names = app.names();
    let data: Vec<Value> = names.iter().map(|name| described(&app, name)).collect();
    Json(json!({
        "object": "list", "data": data,
        "has_more": false, "first_id": names.first(), "last_id": names.last(),
    }))
}

/// `GET /v1/models/{id}`.
pub(super) async fn one(
    State(app): State<Arc<App>>,
    Caller(_): Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Refusal> {
    let name = app.model(Some(&id))?;
    Ok(Json(described(&app, &name)))
}
