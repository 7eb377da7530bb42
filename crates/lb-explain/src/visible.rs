//! Text from elsewhere, made harmless to look at.

pub(super) use lb_io::shown::visible;

/// At most about `most` characters of `text`: of a longer one its beginning and its end, with a line in between that
/// says how much is not shown.
pub(super) fn clip(text: &str, most: usize) -> String {
    let text = text.trim_matches('\n');
    let chars = text.chars().count();
    if chars <= most {
        return visible(text);
    }
    let (first, last) = (most - most / 4, most / 4);
    let head: String = text.chars().take(first).collect();
    let tail: String = text.chars().skip(chars - last).collect();
    let left_out = super::figures::count(chars - first - last);
    format!("{}\n… {left_out} characters are not shown …\n{}", visible(&head), visible(&tail))
}

/// The beginning of `text` in one line of at most `most` characters.
pub(super) fn short(text: &str, most: usize) -> String {
    // Four times as much as is shown is enough to find it, however much white space there is, or nearly so.
    let beginning: String = text.trim_start().chars().take(most.saturating_mul(4)).collect();
    let line = visible(&beginning).split_whitespace().collect::<Vec<_>>().join(" ");
    let whole = beginning.len() == text.trim_start().len();
    if whole && line.chars().count() <= most {
        return line;
    }
    let cut: String = line.chars().take(most.saturating_sub(1)).collect();
    format!("{}…", cut.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_keeps_its_beginning_and_its_end() {
        let text: String = (0..1000).map(|i| char::from(b'a' + (i % 26) as u8)).collect();
        let clipped = clip(&text, 100);
        assert!(
            clipped.starts_with("abc") && clipped.ends_with("jkl") && clipped.contains("… 900 characters")
        );
        assert_eq!(clip("short", 5), "short");
    }

    #[test]
    fn a_short_text_is_one_line() {
        assert_eq!(short("  two\n words ", 20), "two words");
        assert_eq!(short("two words", 5), "two…");
        assert_eq!(short("", 5), "");
        assert!(short(&" ".repeat(1 << 20), 5).chars().count() <= 5);
    }
}
