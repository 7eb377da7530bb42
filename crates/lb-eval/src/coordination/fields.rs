//! Episodes and turns from the fields of JSON objects.

use std::collections::BTreeSet;

use lb_session::{RecordedLog, Segment};
use serde_json::{Map, Value};

use super::episode::{Episode, Given, Outcome, RecordedTokens, Turn};
use crate::datasets::Fault;
use crate::datasets::fields::Fields;
use crate::logs::Decision;

/// Fields of an episode, of a turn, and of a turn that stands by itself.
const OF_EPISODE: [&str; 7] = ["id", "task", "turns", "transcript", "outcome", "score", "answers"];
const OF_TURN: [&str; 7] = ["agent", "phase", "context", "instruction", "response", "tokens", "decisions"];
const OF_ROW: [&str; 9] =
    ["episode", "turn", "task", "input_tokens", "output_tokens", "score", "answer", "expected", "judge"];

type Result<T> = std::result::Result<T, Fault>;

/// A turn that stands by itself, and what it says of its episode.
pub(super) struct Row {
    pub(super) episode: String,
    pub(super) task: Option<String>,
    pub(super) turn: Turn,
    /// Where it stands among the turns, if it says so.
    pub(super) number: Option<i64>,
    pub(super) outcome: Option<Outcome>,
}

/// An episode with its turns. `ignored` gets the names of fields that nobody here knows.
pub(super) fn episode(
    map: &Map<String, Value>,
    own: &str,
    ignored: &mut BTreeSet<String>,
) -> Result<Episode> {
    let fields = Fields::root(map);
    unknown(map, "", &[&OF_EPISODE], ignored);
    let transcript = match fields.get("transcript") {
        Some(value) => segments(value, "transcript")?,
        None => Vec::new(),
    };
    let mut turns = Vec::new();
    for (number, value) in fields.array("turns")?.iter().enumerate() {
        let path = format!("turns[{number}]");
        let fields = Fields::at(value, path.clone())?;
        if let Value::Object(map) = value {
            unknown(map, "turns[].", &[&OF_TURN], ignored);
        }
        turns.push(turn(&fields, &path)?);
    }
    let mut outcome = fields.get("outcome").map(|value| judged(&Fields::at(value, "outcome".to_owned())?));
    if outcome.is_none() && fields.get("score").is_some() {
        outcome = Some(judged(&fields));
    }
    let mut made = Episode {
        id: name(&fields, "id")?.unwrap_or_else(|| own.to_owned()),
        task: fields.optional("task")?.unwrap_or_default().to_owned(),
        transcript,
        turns,
        outcome: outcome.transpose()?,
    };
    if made.turns.is_empty() {
        return Err(Fault::Empty { field: "turns".to_owned() });
    }
    share(&mut made);
    Ok(made)
}

/// Where turns have no context of their own, they were given all that was written before.
pub(super) fn share(episode: &mut Episode) {
    if !episode.transcript.is_empty() || episode.turns.iter().all(|turn| turn.context != Given::Shared(0)) {
        return;
    }
    for number in 0..episode.turns.len() {
        let turn = &mut episode.turns[number];
        if turn.context == Given::Shared(0) {
            turn.context = Given::Shared(episode.transcript.len());
        }
        let said = Segment::reasoning(turn.response.clone()).named(&turn.agent);
        episode.transcript.push(said);
    }
}

/// A turn that stands by itself.
pub(super) fn row(map: &Map<String, Value>, ignored: &mut BTreeSet<String>) -> Result<Row> {
    let fields = Fields::root(map);
    unknown(map, "", &[&OF_TURN, &OF_ROW], ignored);
    let said = ["score", "answer", "expected", "judge"].iter().any(|field| fields.get(field).is_some());
    Ok(Row {
        episode: name(&fields, "episode")?.ok_or_else(|| Fault::Missing { field: "episode".to_owned() })?,
        task: fields.optional("task")?.map(str::to_owned),
        number: fields.get("turn").map(|_| fields.integer("turn")).transpose()?,
        outcome: said.then(|| judged(&fields)).transpose()?,
        turn: turn(&fields, "")?,
    })
}

fn turn(fields: &Fields<'_>, path: &str) -> Result<Turn> {
    let own = |field: &str| if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") };
    let tokens = match fields.get("tokens") {
        Some(value) => {
            let tokens = Fields::at(value, own("tokens"))?;
            RecordedTokens { input: count(&tokens, "input")?, output: count(&tokens, "output")? }
        }
        None => {
            RecordedTokens { input: count(fields, "input_tokens")?, output: count(fields, "output_tokens")? }
        }
    };
    let context = match fields.get("context") {
        Some(value) => Given::Own(segments(value, &own("context"))?),
        None => Given::Shared(0),
    };
    let decisions = match fields.get("decisions") {
        Some(value) => serde_json::from_value::<Vec<Decision>>(value.clone())
            .map_err(|error| fields.value("decisions", &error.to_string(), "a list of decisions"))?,
        None => Vec::new(),
    };
    if let Some(odd) = decisions.iter().find(|decision| decision.chosen_number().is_none()) {
        return Err(fields.value("decisions", &odd.chosen, "a choice that is one of its options"));
    }
    Ok(Turn {
        agent: fields.filled("agent")?.to_owned(),
        phase: fields.optional("phase")?.map(str::to_owned),
        context,
        instruction: fields.optional("instruction")?.unwrap_or_default().to_owned(),
        response: fields.text("response")?.to_owned(),
        tokens,
        decisions,
    })
}

fn judged(fields: &Fields<'_>) -> Result<Outcome> {
    let score = match fields.get("score") {
        None => None,
        Some(Value::Bool(right)) => Some(f64::from(u8::from(*right))),
        Some(value) => match value.as_f64() {
            Some(score) if (0.0..=1.0).contains(&score) => Some(score),
            _ => return Err(fields.value("score", &value.to_string(), "0 to 1, or true or false")),
        },
    };
    let text = |field: &str| {
        Ok(match fields.get(field) {
            Some(Value::String(text)) => Some(text.clone()),
            Some(other) => Some(other.to_string()),
            None => None,
        })
    };
    Ok(Outcome { score, answer: text("answer")?, expected: text("expected")?, judge: text("judge")? })
}

/// A name, which some data has as a number.
fn name(fields: &Fields<'_>, field: &str) -> Result<Option<String>> {
    match fields.get(field) {
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(_) => fields.filled(field).map(|name| Some(name.to_owned())),
        None => Ok(None),
    }
}

fn count(fields: &Fields<'_>, field: &str) -> Result<Option<usize>> {
    if fields.get(field).is_none() {
        return Ok(None);
    }
    let number = fields.integer(field)?;
    let count = usize::try_from(number);
    count.map(Some).map_err(|_| fields.value(field, &number.to_string(), "a number of tokens"))
}

/// A text, segments, or messages of any log that is known.
fn segments(value: &Value, field: &str) -> Result<Vec<Segment>> {
    match value {
        Value::String(text) if text.trim().is_empty() => Ok(Vec::new()),
        Value::String(text) => match serde_json::from_str::<Value>(text) {
            // Parquet has no other way to say it.
            Ok(inner @ Value::Array(_)) => segments(&inner, field),
            _ => Ok(vec![Segment::tool(text.clone())]),
        },
        Value::Array(all) if all.is_empty() => Ok(Vec::new()),
        Value::Array(_) => match serde_json::from_value::<Vec<Segment>>(value.clone()) {
            Ok(segments) => Ok(segments),
            Err(_) => RecordedLog::from_json(value)
                .map(|log| log.trajectory.into_iter().collect())
                .map_err(|fault| Fault::NotALog { got: format!("{field}: {fault}") }),
        },
        other => {
            let got = other.to_string().chars().take(40).collect();
            Err(Fault::Type { field: field.to_owned(), expected: "a text or a list".to_owned(), got })
        }
    }
}

fn unknown(map: &Map<String, Value>, path: &str, known: &[&[&str]], ignored: &mut BTreeSet<String>) {
    let other = map.keys().filter(|key| !known.iter().any(|names| names.contains(&key.as_str())));
    ignored.extend(other.map(|key| format!("{path}{key}")));
}
