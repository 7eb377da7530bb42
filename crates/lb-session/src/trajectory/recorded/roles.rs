//! Who is who in a log.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::Source;

/// What a role says of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Speaker<'a> {
    /// Its source, and whose it is where that tells more than the source.
    Is(Source, Option<&'a str>),
    /// The model under orchestration: its text is a reply, or reasoning where calls follow.
    Assistant,
    /// The orchestrator of a team; to whom it speaks.
    Orchestrator(Aside<'a>),
    /// Nothing.
    Unknown(&'a str),
}

/// How an orchestrator speaks: Magentic-One writes that behind its name, in parentheses.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Aside<'a> {
    Thought,
    /// An instruction, with the arrow: `-> WebSurfer`.
    To(&'a str),
    /// What ended the run, which the program around the orchestrator printed.
    Termination(&'a str),
    FinalAnswer,
}

/// Roles by what they are, in lower case; the tags of [`Source`] are roles as well.
const REQUESTS: [&str; 5] = ["user", "human", "system", "developer", "system_prompt"];
const ASSISTANTS: [&str; 6] = ["assistant", "ai", "gpt", "model", "chatgpt", "bot"];
const TOOLS: [&str; 9] = [
    "function",
    "observation",
    "environment",
    "tool_result",
    "tool_response",
    "function_response",
    "function_result",
    "ipython",
    "exit",
];
const THOUGHTS: [&str; 3] = ["thought", "thoughts", "thinking"];
const CODES: [&str; 3] = ["action", "tool_call", "function_call"];
const REPLIES: [&str; 2] = ["answer", "final_answer"];

/// Orchestrators by the beginning of their name, in lower case.
const ORCHESTRATORS: [&str; 3] = ["orchestrator", "magenticoneorchestrator", "magentic_one_orchestrator"];

/// Agents of the teams that AutoGen ships, in lower case.
const MEMBERS: [&str; 9] = [
    "websurfer",
    "filesurfer",
    "multimodalwebsurfer",
    "videosurfer",
    "computerterminal",
    "computer_terminal",
    "coder",
    "executor",
    "code_executor",
];

/// Who speaks in a log, so far as one message alone does not tell.
#[derive(Debug, Default)]
pub(super) struct Cast {
    /// Somebody orchestrates: every other agent reports.
    pub(super) orchestrated: bool,
    /// To whom the orchestrator speaks, in lower case.
    addressed: BTreeSet<String>,
    /// Agents in AutoGen's sense speak: roles say only whose turn it was, names who they are.
    pub(super) group: bool,
}

impl Cast {
    pub(super) fn of(messages: &[Value]) -> Self {
        let (mut cast, mut names, mut nameless) = (Self::default(), BTreeSet::new(), false);
        for message in messages.iter().filter_map(Value::as_object) {
            let role = role(message).unwrap_or_default();
            if let Some(aside) = orchestrator(role) {
                cast.orchestrated = true;
                if let Aside::To(whom) = aside {
                    cast.addressed.insert(whom.trim_start_matches("->").trim().to_lowercase());
                }
            }
            let spoken = is_request(role) || is_assistant(role);
            match name(message) {
                Some(name) if spoken => {
                    names.insert(name);
                }
                _ => nameless = true,
            }
            // Typed events of AutoGen name their agents as the source.
            let typed = message.contains_key("type") && message.contains_key("source");
            if typed && !role.is_empty() && !is_request(role) {
                names.insert(role);
            }
        }
        // One agent that has its name on everything it says is a group as well.
        cast.group = names.len() > 1 || (names.len() == 1 && !nameless);
        cast
    }

    /// What a role says.
    pub(super) fn speaker<'a>(&self, role: &'a str) -> Speaker<'a> {
        let role = role.trim();
        if let Some(aside) = orchestrator(role) {
            return Speaker::Orchestrator(aside);
        }
        let lower = role.to_lowercase();
        let one_of = |list: &[&str]| list.contains(&lower.as_str());
        if let Some(source) = Source::of_tag(&lower) {
            return Speaker::Is(source, None);
        }
        if is_request(role) {
            return Speaker::Is(Source::Request, None);
        }
        if self.orchestrated && (self.addressed.contains(&lower) || one_of(&MEMBERS) || is_assistant(role)) {
            return Speaker::Is(Source::Tool, Some(role));
        }
        if is_assistant(role) {
            return Speaker::Assistant;
        }
        for (list, source) in [
            (&TOOLS[..], Source::Tool),
            (&THOUGHTS, Source::Reasoning),
            (&CODES, Source::Code),
            (&REPLIES, Source::Reply),
        ] {
            if one_of(list) {
                return Speaker::Is(source, None);
            }
        }
        if one_of(&MEMBERS) { Speaker::Is(Source::Tool, Some(role)) } else { Speaker::Unknown(role) }
    }
}

/// Whose message it is, in any format's word for it.
pub(super) fn role(message: &Map<String, Value>) -> Option<&str> {
    ["role", "source", "from"].iter().find_map(|key| message.get(*key)?.as_str())
}

/// The agent's name beside a role.
pub(super) fn name(message: &Map<String, Value>) -> Option<&str> {
    message.get("name")?.as_str().filter(|name| !name.trim().is_empty())
}

pub(super) fn is_assistant(role: &str) -> bool {
    ASSISTANTS.contains(&role.trim().to_lowercase().as_str())
}

pub(super) fn is_request(role: &str) -> bool {
    REQUESTS.contains(&role.trim().to_lowercase().as_str())
}

/// Agents that run what others write.
pub(super) fn executes(name: &str) -> bool {
    let name = name.to_lowercase();
    ["terminal", "executor", "interpreter"].iter().any(|part| name.contains(part))
}

fn orchestrator(role: &str) -> Option<Aside<'_>> {
    let role = role.trim();
    let head = role.split([' ', '(']).next().unwrap_or_default();
    if !ORCHESTRATORS.contains(&head.to_lowercase().as_str()) {
        return None;
    }
    let aside = role[head.len()..].trim().trim_start_matches('(').trim_end_matches(')').trim();
    Some(match aside.strip_prefix("->").map(str::trim) {
        Some(whom) if !whom.is_empty() => Aside::To(aside),
        _ if aside.eq_ignore_ascii_case("termination condition") => Aside::Termination(aside),
        _ if aside.eq_ignore_ascii_case("final answer") => Aside::FinalAnswer,
        _ => Aside::Thought,
    })
}

#[cfg(test)]
mod tests {
    use super::{Aside, orchestrator};

    #[test]
    fn asides_are_read_as_magentic_one_writes_them() {
        assert_eq!(orchestrator("Orchestrator (thought)"), Some(Aside::Thought));
        assert_eq!(orchestrator("Orchestrator"), Some(Aside::Thought));
        assert_eq!(orchestrator("Orchestrator (-> WebSurfer)"), Some(Aside::To("-> WebSurfer")));
        assert_eq!(orchestrator("Orchestrator (->)"), Some(Aside::Thought));
        assert_eq!(orchestrator("MagenticOneOrchestrator"), Some(Aside::Thought));
        assert_eq!(
            orchestrator("Orchestrator (termination condition)"),
            Some(Aside::Termination("termination condition"))
        );
        assert_eq!(orchestrator("Orchestra"), None);
        assert_eq!(orchestrator(""), None);
    }
}
