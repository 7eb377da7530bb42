//! Who asks: the tenant of a request's key.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};

use super::App;
use crate::{Refusal, Tenant};

/// The tenant that a request comes from.
pub(super) struct Caller(pub(super) Tenant);

/// Who may see what concerns all tenants.
pub(super) struct Operator;

/// Where there are keys, the tenant of this name sees what all have in common.
const OPERATOR: &str = "operator";

fn key(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = bearer.and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
    });
    bearer.or_else(|| headers.get("x-api-key").and_then(|value| value.to_str().ok()))
}

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Refusal> {
        let Some(keys) = &app.keys else { return Ok(Self(Tenant::local())) };
        let tenant = key(&parts.headers).and_then(|key| keys.tenant(key));
        tenant.map(Self).ok_or(Refusal::Key)
    }
}

impl FromRequestParts<Arc<App>> for Operator {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Refusal> {
        let Caller(tenant) = Caller::from_request_parts(parts, app).await?;
        if app.keys.is_none() || tenant.name() == OPERATOR { Ok(Self) } else { Err(Refusal::Key) }
    }
}
