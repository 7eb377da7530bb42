//! Decisions that stand in a response as JSON, as Magentic-One's orchestrator writes them into its ledger.

use std::collections::BTreeSet;

use lb_session::Segment;
use serde_json::{Map, Value};

use crate::logs::Decision;

/// What an orchestrator's ledger decides, an object of objects with an `answer` each: yes or no, or who of `team` speaks next. The reason
/// that stands in front of an answer is not a part of the opening: it would give the answer away.
pub(super) fn decisions(response: &str, team: &BTreeSet<String>) -> Vec<Decision> {
    let Some((before, ledger)) = object(response) else { return Vec::new() };
    let decision = |(name, value): (&String, &Value)| {
        let opening = format!("{before}{{\n  {}: {{\n    \"answer\": ", Value::from(name.as_str()));
        let name = name.clone();
        match value.get("answer")? {
            Value::Bool(answer) => {
                let options = ["true", "false"].map(str::to_owned).to_vec();
                Some(Decision { name, opening, options, chosen: answer.to_string() })
            }
            Value::String(answer) if team.len() > 1 && team.contains(answer) => {
                let options = team.iter().cloned().collect();
                Some(Decision { name, opening: format!("{opening}\""), options, chosen: answer.clone() })
            }
            _ => None,
        }
    };
    ledger.iter().filter_map(decision).collect()
}

/// The first object of JSON in a text, and what stands before it.
fn object(text: &str) -> Option<(&str, Map<String, Value>)> {
    let at = text.find('{')?;
    let mut values = serde_json::Deserializer::from_str(&text[at..]).into_iter::<Map<String, Value>>();
    Some((&text[..at], values.next()?.ok()?))
}

/// Who was told to do something: `Orchestrator (-> WebSurfer)`, and who of a team reported.
pub(super) fn team(segments: &[Segment]) -> BTreeSet<String> {
    let named = segments.iter().filter_map(|segment| segment.name.as_deref());
    let member = |name: &str| {
        let name = name.rsplit("-> ").next().unwrap_or(name).trim_end_matches(')').trim().to_owned();
        (!name.is_empty() && !name.contains(' ')).then_some(name)
    };
    named.filter_map(member).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_says_what_was_decided() {
        let team: BTreeSet<String> = ["WebSurfer", "FileSurfer"].map(str::to_owned).into();
        let response = "Updated Ledger:\n{\n \"is_in_loop\": {\"reason\": \"no\", \"answer\": false},\n \
                        \"next_speaker\": {\"reason\": \"..\", \"answer\": \"WebSurfer\"},\n \
                        \"instruction_or_question\": {\"answer\": \"Go on.\"}}\nThat is all.";
        let made = decisions(response, &team);
        assert_eq!(made.len(), 2);
        assert_eq!(made[0].opening, "Updated Ledger:\n{\n  \"is_in_loop\": {\n    \"answer\": ");
        assert_eq!((made[0].chosen.as_str(), made[0].chosen_number()), ("false", Some(1)));
        assert_eq!(made[1].options, ["FileSurfer", "WebSurfer"]);
        assert!(made[1].opening.ends_with("\"answer\": \""));
        for plain in ["no object", "{broken", "{\"a\": 1}", "[]"] {
            assert!(decisions(plain, &team).is_empty(), "{plain}");
        }
    }
}
