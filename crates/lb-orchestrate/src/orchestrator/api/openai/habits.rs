//! What the server was found to want, learned from its refusals.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::failure::Failure;
use super::super::habits::{Objection, unwanted};

/// How requests to one server are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Habits {
    /// The name of the field that limits tokens.
    pub(super) limit_field: &'static str,
    /// Whether it sends replies in pieces.
    pub(super) streams: bool,
    /// Whether it takes `stream_options`.
    pub(super) stream_options: bool,
    /// Whether it takes a system message; else its text opens the first message of the user.
    pub(super) system: bool,
    /// Fields that are left out.
    pub(super) without: BTreeSet<&'static str>,
}

impl Habits {
    pub(super) fn new(limit_field: &'static str) -> Self {
        Self { limit_field, streams: true, stream_options: true, system: true, without: BTreeSet::new() }
    }

    /// What to try instead of `body`, where the server refuses something in it by name.
    pub(super) fn instead(&self, failure: &Failure, body: &Value) -> Option<Self> {
        let objection = Objection::of(failure)?;
        let sent = |field: &str| body.get(field).is_some();
        if sent("stream_options") && objection.is_about_form() && objection.names("stream_options") {
            return Some(Self { stream_options: false, ..self.clone() });
        }
        let has_system = body["messages"][0]["role"] == "system";
        if self.system && has_system && objection.is_about_system() {
            return Some(Self { system: false, ..self.clone() });
        }
        if objection.is_about_form() && sent(self.limit_field) && objection.names(self.limit_field) {
            let limit_field = match self.limit_field {
                "max_tokens" => "max_completion_tokens",
                _ => "max_tokens",
            };
            return Some(Self { limit_field, ..self.clone() });
        }
        if let Some(field) = unwanted(failure, body) {
            let mut without = self.without.clone();
            without.insert(field);
            return Some(Self { without, ..self.clone() });
        }
        (sent("stream") && objection.is_about_streaming()).then(|| Self { streams: false, ..self.clone() })
    }

    /// What is written otherwise than at first, in words.
    pub(super) fn since(&self, first: &Self) -> Vec<String> {
        let mut words: Vec<String> =
            self.without.difference(&first.without).map(|field| format!("no {field}")).collect();
        if self.limit_field != first.limit_field {
            words.push(format!("{} instead of {}", self.limit_field, first.limit_field));
        }
        for (now, before, text) in [
            (self.streams, first.streams, "no streaming"),
            (self.stream_options, first.stream_options, "no stream_options"),
            (self.system, first.system, "system text in the first message of the user"),
        ] {
            if now != before {
                words.push(text.to_string());
            }
        }
        words
    }
}
