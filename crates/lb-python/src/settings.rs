//! Keyword arguments as settings: the grammar of handoffs, word by word, or the JSON form of a configuration.

use lb_session::{BriefConfig, Handoff};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyString};

use lb_am::{Compaction, PackedBits, registry};

use crate::errors::{self, OrRaise};

/// What a short text can say of a compaction.
const COMPACTION: [&str; 16] = [
    "keep",
    "tau",
    "error",
    "coverage",
    "select",
    "score",
    "heads",
    "floor",
    "spans",
    "fade",
    "fold",
    "threshold",
    "rank",
    "fit",
    "bits",
    "config",
];
/// What it can say of a briefing besides.
const BRIEFING: [&str; 12] = [
    "state", "queries", "echo", "earlier", "vectors", "weight", "draft", "over", "first", "check", "chunks",
    "pieces",
];

/// The JSON of a Python object.
pub(crate) fn json_of(object: &Bound<'_, PyAny>) -> PyResult<String> {
    if let Ok(text) = object.cast::<PyString>() {
        return text.extract();
    }
    object.py().import("json")?.call_method1("dumps", (object,))?.extract()
}

/// A Python object from JSON.
pub(crate) fn from_json<'py>(py: Python<'py>, value: &impl serde::Serialize) -> PyResult<Bound<'py, PyAny>> {
    let text = serde_json::to_string(value).map_err(|error| errors::config("json", error.to_string()))?;
    py.import("json")?.call_method1("loads", (text,))
}

fn written(key: &str, value: &Bound<'_, PyAny>) -> PyResult<String> {
    if value.is_instance_of::<PyBool>() {
        return Err(errors::config(key, format!("{key}: want a number or a name, got {value}")));
    }
    if let Ok(text) = value.extract::<String>() {
        // Arguments of a selection are in parentheses inside another list.
        return Ok(if key == "select" && text.contains(':') {
            text.parse::<registry::Spec>().or_raise()?.nested()
        } else {
            text
        });
    }
    if value.is_instance_of::<PyInt>() && key == "keep" {
        // 1 is everything as a ratio, and one position as a length: nobody should have to guess.
        let count: u64 = value.extract().map_err(|_| errors::config(key, "keep: want 1 position or more"))?;
        return Ok(format!("{count}t"));
    }
    // Numbers of NumPy are none of Python's, but become one.
    let number = value.is_instance_of::<PyInt>() || value.is_instance_of::<PyFloat>();
    if number || value.hasattr("__index__")? || value.hasattr("__float__")? {
        return value.str()?.extract();
    }
    Err(errors::config(key, format!("{key}: want a number or a text, got {}", value.get_type().name()?)))
}

fn unknown(key: &str, known: &[&str]) -> PyErr {
    let near = registry::nearest_first(key, known.iter().map(|name| (*name).to_owned()).collect());
    errors::config(key, format!("there is no setting {key:?}; there are {}", near.join(", ")))
}

fn read<T: serde::de::DeserializeOwned>(json: &str) -> PyResult<T> {
    serde_json::from_str(json).map_err(|error| errors::config("config", format!("config: {error}")))
}

/// The settings as a text, or the value of `config`.
fn said(settings: Option<&Bound<'_, PyDict>>, known: &[&str]) -> PyResult<Said> {
    let mut words = Vec::new();
    let mut config = None;
    for (key, value) in settings.into_iter().flatten() {
        let key: String = key.extract()?;
        if !known.contains(&&*key) {
            return Err(unknown(&key, known));
        }
        if value.is_none() {
            continue;
        }
        if key == "config" {
            config = Some(json_of(&value)?);
        } else {
            words.push(format!("{key}={}", written(&key, &value)?));
        }
    }
    match config {
        Some(_) if !words.is_empty() => Err(errors::config(
            "config",
            format!("config says everything; {} cannot stand beside it", words.join(", ")),
        )),
        Some(json) => Ok(Said::Json(json)),
        None => Ok(Said::Words(words.join(","))),
    }
}

enum Said {
    Words(String),
    Json(String),
}

fn of_words(words: &str) -> PyResult<BriefConfig> {
    let text =
        if words.is_empty() { "latent-briefing".to_owned() } else { format!("latent-briefing:{words}") };
    match text.parse::<Handoff>().or_raise()? {
        Handoff::LatentBriefing(config) => Ok(*config),
        _ => Err(errors::config("config", "want the settings of a briefing")),
    }
}

/// A compaction, and what its slots are stored in.
pub(crate) fn compaction(settings: Option<&Bound<'_, PyDict>>) -> PyResult<(Compaction, Option<PackedBits>)> {
    let config = match said(settings, &COMPACTION)? {
        Said::Words(words) => of_words(&words)?,
        Said::Json(json) => BriefConfig::from(read::<Compaction>(&json)?),
    };
    config.compaction.validate().or_raise()?;
    Ok((config.compaction, config.storage.bits()))
}

/// A briefing.
pub(crate) fn briefing(settings: Option<&Bound<'_, PyDict>>) -> PyResult<BriefConfig> {
    let known: Vec<&str> = COMPACTION.into_iter().chain(BRIEFING).collect();
    let config = match said(settings, &known)? {
        Said::Words(words) => of_words(&words)?,
        Said::Json(json) => read(&json)?,
    };
    config.validate().or_raise()?;
    Ok(config)
}

/// How a trajectory reaches the worker: a text or its JSON form, or else the settings of a briefing.
pub(crate) fn handoff(
    via: Option<&Bound<'_, PyAny>>,
    settings: Option<&Bound<'_, PyDict>>,
) -> PyResult<Handoff> {
    let Some(via) = via.filter(|via| !via.is_none()) else {
        return Ok(Handoff::briefing(briefing(settings)?));
    };
    if settings.is_some_and(|settings| !settings.is_empty()) {
        return Err(errors::config(
            "via",
            "via says everything; settings of a briefing cannot stand beside it",
        ));
    }
    match via.extract::<String>() {
        Ok(text) => text.parse().or_raise(),
        Err(_) => read(&json_of(via)?),
    }
}
