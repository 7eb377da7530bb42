//! What both of OpenAI's requests say about the answer, and what of a request is passed over.

use lb_model::{GenerateOptions, Worker};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::Refusal;
use crate::engine::Spoken;

/// Answers to one request.
const CHOICES: usize = 16;
/// Texts that end an answer.
const STOPS: usize = 16;
/// Temperatures below are greedy.
const COLDEST: f64 = 1e-4;
/// Likeliest tokens that are told.
const LIKELIEST: usize = 20;

/// One text or several.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Texts {
    One(String),
    Many(Vec<String>),
}

/// How an answer is written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sampling {
    pub(crate) max_tokens: Option<usize>,
    pub(crate) max_completion_tokens: Option<usize>,
    pub(crate) temperature: Option<f64>,
    pub(crate) top_p: Option<f64>,
    pub(crate) top_k: Option<usize>,
    pub(crate) seed: Option<i64>,
    pub(crate) stop: Option<Texts>,
    pub(crate) n: Option<usize>,
    pub(crate) ignore_eos: Option<bool>,
}

/// What a server leaves to a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// Tokens of an answer where nothing is said.
    pub(crate) usual: usize,
}

impl Sampling {
    /// Checked, for an answer of the worker.
    pub(crate) fn spoken(
        self,
        worker: &Worker,
        room: Room,
        log_probs: Option<usize>,
    ) -> Result<Spoken, Refusal> {
        let limit = worker.config().position_limit();
        let (name, max) = match (self.max_completion_tokens, self.max_tokens) {
            (Some(max), _) => ("max_completion_tokens", Some(max)),
            (None, max) => ("max_tokens", max),
        };
        if max == Some(0) {
            return Err(Refusal::field(name, "0: want at least 1"));
        }
        let choices = self.n.unwrap_or(1);
        if !(1..=CHOICES).contains(&choices) {
            return Err(Refusal::field("n", format!("{choices}: want 1 to {CHOICES}")));
        }
        if log_probs.is_some_and(|most| most > LIKELIEST) {
            return Err(Refusal::field("top_logprobs", format!("want 0 to {LIKELIEST}")));
        }
        // So close to greedy that numbers end there.
        let temperature = self.temperature.filter(|temperature| !(0.0..COLDEST).contains(temperature));
        let seed = match (self.seed, temperature) {
            (Some(seed), _) => seed.cast_unsigned(),
            (None, Some(_)) => drawn()?,
            (None, None) => 0,
        };
        let options = GenerateOptions {
            max_new_tokens: max.unwrap_or(room.usual).min(limit),
            temperature,
            // They say nothing about the likeliest token.
            top_p: self.top_p.filter(|_| temperature.is_some()),
            top_k: self.top_k.filter(|k| *k > 0 && temperature.is_some()),
            seed,
            stop_tokens: Vec::new(),
            heeds_end: !self.ignore_eos.unwrap_or(false),
        };
        if self.top_p.is_some_and(|p| !(p > 0.0 && p <= 1.0)) {
            return Err(Refusal::field("top_p", "want above 0 and at most 1"));
        }
        options.validate()?;
        let stops = stops("stop", self.stop)?;
        Ok(Spoken { options, choices, stops, log_probs, by_number: false, written: Vec::new() })
    }
}

pub(crate) fn stops(field: &str, stop: Option<Texts>) -> Result<Vec<String>, Refusal> {
    let stops = match stop {
        None => Vec::new(),
        Some(Texts::One(stop)) => vec![stop],
        Some(Texts::Many(stops)) => stops,
    };
    if stops.len() > STOPS {
        return Err(Refusal::field(field, format!("{} texts: want at most {STOPS}", stops.len())));
    }
    if stops.iter().any(String::is_empty) {
        return Err(Refusal::field(field, "an empty text"));
    }
    Ok(stops)
}

fn drawn() -> Result<u64, Refusal> {
    getrandom::u64().map_err(|error| Refusal::Internal(format!("no random numbers: {error}")))
}

/// Whether a value asks for nothing.
fn is_neutral(name: &str, value: &Value) -> bool {
    match (name, value) {
        (_, Value::Null) => true,
        ("frequency_penalty" | "presence_penalty", value) => value.as_f64() == Some(0.0),
        ("repetition_penalty" | "best_of", value) => value.as_f64() == Some(1.0),
        ("logit_bias", Value::Object(map)) => map.is_empty(),
        ("functions", Value::Array(list)) => list.is_empty(),
        ("echo", value) => value == &Value::Bool(false),
        ("suffix", Value::String(text)) => text.is_empty(),
        ("tool_choice", Value::String(choice)) => choice == "none" || choice == "auto",
        ("tool_choice", Value::Object(choice)) => {
            matches!(choice.get("type").and_then(Value::as_str), Some("auto" | "none"))
        }
        ("response_format", Value::Object(format)) => format.get("type") == Some(&Value::from("text")),
        ("modalities", Value::Array(list)) => list.iter().all(|kind| kind == "text"),
        ("thinking", Value::Object(thinking)) => thinking.get("type") == Some(&Value::from("disabled")),
        _ => false,
    }
}

/// Fields that would change the answer; what the server cannot do, it does not pass over.
const HEEDED: [&str; 15] = [
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
    "best_of",
    "logit_bias",
    "functions",
    "function_call",
    "echo",
    "suffix",
    "tool_choice",
    "response_format",
    "modalities",
    "audio",
    "prediction",
    "thinking",
];

/// The names of the fields that are passed over; an error for those that would change the answer.
pub(crate) fn passed_over(rest: &Map<String, Value>) -> Result<Vec<String>, Refusal> {
    let mut over = Vec::new();
    for (name, value) in rest {
        if is_neutral(name, value) {
            continue;
        }
        if HEEDED.contains(&name.as_str()) {
            return Err(Refusal::unsupported(name, "the answer would not be what it asks for"));
        }
        over.push(name.clone());
    }
    Ok(over)
}
