//! Text from elsewhere, made harmless where it is shown: a terminal, Markdown, a table of figures.

use crate::secrets::masked;

/// A text for a terminal or a page: every character that would act instead of being seen (control characters, marks that
/// turn the direction of the text around, line separators) is shown by name, keys that are known are masked. Line breaks
/// and tabs stay.
pub fn visible(text: &str) -> String {
    let text = masked(text);
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' | '\t' => out.push(c),
            '\r' if chars.peek() == Some(&'\n') => {}
            c if c.is_control() => out.extend(c.escape_default()),
            c if acts(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

/// [`visible`] in one line.
pub fn visible_line(text: &str) -> String {
    visible(&text.replace(['\n', '\r', '\t'], " "))
}

/// A text within a line or a cell of Markdown: no HTML, no link or picture, no code, one line. Emphasis does no harm.
pub fn markdown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in visible_line(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\\' | '`' | '|' => out.extend(['\\', c]),
            // What makes a link of brackets.
            '(' | '[' | ':' if out.ends_with(']') => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}

/// A field of a file of comma-separated values. What a spreadsheet would take for a formula is text, and so is what a
/// terminal would act on.
pub fn csv(text: &str) -> String {
    let text = visible(text);
    let begins = text.trim_start().starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠']);
    let formula = (begins || text.starts_with(['\t', '\r'])) && text.parse::<f64>().is_err();
    let text = if formula { format!("'{text}") } else { text };
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

/// The beginning of a value for an error: 200 characters at most.
pub fn quoted(text: &str) -> String {
    beginning(text, 200)
}

/// What another library says is wrong, which may repeat the whole of what it read: 600 characters at most.
pub fn explained(reason: &dyn std::fmt::Display) -> String {
    beginning(&reason.to_string(), 600)
}

fn beginning(text: &str, most: usize) -> String {
    let mut chars = text.chars();
    let beginning: String = chars.by_ref().take(most).collect();
    if chars.next().is_none() { beginning } else { format!("{beginning}… ({} bytes)", text.len()) }
}

fn acts(c: char) -> bool {
    matches!(c,
        '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_is_shown_by_name() {
        assert_eq!(visible("a\u{0}b\u{1b}[2J\r\nc\td\re"), "a\\u{0}b\\u{1b}[2J\nc\td\\re");
        assert_eq!(visible("x\u{202e}y\u{2066}z\u{feff}"), "x\\u{202e}y\\u{2066}z\\u{feff}");
        assert_eq!(visible("größe 漢字 🙂"), "größe 漢字 🙂");
        assert_eq!(visible_line("a\nb\u{9b}31m"), "a b\\u{9b}31m");
    }

    #[test]
    fn markdown_has_no_links_and_no_html() {
        let text = "<img src=x> [b](c)\n`|d|` [e]: f";
        assert_eq!(markdown(text), "&lt;img src=x&gt; [b]\\(c) \\`\\|d\\|\\` [e]\\: f");
        assert_eq!(markdown("96.1 [95.0, 97.2]"), "96.1 [95.0, 97.2]");
    }

    #[test]
    fn fields_are_no_formulas() {
        for (text, field) in [
            ("=1+1", "'=1+1"),
            ("@x", "'@x"),
            ("-1.5", "-1.5"),
            ("-cmd|'/c calc'!A0", "'-cmd|'/c calc'!A0"),
            ("a,b", "\"a,b\""),
            ("=\"x\"", "\"'=\"\"x\"\"\""),
            ("plain", "plain"),
        ] {
            assert_eq!(csv(text), field);
        }
    }

    #[test]
    fn keys_that_are_known_are_masked() {
        crate::secrets::remember("sk-of-a-unit-test-1");
        assert_eq!(visible("it said sk-of-a-unit-test-1!"), "it said [hidden]!");
        assert_eq!(csv("sk-of-a-unit-test-1"), "[hidden]");
        // Too short to be told from words.
        crate::secrets::remember("word");
        assert_eq!(visible("word"), "word");
    }

    #[test]
    fn a_long_value_is_quoted_by_its_beginning() {
        assert_eq!(quoted("short"), "short");
        let long = quoted(&"x".repeat(1 << 20));
        assert!(long.chars().count() < 230 && long.ends_with("(1048576 bytes)"), "{long}");
    }
}
