//! What the server offers, as OpenAPI 3.1.

use serde_json::{Map, Value, json};
use utoipa::PartialSchema;
use utoipa::ToSchema;
use utoipa::openapi::{RefOr, Schema};

use super::anthropic::MessagesRequest;
use super::briefing::BriefingField;
use super::openai::{ChatRequest, CompletionRequest};
use crate::engine::Usage;
use crate::http::{Append, Brief, Create, Fork};
use crate::trajectories::Described;

fn schemas() -> Map<String, Value> {
    fn of<T: ToSchema + PartialSchema>(into: &mut Vec<(String, RefOr<Schema>)>) {
        T::schemas(into);
        into.push((T::name().into_owned(), T::schema()));
    }
    let mut all = Vec::new();
    of::<ChatRequest>(&mut all);
    of::<CompletionRequest>(&mut all);
    of::<MessagesRequest>(&mut all);
    of::<BriefingField>(&mut all);
    of::<Usage>(&mut all);
    of::<Described>(&mut all);
    of::<Create>(&mut all);
    of::<Append>(&mut all);
    of::<Fork>(&mut all);
    of::<Brief>(&mut all);
    all.into_iter().map(|(name, schema)| (name, json!(schema))).collect()
}

/// An operation: what it does, what it takes, and its good answer.
fn operation(summary: &str, body: Option<&str>, good: (&str, &str), path: &[&str]) -> Value {
    let reference = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
    let content = |schema: Value| json!({ "application/json": { "schema": schema } });
    let object = json!({ "type": "object" });
    let good_schema = if good.1.is_empty() { object.clone() } else { reference(good.1) };
    let mut responses = Map::from_iter([(
        good.0.to_owned(),
        json!({ "description": "done", "content": content(good_schema) }),
    )]);
    for (status, says) in [
        ("400", "a field is wrong"),
        ("401", "no valid key"),
        ("404", "nothing of that name"),
        ("409", "a conflict"),
        ("413", "too large"),
        ("429", "too many wait"),
        ("503", "not now"),
        ("504", "not in time"),
    ] {
        let told = json!({ "description": says, "content": content(object.clone()) });
        responses.insert(status.to_owned(), told);
    }
    let mut operation =
        json!({ "summary": summary, "responses": responses, "security": [{}, { "key": [] }] });
    if let Some(body) = body {
        operation["requestBody"] = json!({ "required": true, "content": content(reference(body)) });
    }
    if !path.is_empty() {
        let parameter = |name: &&str| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } });
        operation["parameters"] = path.iter().map(parameter).collect();
    }
    operation
}

/// The document.
pub(crate) fn document() -> Value {
    let ok = ("200", "");
    let described = ("200", "Described");
    let made = ("201", "Described");
    let text = |summary: &str| {
        let good =
            json!({ "description": "done", "content": { "text/plain": { "schema": { "type": "string" } } } });
        json!({ "get": { "summary": summary, "responses": { "200": good } } })
    };
    let mut schemas = schemas();
    schemas.entry("Described").or_insert_with(|| json!({ "type": "object" }));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "latent-briefing", "version": env!("CARGO_PKG_VERSION"),
            "description": "A worker behind OpenAI's and Anthropic's protocols, with trajectories that reach it as compacted caches.",
            "license": { "name": "MIT OR Apache-2.0" },
        },
        "paths": {
            "/v1/chat/completions": { "post": operation("OpenAI's chat completions", Some("ChatRequest"), ok, &[]) },
            "/v1/completions": { "post": operation("OpenAI's completions", Some("CompletionRequest"), ok, &[]) },
            "/v1/messages": { "post": operation("Anthropic's messages", Some("MessagesRequest"), ok, &[]) },
            "/v1/messages/count_tokens": { "post": operation("Tokens of messages", Some("MessagesRequest"), ok, &[]) },
            "/v1/models": { "get": operation("Which model is there", None, ok, &[]) },
            "/v1/models/{id}": { "get": operation("One by its name", None, ok, &["id"]) },
            "/v1/trajectories": {
                "get": operation("The caller's trajectories", None, ok, &[]),
                "post": operation("A new trajectory", Some("Create"), made, &[]),
            },
            "/v1/trajectories/{id}": {
                "get": operation("A trajectory", None, described, &["id"]),
                "delete": operation("Forgets it", None, ok, &["id"]),
            },
            "/v1/trajectories/{id}/segments": {
                "get": operation("Its segments", None, ok, &["id"]),
                "post": operation("Appends segments", Some("Append"), described, &["id"]),
            },
            "/v1/trajectories/{id}/fork": { "post": operation("A trajectory that goes on from here", Some("Fork"), made, &["id"]) },
            "/v1/trajectories/{id}/briefings": { "post": operation("Makes a briefing and stores it", Some("Brief"), ("201", ""), &["id"]), "get": operation("What the last calls kept of it", None, ok, &["id"]) },
            "/v1/status": { "get": operation("What the page shows", None, ok, &[]) },
            "/healthz": text("Whether the process lives"),
            "/readyz": text("Whether requests are taken"),
            "/metrics": text("Prometheus' counters"),
        },
        "components": {
            "schemas": schemas,
            "securitySchemes": { "key": { "type": "http", "scheme": "bearer" } },
        },
    })
}
