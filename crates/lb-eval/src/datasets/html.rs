//! Articles that come as HTML, as text.

/// Whether a text has tags of paragraphs or line breaks.
pub(super) fn is_html(text: &str) -> bool {
    ["<p>", "<p ", "<br", "</p>", "<html"].iter().any(|tag| text.contains(tag))
}

/// The text without tags; paragraphs and line breaks become line ends, the usual entities their characters.
pub(super) fn strip(html: &str) -> String {
    let mut text = String::with_capacity(html.len());
    let mut rest = html;
    while let Some(open) = rest.find('<') {
        text.push_str(&rest[..open]);
        let tail = &rest[open..];
        let begins_tag = tail[1..].starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '!');
        if let Some(close) = tail.find('>').filter(|_| begins_tag) {
            let name = tail[1..close].trim_start_matches('/');
            let name = name.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
            if matches!(name.to_ascii_lowercase().as_str(), "p" | "br" | "div" | "li" | "tr" | "h1" | "h2") {
                text.push('\n');
            }
            rest = &tail[close + 1..];
        } else {
            text.push('<');
            rest = &tail[1..];
        }
    }
    text.push_str(rest);
    tidy(&entities(&text))
}

fn entities(text: &str) -> String {
    let mut out = text.to_owned();
    for (entity, character) in
        [("&nbsp;", " "), ("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&mdash;", "—")]
    {
        if out.contains(entity) {
            out = out.replace(entity, character);
        }
    }
    // Last, so that `&amp;lt;` stays `&lt;`.
    out.replace("&amp;", "&")
}

/// White space within lines is one space; empty lines come one at a time.
fn tidy(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let before = out.len();
        for word in line.split_whitespace() {
            if out.len() > before {
                out.push(' ');
            }
            out.push_str(word);
        }
        if out.len() > before || !(out.is_empty() || out.ends_with("\n\n")) {
            out.push('\n');
        }
    }
    out.truncate(out.trim_end().len());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_go_and_text_stays() {
        assert!(is_html("a<br/>b") && !is_html("1 < 2 and 3 > 2"));
        let html = "<p>One &amp; two<br/>three</p> <p class=\"x\">4 < 5 &amp;lt; <b>six</b></p><!-- no -->";
        assert_eq!(strip(html), "One & two\nthree\n\n4 < 5 &lt; six");
        assert_eq!(strip("cut <p"), "cut <p");
    }
}
