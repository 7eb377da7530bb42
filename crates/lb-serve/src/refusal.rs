//! Why a request gets no answer, in terms that both protocols can say.

use std::time::Duration;

use lb_io::shown::{explained, quoted};

/// Why a request gets no answer. [`status`](Self::status) is what HTTP says of it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A field is wrong or missing.
    #[error("{field}: {reason}")]
    Field {
        /// Where in the request's JSON.
        field: String,
        /// What is wrong.
        reason: String,
    },
    /// What is asked for would be computed otherwise than asked.
    #[error("{field} is not supported: {reason}")]
    Unsupported {
        /// Where in the request's JSON.
        field: String,
        /// What would be.
        reason: String,
    },
    /// The input does not fit the model.
    #[error("{0}")]
    TooLong(String),
    /// No key, or an unknown one.
    #[error("no valid API key: send one as `Authorization: Bearer ..` or `x-api-key: ..`")]
    Key,
    /// Without keys only programs of this machine are answered.
    #[error("without keys only this machine's own programs are answered, and this request comes by way of {:?}", quoted(.0))]
    Foreign(String),
    /// Nothing of that name is there for this tenant.
    #[error("there is no {what} {name:?}", name = quoted(name))]
    Absent {
        /// What.
        what: &'static str,
        /// Which.
        name: String,
    },
    /// Something of that name is there, or another writer was first.
    #[error("{0}")]
    Conflict(String),
    /// A path that does not exist, or a method that it does not have.
    #[error("{0}")]
    Route(String),
    /// A body or a header beyond its bound.
    #[error("{0}")]
    TooLarge(String),
    /// Too many requests wait.
    #[error("too many requests wait; try again in {after} s")]
    Busy {
        /// Seconds.
        after: u64,
    },
    /// The deadline passed.
    #[error("not done within {} s", .0.as_secs_f64())]
    Deadline(Duration),
    /// Who asked has gone, or the request was called off.
    #[error("called off")]
    Cancelled,
    /// The server takes no new requests.
    #[error("the server is shutting down")]
    Draining,
    /// The store did not take or give what was asked of it.
    #[error("the store failed: {0}")]
    Store(String),
    /// A fault of the server.
    #[error("{0}")]
    Internal(String),
}

impl Refusal {
    pub(crate) fn field(field: impl Into<String>, reason: impl std::fmt::Display) -> Self {
        Self::Field { field: quoted(&field.into()), reason: explained(&reason) }
    }

    pub(crate) fn unsupported(field: impl Into<String>, reason: impl std::fmt::Display) -> Self {
        Self::Unsupported { field: quoted(&field.into()), reason: explained(&reason) }
    }

    /// What is wrong with the server is for its log; who asked is told that something is.
    fn fault(error: &dyn std::error::Error) -> Self {
        tracing::error!(%error, "a request failed");
        Self::Internal("a fault of the server; its log says more".to_owned())
    }

    /// The status that HTTP has for it.
    pub fn status(&self) -> u16 {
        match self {
            Self::Field { .. } | Self::Unsupported { .. } | Self::TooLong(_) => 400,
            Self::Key => 401,
            Self::Foreign(_) => 403,
            Self::Absent { .. } | Self::Route(_) => 404,
            Self::Conflict(_) => 409,
            Self::TooLarge(_) => 413,
            Self::Busy { .. } => 429,
            Self::Cancelled => 499,
            Self::Internal(_) => 500,
            Self::Draining | Self::Store(_) => 503,
            Self::Deadline(_) => 504,
        }
    }

    /// OpenAI's word for the kind of error.
    pub fn openai_type(&self) -> &'static str {
        match self.status() {
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        }
    }

    /// OpenAI's code, where it has one.
    pub fn openai_code(&self) -> Option<&'static str> {
        match self {
            Self::TooLong(_) => Some("context_length_exceeded"),
            Self::Key => Some("invalid_api_key"),
            Self::Absent { what: "model", .. } => Some("model_not_found"),
            Self::Absent { .. } => Some("not_found"),
            Self::Unsupported { .. } => Some("unsupported_parameter"),
            Self::Busy { .. } => Some("queue_full"),
            Self::Deadline(_) => Some("timeout"),
            _ => None,
        }
    }

    /// The field of the request that is at fault.
    pub fn param(&self) -> Option<&str> {
        match self {
            Self::Field { field, .. } | Self::Unsupported { field, .. } => Some(field),
            _ => None,
        }
    }

    /// Anthropic's word for the kind of error.
    pub fn anthropic_type(&self) -> &'static str {
        match self.status() {
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            503 => "overloaded_error",
            504 => "timeout_error",
            500.. => "api_error",
            _ => "invalid_request_error",
        }
    }
}

impl From<lb_model::Error> for Refusal {
    fn from(error: lb_model::Error) -> Self {
        use lb_model::Error;
        match error {
            Error::ContextOverflow { .. } | Error::TooManyTokens { .. } => Self::TooLong(error.to_string()),
            Error::Conversation { field, reason } => Self::field(field, reason),
            Error::Config { field, value, reason } => {
                Self::field(field, format!("{}: want {reason}", quoted(&value)))
            }
            Error::Template { .. } | Error::NoChatTemplate { .. } => {
                Self::field("messages", error.to_string())
            }
            Error::TokenRange { .. } | Error::Empty { .. } => Self::field("prompt", error.to_string()),
            Error::Interrupted => Self::Cancelled,
            Error::Sequence { source, .. } => Self::from(*source),
            other => Self::fault(&other),
        }
    }
}

impl From<lb_session::Error> for Refusal {
    fn from(error: lb_session::Error) -> Self {
        use lb_session::Error;
        match error {
            Error::Model(error) => Self::from(error),
            Error::Call { source, .. } => Self::from(*source),
            Error::NoRoom { .. } => Self::TooLong(error.to_string()),
            Error::Cancelled => Self::Cancelled,
            Error::Timeout { limit, .. } => Self::Deadline(limit),
            Error::Empty { arg } => Self::field(arg, "is empty"),
            Error::Config { field, value, reason } => {
                Self::field(format!("briefing.handoff.{field}"), format!("{}: {reason}", quoted(&value)))
            }
            Error::Compaction(error) => Self::field("briefing.handoff", error),
            other => Self::fault(&other),
        }
    }
}
