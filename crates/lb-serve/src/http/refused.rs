//! Refusals as responses, in the shape that each protocol's clients read.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::Refusal;

/// OpenAI's shape.
pub(crate) fn openai(refusal: &Refusal) -> Value {
    json!({ "error": {
        "message": refusal.to_string(), "type": refusal.openai_type(),
        "param": refusal.param(), "code": refusal.openai_code(),
    }})
}

/// Anthropic's shape.
pub(crate) fn anthropic(refusal: &Refusal) -> Value {
    json!({ "type": "error", "error": { "type": refusal.anthropic_type(), "message": refusal.to_string() } })
}

pub(super) fn with_status(refusal: &Refusal, status: u16) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, Json(openai(refusal))).into_response();
    if let Refusal::Busy { after } = refusal {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(*after));
    }
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response.extensions_mut().insert(refusal.clone());
    response
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        with_status(&self, self.status())
    }
}

/// Says a refusal anew for clients of Anthropic's.
pub(super) async fn for_anthropic(mut response: Response) -> Response {
    let Some(refusal) = response.extensions_mut().remove::<Refusal>() else { return response };
    let (parts, _) = response.into_parts();
    let mut told = (parts.status, Json(anthropic(&refusal))).into_response();
    for name in [header::RETRY_AFTER, header::WWW_AUTHENTICATE] {
        if let Some(value) = parts.headers.get(&name) {
            told.headers_mut().insert(name, value.clone());
        }
    }
    told
}
