//! What an item of a history is.
//!
//! The marks were taken from logs of Magentic-One on GAIA tasks (Who&When): of 482 messages, 115 are ledgers (JSON behind
//! a heading, the same keys each time), 114 are instructions to an agent, 105 pages that a browser reports (the largest part of the
//! tokens), 84 name the next speaker and nothing else, 30 are plans; errors are a line within a page.

use lb_session::{Segment, Source};
use serde::{Deserialize, Serialize};

use super::state;
use crate::{ChatMessage, Role};

/// What an item is, and with it how much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ItemKind {
    /// What was asked.
    Request,
    /// What was settled: findings, plans, instructions to others.
    Decision,
    /// Code that ran.
    Code,
    /// Output that says that something failed.
    Error,
    /// Where things stand; a later one of the same form takes its place.
    State,
    /// What was read: pages, outputs, replies.
    Content,
    /// Thoughts.
    Reasoning,
    /// Next to nothing: who speaks next.
    Chatter,
}

/// One item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// What it is.
    pub kind: ItemKind,
    /// Its text.
    pub text: String,
    /// What code finds it by.
    pub name: String,
    /// Never changed, whatever the budget.
    pub protected: bool,
    /// May be shortened, but something of it stays.
    pub stays: bool,
}

/// Tokens are not needed to tell that a thought says nothing.
const CHATTER_CHARS: usize = 60;

impl ItemKind {
    /// The weight where a configuration names none.
    pub(super) fn weight(self) -> f64 {
        match self {
            Self::Request => 16.0,
            Self::Decision => 8.0,
            Self::Error => 6.0,
            Self::Code => 4.0,
            Self::State => 3.0,
            Self::Content => 2.0,
            Self::Reasoning => 1.5,
            Self::Chatter => 0.1,
        }
    }

    /// What a segment of a trajectory is.
    pub fn of(segment: &Segment) -> Self {
        let text = segment.text.trim();
        let told = segment.name.as_deref().is_some_and(|name| name.trim_start().starts_with("->"));
        match segment.source {
            Source::Request => Self::Request,
            Source::Finding => Self::Decision,
            Source::Code => Self::Code,
            _ if state::of(text).is_some_and(|state| state.is_object()) => Self::State,
            Source::Reasoning if told || is_plan(text) => Self::Decision,
            Source::Reasoning if text.chars().count() < CHATTER_CHARS || is_turn_taking(text) => {
                Self::Chatter
            }
            Source::Reasoning => Self::Reasoning,
            Source::Tool | Source::Reply | Source::Artifact => Self::of_output(text),
        }
    }

    /// What a message of the loop's conversation is.
    pub(super) fn of_message(message: &ChatMessage) -> Self {
        match message.role {
            Role::System => Self::Request,
            Role::Assistant if message.content.contains("```") => Self::Code,
            Role::Assistant => Self::Reasoning,
            Role::User => Self::of_output(&message.content),
        }
    }

    fn of_output(text: &str) -> Self {
        if error_lines(text).next().is_some() {
            Self::Error
        } else if state::of(text).is_some() {
            Self::State
        } else {
            Self::Content
        }
    }
}

impl Item {
    /// A segment, named by its number.
    pub fn of(segment: &Segment, number: usize) -> Self {
        let name = format!("segment_{number}");
        Self { kind: ItemKind::of(segment), text: segment.text.clone(), name, protected: false, stays: false }
    }
}

fn is_plan(text: &str) -> bool {
    let first = text.lines().next().unwrap_or_default().trim().to_lowercase();
    first.ends_with("plan:") || first.ends_with("decision:") || first.starts_with("decision:")
}

fn is_turn_taking(text: &str) -> bool {
    text.starts_with("Next speaker ")
}

/// Lines that say that something failed. A word such as "failed" within prose is none.
pub(super) fn error_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| is_error(line.trim().trim_start_matches(['#', '*', '-', '>', ' '])))
}

fn is_error(line: &str) -> bool {
    let head: String = line.chars().take(120).collect::<String>().to_lowercase();
    let value = head.rsplit_once(": ").map_or(head.as_str(), |(_, value)| value);
    let named = line.split_once(':').is_some_and(|(name, _)| {
        let word = name.rsplit('.').next().unwrap_or_default();
        (word.ends_with("Error") || word.ends_with("Exception"))
            && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.'))
    });
    let numbered =
        value.strip_prefix("error ").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    named
        || numbered
        || head.starts_with("traceback (most recent call last)")
        || head.starts_with("error: ")
        || head.starts_with("file not found")
        || head.starts_with("exitcode: ") && !head.starts_with("exitcode: 0")
        || value.trim_matches(['"', ',', ' ']) == "page not found"
}

#[cfg(test)]
mod tests {
    use lb_session::Segment;

    use super::{ItemKind, error_lines};

    #[test]
    fn kinds_are_told_as_real_logs_have_them() {
        let thought = |text: &str| ItemKind::of(&Segment::reasoning(text));
        let told = Segment::reasoning("Please search for the list of executives.").named("-> WebSurfer");
        assert_eq!(ItemKind::of(&told), ItemKind::Decision);
        assert_eq!(
            thought("Initial plan:\n\nWe are working to address the following request"),
            ItemKind::Decision
        );
        assert_eq!(thought("Next speaker WebSurfer"), ItemKind::Chatter);
        assert_eq!(
            thought("Updated Ledger:\n{\"a\": {\"reason\": \"x\", \"answer\": false}}"),
            ItemKind::State
        );
        let page = "I clicked 'A'.\n\nHere is a screenshot of [B](https://b.org/c). The viewport shows 28%.";
        assert_eq!(ItemKind::of(&Segment::tool(page)), ItemKind::State);
        assert_eq!(ItemKind::of(&Segment::tool("Twelve rows.\nAll fine.")), ItemKind::Content);
    }

    #[test]
    fn errors_are_lines_of_their_own() {
        let of = |text| error_lines(text).count();
        assert_eq!(of("Title: Error 404\n## Error 404\nFile not found: /workspace/76.pdf"), 3);
        assert_eq!(of("        \"description\": \"page not found\","), 1);
        assert_eq!(of("KeyError: 'a'\nurllib.error.HTTPError: 404\nexitcode: 1 (failed)"), 3);
        assert_eq!(of("Error: the worker's limit of calls is reached"), 1);
        assert_eq!(of("Nobody failed to find the error in it.\nThe error is small: 0.3\nexitcode: 0"), 0);
    }
}
