//! Just enough of Python's tokens to colour code.

use serde::Serialize;

/// A stretch of code of one colour.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Stretch {
    /// `kw`, `str`, `num`, `com`, `host`, or nothing.
    pub(super) class: &'static str,
    pub(super) text: String,
}

const KEYWORDS: &[&str] = &[
    "False", "None", "True", "and", "as", "assert", "break", "class", "continue", "def", "del", "elif",
    "else", "except", "finally", "for", "from", "global", "if", "import", "in", "is", "lambda", "nonlocal",
    "not", "or", "pass", "raise", "return", "try", "while", "with", "yield",
];

/// What a session knows besides Python.
const HOST: &[&str] = &[
    "SHOW_VARS",
    "answer",
    "context",
    "llm_query",
    "llm_query_batched",
    "note",
    "rlm_query",
    "rlm_query_batched",
];

/// Takes `code` apart; the texts, joined, are `code`. Whatever is no Python comes out without colour.
pub(super) fn colour(code: &str) -> Vec<Stretch> {
    let (mut out, mut rest): (Vec<Stretch>, &str) = (Vec::new(), code);
    while let Some(first) = rest.chars().next() {
        let (class, len) = next(rest, first);
        let (text, after) = rest.split_at(len.clamp(first.len_utf8(), rest.len()));
        match out.last_mut().filter(|last| last.class == class) {
            Some(last) => last.text.push_str(text),
            None => out.push(Stretch { class, text: text.to_owned() }),
        }
        rest = after;
    }
    out
}

/// The class of the next token, and its bytes.
fn next(rest: &str, first: char) -> (&'static str, usize) {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let until = |stop: fn(char) -> bool| rest.find(stop).unwrap_or(rest.len());
    match first {
        '#' => ("com", until(|c| c == '\n')),
        '"' | '\'' => ("str", string(rest)),
        c if c.is_ascii_digit() => ("num", until(|c| !(c.is_ascii_alphanumeric() || c == '.' || c == '_'))),
        c if word(c) => {
            let len = rest.find(|c| !word(c)).unwrap_or(rest.len());
            let (name, after) = rest.split_at(len);
            let prefix = len <= 2 && name.chars().all(|c| "rRbBfFuU".contains(c));
            match name {
                _ if prefix && after.starts_with(['"', '\'']) => ("str", len + string(after)),
                name if KEYWORDS.contains(&name) => ("kw", len),
                name if HOST.contains(&name) => ("host", len),
                _ => ("", len),
            }
        }
        c => ("", c.len_utf8()),
    }
}

/// Bytes of the string literal that `rest` begins with; one that is not closed goes to the end of its line, a triple one
/// to the end.
fn string(rest: &str) -> usize {
    let quote = &rest[..1];
    let triple = quote.repeat(3);
    let (open, long) = if rest.starts_with(&triple) { (triple.as_str(), true) } else { (quote, false) };
    let mut at = open.len();
    while let Some(c) = rest[at..].chars().next() {
        if rest[at..].starts_with(open) {
            return at + open.len();
        }
        if c == '\n' && !long {
            return at;
        }
        at += c.len_utf8();
        if c == '\\' {
            at += rest[at..].chars().next().map_or(0, char::len_utf8);
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(code: &str) -> Vec<(&'static str, String)> {
        let plain = |s: &Stretch| s.class.is_empty();
        colour(code).into_iter().filter(|s| !plain(s)).map(|s| (s.class, s.text)).collect()
    }

    #[test]
    fn tokens_get_their_class() {
        let found = classes("for x in f'a # {b}': # no 'str'\n    llm_query(\"\\\"\", 1_0.5e3)");
        let want = [
            ("kw", "for"),
            ("kw", "in"),
            ("str", "f'a # {b}'"),
            ("com", "# no 'str'"),
            ("host", "llm_query"),
            ("str", "\"\\\"\""),
            ("num", "1_0.5e3"),
        ];
        assert_eq!(found, want.map(|(class, text)| (class, text.to_owned())));
    }

    #[test]
    fn nothing_is_lost_of_text_that_is_no_python() {
        for code in ["'open", "'''open\n#", "'\\", "größe = '漢\\字", "<b>&\u{0}\"'\n\"", "0x", "r", "\\"]
        {
            assert_eq!(colour(code).into_iter().map(|s| s.text).collect::<String>(), code);
        }
    }
}
