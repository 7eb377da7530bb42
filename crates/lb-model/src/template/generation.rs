//! `{% generation %}`, the tag with which templates mark what the assistant wrote.

use std::borrow::Cow;

/// The template with `generation` blocks written as scopes of the language, which is what they are when nobody asks
/// for the assistant's tokens. Comments and raw blocks stay as they are.
pub(super) fn as_scopes(source: &str) -> Cow<'_, str> {
    if !source.contains("generation") {
        return Cow::Borrowed(source);
    }
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    let mut raw = false;
    let opens = |at: &usize, text: &str| text[*at..].starts_with("{%") || text[*at..].starts_with("{#");
    while let Some(open) = rest.match_indices('{').map(|(at, _)| at).find(|at| opens(at, rest)) {
        let close = if rest[open..].starts_with("{#") { "#}" } else { "%}" };
        // Behind the opening: in `{%}` its own sign closes nothing.
        let Some(length) = rest[open + 2..].find(close) else { break };
        let end = open + 2 + length + close.len();
        let tag = &rest[open..end];
        out.push_str(&rest[..open]);
        let name = if close == "%}" { inner(tag) } else { "" };
        match name {
            "raw" => raw = true,
            "endraw" => raw = false,
            _ => {}
        }
        match name {
            "generation" if !raw => out.push_str(&tag.replacen("generation", "with", 1)),
            "endgeneration" if !raw => out.push_str(&tag.replacen("endgeneration", "endwith", 1)),
            _ => out.push_str(tag),
        }
        rest = &rest[end..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// What a tag says, without its whitespace control.
fn inner(tag: &str) -> &str {
    let inner = &tag[2..tag.len() - 2];
    let inner = inner.strip_prefix(['-', '+']).unwrap_or(inner);
    inner.strip_suffix(['-', '+']).unwrap_or(inner).trim()
}
