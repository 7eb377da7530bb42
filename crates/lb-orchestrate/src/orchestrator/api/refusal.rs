//! What a status or an error object means.

use std::time::Duration;

use serde_json::Value;

use super::failure::Failure;

/// An error as the services write it, in a reply of any status or in the middle of a stream.
#[derive(Debug, Default)]
struct Said {
    reason: String,
    parameter: Option<String>,
    kind: String,
    code: Option<Value>,
}

/// The failure that a status stands for, with the reason in the body.
pub(super) fn of_status(
    status: u16,
    body: &[u8],
    retry_after: Option<Duration>,
    key_check: &'static str,
) -> Failure {
    let said = match serde_json::from_slice::<Value>(body) {
        Ok(value) => said(&value),
        Err(_) => Said { reason: String::from_utf8_lossy(body).into_owned(), ..Said::default() },
    };
    failure(status, said, retry_after, key_check)
}

/// The failure in an error object of a reply whose status was good. `None` where there is no error object.
pub(super) fn in_reply(reply: &Value, key_check: &'static str) -> Option<Failure> {
    reply.get("error").filter(|error| !error.is_null())?;
    let said = said(reply);
    let status = status_of(&said);
    Some(failure(status, said, None, key_check))
}

fn said(body: &Value) -> Said {
    // Gemini's endpoint wraps the object in a list.
    let body = body.as_array().and_then(|list| list.first()).unwrap_or(body);
    let inner = body.get("error").or_else(|| body.get("detail")).unwrap_or(body);
    let text = |name: &str| inner.get(name).and_then(Value::as_str).map(str::to_string);
    let reason = match inner {
        Value::String(text) => text.clone(),
        _ => text("message").unwrap_or_else(|| inner.to_string()),
    };
    Said {
        reason,
        parameter: text("param"),
        kind: text("type").unwrap_or_default(),
        code: inner.get("code").cloned(),
    }
}

/// The status that an error without one stands for.
fn status_of(said: &Said) -> u16 {
    let number = said.code.as_ref().and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
    if let Some(status) = number.filter(|status| (400..600).contains(status)) {
        return status;
    }
    let word = said.code.as_ref().and_then(Value::as_str).unwrap_or_default();
    match (said.kind.as_str(), word) {
        ("invalid_request_error", _) => 400,
        ("authentication_error", _) | (_, "invalid_api_key") => 401,
        ("billing_error", _) => 402,
        ("permission_error", _) => 403,
        ("not_found_error", _) | (_, "model_not_found") => 404,
        ("request_too_large", _) => 413,
        ("rate_limit_error" | "insufficient_quota", _)
        | (_, "rate_limit_exceeded" | "insufficient_quota") => 429,
        ("timeout_error", _) => 504,
        ("overloaded_error", _) => 529,
        _ => 500,
    }
}

fn failure(status: u16, said: Said, retry_after: Option<Duration>, key_check: &'static str) -> Failure {
    let Said { reason, parameter, kind, code } = said;
    let reason = if reason.trim().is_empty() { "no reason given".to_string() } else { reason };
    let out_of_credit =
        kind == "insufficient_quota" || code.as_ref().and_then(Value::as_str) == Some("insufficient_quota");
    // llama.cpp's server has 500 for a conversation that the model's template refuses, which asking again does not change.
    let by_template =
        status == 500 && ["Jinja Exception", "raise_exception"].iter().any(|word| reason.contains(word));
    if !by_template && matches!(status, 408 | 409 | 429 | 500..) && !out_of_credit {
        return Failure::Unavailable { status, reason, retry_after };
    }
    let check = match status {
        401 => key_check,
        402 | 429 => "check the account's credit",
        403 => "check that the key may use this model from here",
        404 => "check the base URL and the model's name",
        413 => "the conversation is too large for the service",
        500 => "check what the model's chat template allows",
        _ => "check the model, the length of the conversation and the fields of the config",
    };
    Failure::Refused { status, reason, parameter, check }
}
