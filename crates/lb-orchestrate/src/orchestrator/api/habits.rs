//! What a server refuses by name, so that it is asked once more without it.

use serde_json::Value;

use super::failure::Failure;

/// Fields that a request does without where the server does not know them. Those that say what the answer is to be are not
/// among them.
const OPTIONAL: [&str; 7] =
    ["temperature", "top_p", "top_k", "min_p", "stop", "presence_penalty", "frequency_penalty"];

/// The optional field of a request that a refusal calls unknown or not allowed.
pub(super) fn unwanted(failure: &Failure, body: &Value) -> Option<&'static str> {
    let objection =
        Objection::of(failure).filter(|objection| objection.is_about_form() && objection.is_unsupported())?;
    OPTIONAL.into_iter().find(|field| body.get(field).is_some() && objection.names(field))
}

/// A refusal, as far as it says what is not wanted.
pub(super) struct Objection<'f> {
    reason: &'f str,
    parameter: Option<&'f str>,
    status: u16,
}

impl<'f> Objection<'f> {
    /// `None` for a failure that names no field.
    pub(super) fn of(failure: &'f Failure) -> Option<Self> {
        match failure {
            Failure::Refused { status: status @ (400 | 403 | 422 | 500), reason, parameter, .. } => {
                Some(Self { reason, parameter: parameter.as_deref(), status: *status })
            }
            _ => None,
        }
    }

    /// Whether it is about the form of the request, not about who may ask.
    pub(super) fn is_about_form(&self) -> bool {
        matches!(self.status, 400 | 422)
    }

    /// Whether it names this field, as a word.
    pub(super) fn names(&self, field: &str) -> bool {
        self.parameter.is_some_and(|name| has_word(name, field)) || has_word(self.reason, field)
    }

    /// Whether it says that something is unknown or not allowed at all, rather than out of its range.
    fn is_unsupported(&self) -> bool {
        const WORDS: [&str; 12] = [
            "unsupported",
            "not supported",
            "not support",
            "unrecognized",
            "unknown",
            "unexpected",
            "not permitted",
            "extra_forbidden",
            "not allowed",
            "deprecated",
            "is allowed for this model",
            "cannot find field",
        ];
        let reason = self.reason.to_lowercase();
        WORDS.iter().any(|word| reason.contains(word))
    }

    /// Whether it will not have a reply in pieces.
    pub(super) fn is_about_streaming(&self) -> bool {
        let reason = self.reason.to_lowercase();
        let said = has_word(&reason, "stream") || has_word(&reason, "streaming");
        self.status != 500 && (self.parameter == Some("stream") || said)
    }

    /// Whether it will not have a system message.
    pub(super) fn is_about_system(&self) -> bool {
        let reason = self.reason.to_lowercase();
        let system = ["system role", "role 'system'", "'system'", "got system"];
        let refused = system.iter().any(|words| reason.contains(words)) && self.is_unsupported();
        refused
            || reason.contains("system role not supported")
            || reason.contains("roles must alternate")
            || reason.contains("roles are supported")
    }
}

fn has_word(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(part) && !text[at + word.len()..].starts_with(part))
}
