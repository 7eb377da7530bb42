//! Fields of a JSON object, each missing or mistyped one named.

use serde_json::{Map, Value};

use crate::fault::Fault;

/// The longest value that a fault repeats, in characters.
const SHOWN: usize = 60;

/// What kind of JSON a value is.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// An object and the path that leads to it, for names in faults.
pub(crate) struct Fields<'a> {
    map: &'a Map<String, Value>,
    path: String,
}

impl<'a> Fields<'a> {
    pub(crate) fn root(map: &'a Map<String, Value>) -> Self {
        Self { map, path: String::new() }
    }

    /// The object `value`, which stands at `path`.
    pub(crate) fn at(value: &'a Value, path: String) -> Result<Self, Fault> {
        match value {
            Value::Object(map) => Ok(Self { map, path: format!("{path}.") }),
            other => Err(mistyped(path, "an object", other)),
        }
    }

    pub(crate) fn name(&self, field: &str) -> String {
        format!("{}{field}", self.path)
    }

    pub(crate) fn get(&self, field: &str) -> Option<&'a Value> {
        self.map.get(field).filter(|value| !value.is_null())
    }

    pub(crate) fn need(&self, field: &str) -> Result<&'a Value, Fault> {
        self.map.get(field).ok_or_else(|| Fault::Missing { field: self.name(field) })
    }

    /// A string, which may be empty.
    pub(crate) fn text(&self, field: &str) -> Result<&'a str, Fault> {
        self.need(field)?.as_str().ok_or_else(|| mistyped(self.name(field), "a string", &self.map[field]))
    }

    /// A string that is not blank.
    pub(crate) fn filled(&self, field: &str) -> Result<&'a str, Fault> {
        let text = self.text(field)?;
        if text.trim().is_empty() { Err(Fault::Empty { field: self.name(field) }) } else { Ok(text) }
    }

    /// A string, where the field is there and not null.
    pub(crate) fn optional(&self, field: &str) -> Result<Option<&'a str>, Fault> {
        self.get(field).map(|_| self.text(field)).transpose()
    }

    pub(crate) fn integer(&self, field: &str) -> Result<i64, Fault> {
        let value = self.need(field)?;
        value.as_i64().ok_or_else(|| mistyped(self.name(field), "a whole number", value))
    }

    pub(crate) fn array(&self, field: &str) -> Result<&'a [Value], Fault> {
        let value = self.need(field)?;
        value.as_array().map(Vec::as_slice).ok_or_else(|| mistyped(self.name(field), "an array", value))
    }

    pub(crate) fn texts(&self, field: &str) -> Result<Vec<String>, Fault> {
        let texts = self.array(field)?.iter().enumerate().map(|(i, value)| {
            let text = value.as_str().map(str::to_owned);
            text.ok_or_else(|| mistyped(format!("{}[{i}]", self.name(field)), "a string", value))
        });
        texts.collect()
    }

    /// One of the values that a field may have.
    pub(crate) fn one_of<T>(
        &self,
        field: &str,
        parse: impl Fn(&str) -> Option<T>,
        expected: &str,
    ) -> Result<T, Fault> {
        let text = self.text(field)?;
        parse(text).ok_or_else(|| self.value(field, text, expected))
    }

    pub(crate) fn value(&self, field: &str, value: &str, expected: &str) -> Fault {
        let value = value.chars().take(SHOWN).collect();
        Fault::Value { field: self.name(field), value, expected: expected.to_owned() }
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.map.keys().take(20).map(|key| key.chars().take(SHOWN).collect()).collect()
    }
}

fn mistyped(field: String, expected: &str, got: &Value) -> Fault {
    Fault::Type { field, expected: expected.to_owned(), got: type_name(got).to_owned() }
}
