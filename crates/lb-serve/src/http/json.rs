//! A request's body.

use std::sync::Arc;

use axum::body::{Bytes, to_bytes};
use axum::extract::{FromRequest, Request};
use serde::de::DeserializeOwned;

use super::App;
use crate::Refusal;

/// A body may take so many of the longest pauses in all: who sends a byte at a time keeps no connection for ever.
const PAUSES: u32 = 12;

/// JSON within the bound, whatever its content type says; where it is not what is wanted, the error names the field.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Refusal> {
        let whole = app.config.body_time * PAUSES;
        let read = tokio::time::timeout(whole, bytes(request, app.config.max_body)).await;
        let read =
            read.map_err(|_| Refusal::field("body", format!("did not arrive within {} s", whole.as_secs())))?;
        Ok(Self(parsed(&read?)?))
    }
}

async fn bytes(request: Request, most: usize) -> Result<Bytes, Refusal> {
    let length =
        request.headers().get("content-length").and_then(|length| length.to_str().ok()?.parse().ok());
    let too_large = || Refusal::TooLarge(format!("the body is larger than {most} bytes"));
    if length.is_some_and(|length: u64| length > most as u64) {
        return Err(too_large());
    }
    to_bytes(request.into_body(), most).await.map_err(|error| {
        let text = error.to_string();
        let mut source: Option<&dyn std::error::Error> = Some(&error);
        while let Some(cause) = source {
            if cause.to_string().contains("length limit") {
                return too_large();
            }
            source = cause.source();
        }
        Refusal::field("body", format!("did not arrive: {text}"))
    })
}

fn parsed<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let field = if path == "." { "body".to_owned() } else { path };
        Refusal::field(field, error.into_inner())
    })?;
    reader.end().map_err(|error| Refusal::field("body", error))?;
    Ok(value)
}
