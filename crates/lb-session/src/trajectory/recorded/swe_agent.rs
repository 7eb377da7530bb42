//! SWE-agent's `.traj`: steps of thought, action and observation, behind the system's and the user's first messages.

use serde_json::{Map, Value};

use super::fault::{LogFault, mistyped};
use super::reading::Reading;
use super::roles;
use crate::Source;

/// True for the steps of a `trajectory`.
pub(super) fn is_step(value: &Value) -> bool {
    let has = |key: &str| value.get(key).is_some();
    roles::role(value.as_object().unwrap_or(&Map::new())).is_none()
        && (has("observation") || (has("action") && (has("thought") || has("response"))))
}

/// Reads steps; `history` has what was asked before the first of them.
pub(super) fn steps(steps: &[Value], history: Option<&Value>, out: &mut Reading) -> Result<(), LogFault> {
    let history = history.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object);
    for message in history {
        match (roles::role(message), demonstration(message)) {
            (_, true) => out.left_out("demonstration"),
            (Some(role), false) if roles::is_request(role) => self::message(message, role, out),
            // The first step; the others follow in the trajectory.
            _ => break,
        }
    }
    for (number, step) in steps.iter().enumerate() {
        let Value::Object(step) = step else {
            return Err(mistyped(format!("trajectory[{number}]"), "an object", step));
        };
        out.begin(true);
        let text = |key: &str| step.get(key).and_then(Value::as_str).unwrap_or_default();
        let (thought, action) = (text("thought"), text("action"));
        let bare = thought.trim().is_empty() && action.trim().is_empty();
        out.say(Source::Reasoning, None, if bare { text("response") } else { thought });
        out.say(Source::Code, None, action);
        out.say(Source::Tool, None, text("observation"));
        out.end();
    }
    Ok(())
}

fn demonstration(message: &Map<String, Value>) -> bool {
    message.get("is_demo") == Some(&Value::Bool(true))
}

/// True for a message of a `history`, whose roles alone do not tell observations from requests.
pub(super) fn is_message(message: &Map<String, Value>) -> bool {
    let has = |key: &str| message.get(key).is_some_and(Value::is_string);
    has("agent") && has("role") && !has("name")
}

/// Reads a message of a `history`.
pub(super) fn message(message: &Map<String, Value>, role: &str, out: &mut Reading) {
    let text = |key: &str| message.get(key).and_then(Value::as_str);
    let acted = out.segments.iter().any(|segment| segment.source == Source::Code);
    if roles::is_assistant(role) {
        out.begin(true);
        let thought = text("thought").filter(|_| message.contains_key("action"));
        let own = Value::String(thought.unwrap_or_default().to_owned());
        let content = if thought.is_some() { Some(&own) } else { message.get("content") };
        say(Source::Reasoning, content, out);
        out.say(Source::Code, None, text("action").unwrap_or_default());
    } else {
        out.begin(false);
        let observed = !roles::is_request(role) || (role == "user" && acted);
        let source = if observed { Source::Tool } else { Source::Request };
        say(source, message.get("content"), out);
    }
    out.end();
}

fn say(source: Source, content: Option<&Value>, out: &mut Reading) {
    super::blocks::content(content, super::blocks::Voice { source, name: None }, out);
}
