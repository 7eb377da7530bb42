//! States: texts of one form that come again and again, of which the difference says all.

use serde_json::{Map, Value};

/// A text as a state: what it is the state of, and its parts.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct State {
    /// Texts of one key are states of one thing.
    pub(super) key: String,
    body: Body,
}

#[derive(Clone, Debug, PartialEq)]
enum Body {
    /// JSON behind a heading.
    Object { heading: String, fields: Map<String, Value> },
    /// A page by its address.
    Page { lines: Vec<String> },
}

impl State {
    pub(super) fn is_object(&self) -> bool {
        matches!(self.body, Body::Object { .. })
    }

    /// What is other than in `before`, a state of the same key. Fields and lines that are gone are named.
    pub(super) fn since(&self, before: &Self) -> String {
        match (&self.body, &before.body) {
            (Body::Object { heading, fields }, Body::Object { fields: old, .. }) => {
                let mut changed = Map::new();
                differences(fields, old, "", &mut changed);
                let heading = heading.trim_end_matches(':').trim();
                let heading = if heading.is_empty() { "State" } else { heading };
                format!("{heading}, what changed: {}", Value::Object(changed))
            }
            (Body::Page { lines }, Body::Page { lines: old }) => {
                let known: std::collections::BTreeSet<&str> = old.iter().map(String::as_str).collect();
                let new: Vec<&str> =
                    lines.iter().map(String::as_str).filter(|line| !known.contains(line)).collect();
                let same = lines.len() - new.len();
                format!("{}\n({same} lines as before)", new.join("\n"))
            }
            _ => String::new(),
        }
    }
}

/// The leaves of `new` that are other than in `old`, by their path.
fn differences(new: &Map<String, Value>, old: &Map<String, Value>, path: &str, out: &mut Map<String, Value>) {
    let at = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    for (key, value) in new {
        match (value, old.get(key)) {
            (Value::Object(new), Some(Value::Object(old))) => differences(new, old, &at(key), out),
            (value, Some(before)) if value == before => {}
            (value, _) => {
                out.insert(at(key), value.clone());
            }
        }
    }
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        out.insert(at(key), Value::Null);
    }
}

/// The state that a text is, if it is one: a JSON object, alone or behind a heading of one line; a report of a page
/// (`[title](address)` in its first lines).
pub(super) fn of(text: &str) -> Option<State> {
    let text = text.trim();
    let (heading, rest) = match text.split_once('\n') {
        Some((first, rest)) if first.trim_end().ends_with(':') => (first.trim(), rest.trim()),
        _ => ("", text),
    };
    if rest.starts_with('{')
        && let Ok(Value::Object(fields)) = serde_json::from_str(rest)
        && !fields.is_empty()
    {
        let mut keys: Vec<&str> = fields.keys().map(String::as_str).collect();
        keys.sort_unstable();
        let key = format!("{heading} {{{}}}", keys.join(","));
        return Some(State { key, body: Body::Object { heading: heading.to_owned(), fields } });
    }
    let address = text.lines().take(4).find_map(address)?;
    let lines = text.lines().map(|line| line.trim_end().to_owned()).collect();
    Some(State { key: address.to_owned(), body: Body::Page { lines } })
}

/// The address of the first link of a line that reports a page, without what follows `?` or `#`.
fn address(line: &str) -> Option<&str> {
    let from = line.find("](http")? + 2;
    let rest = &line[from..];
    let end = rest.find(')')?;
    rest[..end].split(['?', '#']).next()
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn a_ledger_is_shown_as_what_changed() {
        let before =
            of("Updated Ledger:\n{\"a\": {\"reason\": \"x\", \"answer\": false}, \"b\": 1, \"c\": 2}")
                .unwrap();
        let after =
            of("Updated Ledger:\n{\"a\": {\"reason\": \"y\", \"answer\": false}, \"b\": 1, \"c\": 3}")
                .unwrap();
        assert_eq!(before.key, after.key);
        assert_eq!(after.since(&before), "Updated Ledger, what changed: {\"a.reason\":\"y\",\"c\":3}");
        let other = of("Updated Ledger:\n{\"a\": 1}").unwrap();
        assert_ne!(other.key, before.key);
    }

    #[test]
    fn a_page_is_the_same_whatever_was_searched_in_it() {
        let page = |query: &str, line: &str| {
            of(&format!("I clicked.\n\nHere is [T](https://t.org/a?q={query}).\n{line}\nthe same")).unwrap()
        };
        let (before, after) = (page("1", "old"), page("2", "new"));
        assert_eq!(before.key, after.key);
        let changed = after.since(&before);
        assert!(
            changed.contains("new") && !changed.contains("old") && !changed.contains("the same"),
            "{changed}"
        );
        assert!(of("no page, [1] and (2)").is_none() && of("{\"torn\": ").is_none() && of("{}").is_none());
    }
}
