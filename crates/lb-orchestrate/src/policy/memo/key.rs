//! What decides an answer.

use std::fmt::Write;

use lb_sandbox::Query;
use lb_session::{BriefConfig, Handoff, Lookahead, SessionConfig, WorkerSession};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::Result;

/// The name of an answer: 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MemoKey(String);

impl MemoKey {
    /// The key of what these parts say, in this order.
    pub fn of(parts: &[&str]) -> Self {
        let mut digest = Sha256::new();
        for part in parts {
            // Lengths keep parts apart.
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part.as_bytes());
        }
        Self(hex(digest.finalize()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a worker is and has read, digested once for all calls of a batch.
pub(crate) struct Setting(Vec<String>);

impl Setting {
    /// `briefed` calls are handed the trajectory by `handoff`.
    pub(crate) fn of(
        session: &WorkerSession,
        config: &SessionConfig,
        handoff: &Handoff,
        briefed: bool,
        tenant: &str,
    ) -> Result<Self> {
        let worker = session.worker();
        let print = worker.fingerprint()?;
        let contents = if briefed { contents(session) } else { String::new() };
        let handoff = if briefed { json!(handoff).to_string() } else { String::new() };
        // Which segments enter, and what becomes of the oldest, decides what a cache holds.
        let entering = format!("{:?} {:?}", config.policy, config.room);
        Ok(Self(vec![
            "answer 1".to_owned(),
            tenant.to_owned(),
            print.weights.clone(),
            print.tokenizer.clone(),
            print.template.clone(),
            format!("{:?} {:?}", worker.dtype(), worker.device().location()),
            format!("{:?} {:?} {}", config.generate, config.format, config.lookup),
            handoff,
            if briefed { entering } else { String::new() },
            contents,
        ]))
    }

    pub(crate) fn key(&self, query: &Query) -> MemoKey {
        let document = query.document.as_deref().map_or_else(|| "-".to_owned(), |text| format!("+{text}"));
        let parts: Vec<&str> =
            self.0.iter().map(String::as_str).chain([document.as_str(), query.prompt.as_str()]).collect();
        MemoKey::of(&parts)
    }
}

/// Whether the same input gives the same answer: nothing is drawn by lot, and what was answered before plays no part.
pub(crate) fn applies(config: &SessionConfig, handoff: &Handoff) -> bool {
    let greedy = config.generate.temperature.is_none_or(|temperature| temperature == 0.0);
    let earlier =
        |brief: &BriefConfig| brief.lookahead.as_ref().is_some_and(|ahead: &Lookahead| ahead.earlier > 0);
    let recalls = match handoff {
        Handoff::LatentBriefing(brief) => earlier(brief),
        Handoff::RenewedBriefing(renewal) => earlier(&renewal.briefing),
        _ => false,
    };
    greedy && !recalls
}

/// The digest of what any handoff is made from: every segment so far, and the notes.
fn contents(session: &WorkerSession) -> String {
    let mut digest = Sha256::new();
    let mut add = |text: &str| {
        digest.update((text.len() as u64).to_le_bytes());
        digest.update(text.as_bytes());
    };
    for segment in session.trajectory().segments() {
        add(segment.source.tag());
        add(segment.name.as_deref().unwrap_or_default());
        add(&segment.text);
    }
    add("notes");
    for note in session.notes() {
        add(&note.to_string());
    }
    hex(digest.finalize())
}

pub(super) fn hex(digest: impl AsRef<[u8]>) -> String {
    digest.as_ref().iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
