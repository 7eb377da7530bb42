//! `tojson` as templates expect it: Python's `json.dumps`.

use std::fmt::Write;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};
use serde_json::Value as Json;

struct Style {
    indent: Option<String>,
    ensure_ascii: bool,
    item: String,
    key: String,
    sort_keys: bool,
}

/// The filter. Accepts `ensure_ascii`, `indent`, `separators` and `sort_keys`.
#[allow(clippy::needless_pass_by_value, reason = "the signature that a filter has")]
pub(super) fn tojson(value: &Value, options: Kwargs) -> Result<Value, Error> {
    if value.is_undefined() {
        return Err(Error::new(ErrorKind::UndefinedError, "an undefined value has no JSON"));
    }
    let style = Style::new(&options)?;
    let json = serde_json::to_value(value)
        .map_err(|e| Error::new(ErrorKind::BadSerialization, "cannot serialise to JSON").with_source(e))?;
    let mut out = String::new();
    style.write(&mut out, &json, 0);
    Ok(Value::from(out))
}

/// As many bytes as one byte of a value, or one of its items, may become at most with these options.
pub(super) fn most_bytes_of_one(options: &Kwargs) -> usize {
    // A control character is six, and lists within lists are indented.
    const ESCAPED: usize = 6;
    const INDENTED: usize = 8;
    let length = |name: &str| match options.peek::<Value>(name) {
        Ok(value) => value.as_str().map_or_else(|| value.as_usize().unwrap_or_default().min(64), str::len),
        Err(_) => 0,
    };
    let separators = match options.peek::<Option<Vec<String>>>("separators") {
        Ok(Some(pair)) => pair.iter().map(String::len).sum(),
        _ => 0,
    };
    ESCAPED.saturating_add(length("indent").saturating_mul(INDENTED)).saturating_add(separators)
}

impl Style {
    fn new(options: &Kwargs) -> Result<Self, Error> {
        let indent = match options.get::<Option<Value>>("indent")? {
            None => None,
            Some(value) if value.kind() == ValueKind::String => {
                Some(value.as_str().unwrap_or_default().to_string())
            }
            Some(value) => {
                let width = usize::try_from(value)?;
                if width > 64 {
                    return Err(Error::new(ErrorKind::InvalidOperation, "indent is more than 64"));
                }
                Some(" ".repeat(width))
            }
        };
        let ensure_ascii = options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
        let sort_keys = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
        let separators = options.get::<Option<Vec<String>>>("separators")?;
        options.assert_all_used()?;
        let (item, key) = match separators {
            Some(pair) => {
                let [item, key] = <[String; 2]>::try_from(pair).map_err(|_| {
                    Error::new(ErrorKind::InvalidOperation, "separators are a pair of strings")
                })?;
                (item, key)
            }
            None => ((if indent.is_some() { "," } else { ", " }).to_string(), ": ".to_string()),
        };
        Ok(Self { indent, ensure_ascii, item, key, sort_keys })
    }

    fn write(&self, out: &mut String, value: &Json, depth: usize) {
        match value {
            Json::Null => out.push_str("null"),
            Json::Bool(true) => out.push_str("true"),
            Json::Bool(false) => out.push_str("false"),
            Json::Number(number) => match number.as_f64() {
                Some(float) if number.is_f64() => out.push_str(&python_float(float)),
                _ => out.push_str(&number.to_string()),
            },
            Json::String(text) => self.write_string(out, text),
            Json::Array(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    self.separate(out, index, depth);
                    self.write(out, item, depth + 1);
                }
                self.close(out, items.is_empty(), depth, ']');
            }
            Json::Object(map) => {
                out.push('{');
                let mut entries: Vec<(&String, &Json)> = map.iter().collect();
                if self.sort_keys {
                    entries.sort_by_key(|(key, _)| *key);
                }
                for (index, (key, item)) in entries.into_iter().enumerate() {
                    self.separate(out, index, depth);
                    self.write_string(out, key);
                    out.push_str(&self.key);
                    self.write(out, item, depth + 1);
                }
                self.close(out, map.is_empty(), depth, '}');
            }
        }
    }

    fn separate(&self, out: &mut String, index: usize, depth: usize) {
        if index > 0 {
            out.push_str(&self.item);
        }
        self.new_line(out, depth + 1);
    }

    fn close(&self, out: &mut String, empty: bool, depth: usize, bracket: char) {
        if !empty {
            self.new_line(out, depth);
        }
        out.push(bracket);
    }

    fn new_line(&self, out: &mut String, depth: usize) {
        if let Some(indent) = &self.indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(indent.as_str(), depth));
        }
    }

    fn write_string(&self, out: &mut String, text: &str) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                c if c < ' '
                    || (self.ensure_ascii && !c.is_ascii())
                    || (self.ensure_ascii && c == '\u{7f}') =>
                {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        // Writing to a string does not fail.
                        let _ = write!(out, "\\u{unit:04x}");
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

/// The shortest digits that give the number back, with Python's rule for when an exponent is written.
pub(super) fn python_float(value: f64) -> String {
    let scientific = format!("{value:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = format!("{value}");
        return if plain.contains('.') { plain } else { format!("{plain}.0") };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}
