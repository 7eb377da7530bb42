//! Logs of recursive language models: a `metadata` line, then one line a turn. Ours say what entered the trajectory; of
//! others it is made of replies, code and what came back.

use serde_json::{Map, Value};

use super::reading::Reading;
use crate::{Segment, Source};

/// What a log says beside its segments.
#[derive(Default)]
pub(super) struct Asked {
    pub(super) question: String,
    pub(super) answer: String,
}

/// True for the first line of such a log.
pub(super) fn is_first_line(value: &Value) -> bool {
    value.get("type").and_then(Value::as_str) == Some("metadata")
        && (value.get("root_model").is_some() || value.get("latent_briefing").is_some())
}

/// Reads the lines of a log. Turns that were stopped are begun anew by whoever resumes it, and left out.
pub(super) fn lines(lines: &[Value], out: &mut Reading) -> Asked {
    let mut asked = Asked::default();
    if let Some(Value::String(question)) =
        lines.first().and_then(|line| line.get("latent_briefing")?.get("question"))
    {
        asked.question.clone_from(question);
    }
    for line in lines.iter().skip(1).filter_map(Value::as_object) {
        if line.get("stopped").is_some_and(Value::is_string) {
            out.left_out("stopped turn");
            continue;
        }
        let text = |key: &str| line.get(key).and_then(Value::as_str);
        if let Some(question) = text("question") {
            question.clone_into(&mut asked.question);
        }
        if let Some(answer) = text("final_answer") {
            answer.clone_into(&mut asked.answer);
        }
        match line.get("entered") {
            Some(Value::Array(entered)) => entered.iter().for_each(|value| enter(value, out)),
            _ => turn(line, out),
        }
    }
    asked
}

fn enter(entered: &Value, out: &mut Reading) {
    match serde_json::from_value::<Segment>(entered.clone()) {
        Ok(segment) => out.say(segment.source, segment.name.as_deref(), &segment.text),
        Err(_) => out.left_out("entered"),
    }
}

/// A turn of a log that does not say what entered.
fn turn(line: &Map<String, Value>, out: &mut Reading) {
    let text =
        |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let blocks = line.get("code_blocks").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let response = line.get("response").and_then(Value::as_str).unwrap_or_default();
    // The blocks' code stands in the response, fenced.
    let prose = response.split("```").step_by(2).collect::<Vec<_>>().join("\n");
    let prose = if blocks.is_empty() { response } else { prose.trim() };
    out.say(Source::Reasoning, None, prose);
    for block in blocks {
        out.say(Source::Code, None, &text(block, "code"));
        let Some(result) = block.get("result") else { continue };
        for call in result.get("rlm_calls").and_then(Value::as_array).into_iter().flatten() {
            out.say(Source::Reply, None, &text(call, "response"));
        }
        out.say(Source::Tool, None, &text(result, "stdout"));
        out.say(Source::Tool, None, &text(result, "stderr"));
    }
}
