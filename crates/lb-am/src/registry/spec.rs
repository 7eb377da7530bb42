//! The one grammar of selections: a name and its arguments.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// A selector's name with arguments, as text: `name`, or `name:key=value,key=value`.
///
/// Inside another list of arguments it is written `name(key=value;key=value)`, which is read as well
/// ([`nested`](Self::nested)). Names consist of small letters, digits and hyphens, keys of small letters, digits and
/// underscores; either may stand for the other. A value is any text without blanks and without one of `,;:()=`.
///
/// ```
/// use lb_am::registry::Spec;
///
/// let spec: Spec = "snapkv:window=16,pool=5".parse()?;
/// assert_eq!(spec.to_string(), "snapkv:window=16,pool=5");
/// assert_eq!(spec.nested(), "snapkv(window=16;pool=5)");
/// assert_eq!(spec, spec.nested().parse()?);
/// # Ok::<(), lb_am::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Spec {
    name: String,
    arguments: Vec<(String, String)>,
}

impl Spec {
    /// A name without arguments.
    pub fn new(name: &str) -> Self {
        Self { name: name.replace('_', "-"), arguments: Vec::new() }
    }

    /// Adds an argument.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl fmt::Display) -> Self {
        self.arguments.push((key.replace('-', "_"), value.to_string()));
        self
    }

    /// Adds an argument that is not what it is without being said.
    #[must_use]
    pub fn with_unless<T: fmt::Display + PartialEq>(self, key: &str, value: T, usual: &T) -> Self {
        if value == *usual { self } else { self.with(key, value) }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Keys and values, in the order in which they were written.
    pub fn arguments(&self) -> &[(String, String)] {
        &self.arguments
    }

    /// As it stands inside another list of arguments.
    pub fn nested(&self) -> String {
        if self.arguments.is_empty() {
            return self.name.clone();
        }
        format!("{}({})", self.name, self.listed(";"))
    }

    fn listed(&self, between: &str) -> String {
        let each = self.arguments.iter().map(|(key, value)| format!("{key}={value}"));
        each.collect::<Vec<_>>().join(between)
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if self.arguments.is_empty() { Ok(()) } else { write!(f, ":{}", self.listed(",")) }
    }
}

impl FromStr for Spec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |reason| Error::SelectorText { text: text.to_owned(), reason };
        let trimmed = text.trim();
        let (name, arguments, between) = match (trimmed.strip_suffix(')'), trimmed.split_once(':')) {
            (Some(inner), _) => {
                let (name, arguments) =
                    inner.split_once('(').ok_or_else(|| wrong("has a parenthesis that nothing opens"))?;
                (name, Some(arguments), ';')
            }
            (None, Some((name, arguments))) => (name, Some(arguments), ','),
            (None, None) => (trimmed, None, ','),
        };
        let mut spec = Self::new(name.trim());
        if !is_word(&spec.name, '-') {
            return Err(wrong("has no name of small letters, digits and hyphens"));
        }
        for part in arguments.into_iter().flat_map(|arguments| arguments.split(between)) {
            let (key, value) =
                part.split_once('=').ok_or_else(|| wrong("wants each argument as key=value"))?;
            let (key, value) = (key.trim().replace('-', "_"), value.trim());
            if !is_word(&key, '_') || value.is_empty() || value.contains(is_mark) {
                return Err(wrong("has a key or a value that is none"));
            }
            if spec.arguments.iter().any(|(other, _)| *other == key) {
                return Err(wrong("wants each argument once"));
            }
            spec.arguments.push((key, value.to_owned()));
        }
        Ok(spec)
    }
}

pub(super) fn is_word(text: &str, joint: char) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == joint;
    !text.is_empty() && text.chars().all(fits)
}

fn is_mark(c: char) -> bool {
    ",;:()=".contains(c) || c.is_whitespace()
}

#[cfg(test)]
mod tests {
    use super::Spec;

    #[test]
    fn both_forms_are_read_and_printed() {
        for text in ["a", "a:b=1", "per-head:x_y=0.5,z=q"] {
            let spec: Spec = text.parse().unwrap();
            assert_eq!(spec.to_string(), text);
            assert_eq!(spec.nested().parse::<Spec>().unwrap(), spec);
        }
        assert_eq!(" per_head : x-y = 2 ".parse::<Spec>().unwrap().to_string(), "per-head:x_y=2");
        assert_eq!("omp( a=1 ; b=2 )".parse::<Spec>().unwrap().to_string(), "omp:a=1,b=2");
    }

    #[test]
    fn what_is_no_selection_is_refused() {
        for text in [
            "",
            ":",
            "a:",
            "a:b",
            "a:=1",
            "a:b=",
            "a:b=1,",
            "a:b=1,b=2",
            "A",
            "a b",
            "a)",
            "(b=1)",
            "a(b=1",
            "a(b=1,c=2)",
            "a:b=c=d",
            "a:b=1 2",
            "a:B=1",
        ] {
            assert!(text.parse::<Spec>().is_err(), "{text}");
        }
    }
}
