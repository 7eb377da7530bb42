//! Jinja as transformers sets it up.

use std::time::SystemTime;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};

use super::bounded::{Fault, Fuel, check_size, guarded, new_prefix, on_stack};
use super::{generation, json, strftime};

const NAME: &str = "chat";

/// Instructions that any rendering may take.
const FUEL: u64 = 5_000_000;
/// Those for each message and tool; real templates take about a thousand.
const FUEL_PER_ITEM: u64 = 50_000;

/// How much there is to render.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Load {
    /// Messages and tools.
    pub(super) items: usize,
    /// Bytes of their text, and of the variables'.
    pub(super) bytes: usize,
}

/// Parses `source`.
pub(super) fn check(source: &str) -> crate::Result<()> {
    bounded(|| environment(source, None, Load::default()).map(drop))
}

/// Renders `source` with the variables of `context`. `now` is what `strftime_now` tells.
pub(super) fn render(
    source: &str,
    now: Option<SystemTime>,
    context: Value,
    load: Load,
) -> crate::Result<String> {
    bounded(|| {
        let env = environment(source, now, load)?;
        env.get_template(NAME).and_then(|template| template.render(context)).map_err(|e| described(&e))
    })
}

fn bounded<T: Send>(work: impl FnOnce() -> crate::Result<T> + Send) -> crate::Result<T> {
    on_stack(work).unwrap_or_else(|error| Err(crate::Error::template(&format!("no thread: {error}"))))
}

/// With the line, and the errors behind it.
fn described(error: &Error) -> crate::Error {
    crate::Error::template(&format!("{error:#}"))
}

fn environment(source: &str, now: Option<SystemTime>, load: Load) -> crate::Result<Environment<'static>> {
    check_size(source).map_err(|fault| crate::Error::template(&fault.to_string()))?;
    let source = generation::as_scopes(source);
    let prefix = new_prefix();
    let guarded = match guarded(&source, &prefix) {
        Ok(guarded) => guarded,
        // The language's own parser says it with the line.
        Err(Fault::Odd) => {
            let parsed = language(now).and_then(|mut env| env.add_template(NAME, &source).map(drop));
            return Err(match parsed {
                Err(error) => described(&error),
                Ok(()) => crate::Error::template(&Fault::Odd.to_string()),
            });
        }
        Err(fault) => return Err(crate::Error::template(&fault.to_string())),
    };
    let fuel = Fuel::new(load.items, load.bytes, guarded.text, &prefix);
    let prepared = language(now).and_then(|mut env| {
        env.set_fuel(Some(FUEL.saturating_add(FUEL_PER_ITEM.saturating_mul(load.items as u64))));
        keep_account(&mut env, &fuel);
        env.add_template_owned(NAME, guarded.source)?;
        Ok(env)
    });
    prepared.map_err(|e| described(&e))
}

/// Puts an account before whatever makes text.
fn keep_account(env: &mut Environment<'_>, fuel: &Fuel) {
    fuel.install(env);
    let account = fuel.clone();
    env.set_unknown_method_callback(move |state, value, method, args| {
        if value.as_str().is_some() {
            let times = MAKING.iter().find(|(name, _)| *name == method).map_or(1, |(_, times)| *times);
            account.asked(method, &[std::slice::from_ref(value), args].concat(), times)?;
        }
        python_method(state, value, method, args)
    });
    let account = fuel.clone();
    env.set_formatter(move |out, state, value| {
        account.spend_on(value, 1)?;
        match float(value) {
            Some(float) => minijinja::escape_formatter(out, state, &Value::from(float)),
            None => minijinja::escape_formatter(out, state, value),
        }
    });
    let account = fuel.clone();
    env.add_filter("tojson", move |value: &Value, options: Kwargs| {
        account.spend_on(value, json::most_bytes_of_one(&options))?;
        json::tojson(value, options)
    });
    let account = fuel.clone();
    env.add_filter("trim", move |value: &Value, chars: Option<String>| {
        account.spend_on(value, 1)?;
        Ok(trim(value, chars))
    });
    let account = fuel.clone();
    env.add_filter("string", move |value: &Value| {
        account.spend_on(value, 1)?;
        Ok(if value.is_undefined() {
            Value::from("")
        } else {
            Value::from(float(value).unwrap_or_else(|| value.to_string()))
        })
    });
}

/// Methods of strings that make more of them than one text of the same length: how much more.
const MAKING: [(&str, usize); 7] = [
    ("partition", 4),
    ("rpartition", 4),
    ("rsplit", 32),
    ("split", 32),
    ("splitlines", 32),
    ("title", 3),
    ("upper", 3),
];

fn language(now: Option<SystemTime>) -> Result<Environment<'static>, Error> {
    let mut env = Environment::new();
    env.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    env.add_filter("length", length);
    env.add_filter("count", length);
    env.add_function("strftime_now", move |format: &str| {
        strftime::format(now.unwrap_or_else(SystemTime::now), format).ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidOperation,
                format!("strftime_now does not know the format {format:?}"),
            )
        })
    });
    // A string and a mapping have a length and take an index, which is all that Jinja2 asks of a sequence.
    env.add_test("sequence", |value: &Value| {
        value.is_undefined() || matches!(value.kind(), ValueKind::Seq | ValueKind::String | ValueKind::Map)
    });
    env.add_test("iterable", |value: &Value| value.kind() == ValueKind::String || value.try_iter().is_ok());
    Ok(env)
}

/// How Python writes a number with a fraction, which is not how Rust does for large and small ones.
fn float(value: &Value) -> Option<String> {
    let is_float = value.kind() == ValueKind::Number && !value.is_integer();
    let float = f64::try_from(value.clone()).ok().filter(|float| is_float && float.is_finite())?;
    Some(json::python_float(float))
}

/// What Python's `str.strip` takes for white space: four control characters more than Unicode does.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

fn trim(value: &Value, chars: Option<String>) -> Value {
    let text = value.to_string();
    let chars: Option<Vec<char>> = chars.map(|chars| chars.chars().collect());
    Value::from(text.trim_matches(|c| chars.as_ref().map_or_else(|| is_space(c), |chars| chars.contains(&c))))
}

/// Undefined values have no items.
fn length(value: &Value) -> Result<usize, Error> {
    if value.is_undefined() {
        return Ok(0);
    }
    value.len().ok_or_else(|| {
        Error::new(ErrorKind::InvalidOperation, format!("a value of type {} has no length", value.kind()))
    })
}

/// Methods of Python's strings, lists and dictionaries.
fn python_method(state: &mut State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    if let Some(text) = value.as_str()
        && let Some(result) = string_method(text, method, args)?
    {
        return Ok(result);
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args)
}

/// The methods of strings that pycompat lacks or has without Python's rules.
fn string_method(text: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let pair = |split: Option<(&str, &str)>, otherwise: [&str; 2], separator: &str| {
        let (head, tail) = split.unwrap_or((otherwise[0], otherwise[1]));
        let middle = if split.is_some() { separator } else { "" };
        [head, middle, tail].into_iter().map(Value::from).collect::<Value>()
    };
    Ok(Some(match (method, args) {
        ("strip", []) => Value::from(text.trim_matches(is_space)),
        ("lstrip", []) => Value::from(text.trim_start_matches(is_space)),
        ("rstrip", []) => Value::from(text.trim_end_matches(is_space)),
        ("removeprefix", [prefix]) => {
            let prefix = prefix.as_str().unwrap_or_default();
            Value::from(text.strip_prefix(prefix).unwrap_or(text))
        }
        ("removesuffix", [suffix]) => {
            let suffix = suffix.as_str().unwrap_or_default();
            Value::from(text.strip_suffix(suffix).unwrap_or(text))
        }
        ("partition", [separator]) => {
            let separator = separator_of(separator)?;
            pair(text.split_once(separator), [text, ""], separator)
        }
        ("rpartition", [separator]) => {
            let separator = separator_of(separator)?;
            pair(text.rsplit_once(separator), ["", text], separator)
        }
        ("split", [separator, ..]) if separator.as_str().is_some() => {
            split(text, separator_of(separator)?, &args[1..])?
        }
        ("rsplit", [separator, ..]) => rsplit(text, separator_of(separator)?, &args[1..])?,
        _ => return Ok(None),
    }))
}

fn separator_of(value: &Value) -> Result<&str, Error> {
    match value.as_str() {
        Some(separator) if !separator.is_empty() => Ok(separator),
        _ => Err(Error::new(ErrorKind::InvalidOperation, "the separator is not a string, or empty")),
    }
}

fn split(text: &str, separator: &str, rest: &[Value]) -> Result<Value, Error> {
    Ok(match max_splits(rest)? {
        Some(max) => text.splitn(max + 1, separator).map(Value::from).collect(),
        None => text.split(separator).map(Value::from).collect(),
    })
}

fn rsplit(text: &str, separator: &str, rest: &[Value]) -> Result<Value, Error> {
    let mut parts: Vec<&str> = match max_splits(rest)? {
        Some(max) => text.rsplitn(max + 1, separator).collect(),
        None => text.rsplit(separator).collect(),
    };
    parts.reverse();
    Ok(parts.into_iter().map(Value::from).collect())
}

/// `maxsplit`, by position or by name; negative means no limit.
fn max_splits(rest: &[Value]) -> Result<Option<usize>, Error> {
    let [value] = rest else {
        return if rest.is_empty() { Ok(None) } else { Err(Error::from(ErrorKind::TooManyArguments)) };
    };
    let value = match value.kind() {
        ValueKind::Map => value.get_attr("maxsplit")?,
        _ => value.clone(),
    };
    let max = i64::try_from(value)?;
    Ok(usize::try_from(max).ok().map(|max| max.min(usize::MAX - 1)))
}
