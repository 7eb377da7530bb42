//! `~` and variables in paths from the environment, as Python's `os.path.expanduser` and `expandvars` read them.
//!
//! Python leaves alone what it cannot expand, which ends as a folder called `~` or `$HOME`. Here that is an error.

use std::path::PathBuf;

/// Whose rules count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    #[cfg_attr(windows, allow(dead_code, reason = "for tests"))]
    Posix,
    #[cfg_attr(not(windows), allow(dead_code, reason = "for tests"))]
    Windows,
}

/// What paths may name.
pub(super) trait Names {
    fn variable(&self, name: &str) -> Option<String>;
    /// The home of a user, of the current one for `None`.
    fn home(&self, user: Option<&str>) -> Option<String>;
}

/// The names of this process.
pub(super) struct Process;

impl Names for Process {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn home(&self, user: Option<&str>) -> Option<String> {
        let own =
            || std::env::home_dir()?.into_os_string().into_string().ok().filter(|home| !home.is_empty());
        let Some(user) = user else { return own() };
        if cfg!(windows) {
            // Homes lie beside each other.
            let beside = PathBuf::from(own()?).with_file_name(user);
            return beside.is_dir().then(|| beside.into_os_string().into_string().ok()).flatten();
        }
        let users = std::fs::read_to_string("/etc/passwd").ok()?;
        users.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            (fields.first() == Some(&user)).then(|| fields.get(5).map(ToString::to_string)).flatten()
        })
    }
}

pub(super) const STYLE: Style = if cfg!(windows) { Style::Windows } else { Style::Posix };

/// The path that `text` means, or why it means none.
pub(super) fn expand(text: &str, style: Style, names: &dyn Names) -> Result<String, String> {
    variables(&user(text, style, names)?, style, names)
}

/// `~` and `~user` at the beginning.
fn user(text: &str, style: Style, names: &dyn Names) -> Result<String, String> {
    let Some(rest) = text.strip_prefix('~') else { return Ok(text.to_string()) };
    let is_separator = |c: char| c == '/' || (style == Style::Windows && c == '\\');
    let (user, path) = rest.split_at(rest.find(is_separator).unwrap_or(rest.len()));
    let home = names.home(Some(user).filter(|user| !user.is_empty()));
    let home = home.ok_or_else(|| match user {
        "" => "no home folder is known for `~`".to_string(),
        user => format!("`~{user}` names no user of this machine"),
    })?;
    Ok(home.trim_end_matches(is_separator).to_string() + path)
}

fn variables(text: &str, style: Style, names: &dyn Names) -> Result<String, String> {
    let windows = style == Style::Windows;
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let behind = &rest[c.len_utf8()..];
        let (name, after) = match c {
            // Windows quotes with ', and doubles what stands for itself.
            '\'' if windows => {
                let end = behind.find('\'').map_or(rest.len(), |at| at + 2);
                out.push_str(&rest[..end]);
                rest = &rest[end..];
                continue;
            }
            '$' | '%' if windows && behind.starts_with(c) => {
                out.push(c);
                rest = &behind[1..];
                continue;
            }
            '%' if windows => {
                behind.split_once('%').map_or((None, behind), |(name, after)| (Some(name), after))
            }
            '$' => dollar(behind, windows),
            _ => (None, behind),
        };
        match name {
            None => {
                out.push(c);
                rest = behind;
            }
            Some(name) => {
                let value = names.variable(name);
                out += &value.ok_or_else(|| format!("it names the variable `{name}`, which is not set"))?;
                rest = after;
            }
        }
    }
    Ok(out)
}

/// The name behind a `$`, and what follows it.
fn dollar(text: &str, windows: bool) -> (Option<&str>, &str) {
    if let Some((name, after)) = text.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
        return (Some(name), after);
    }
    let part_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || (windows && c == '-');
    let (name, after) = text.split_at(text.find(|c| !part_of_name(c)).unwrap_or(text.len()));
    (Some(name).filter(|name| !name.is_empty()), after)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed;

    impl Names for Fixed {
        fn variable(&self, name: &str) -> Option<String> {
            let known =
                [("HOME", "/home/ada"), ("USER", "ada"), ("A-B", "dash"), ("EMPTY", ""), ("X", "$USER")];
            known.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string())
        }

        fn home(&self, user: Option<&str>) -> Option<String> {
            match user {
                None => Some("/home/ada".to_string()),
                Some("bob") => Some("/srv/bob/".to_string()),
                Some(_) => None,
            }
        }
    }

    /// Each right value is what Python 3.11 gives with these variables and users.
    #[test]
    fn paths_are_expanded_as_python_does() {
        for (text, posix, windows) in [
            ("~", "/home/ada", "/home/ada"),
            ("~/hub", "/home/ada/hub", "/home/ada/hub"),
            ("~\\hub", "", "/home/ada\\hub"),
            ("~bob/hub", "/srv/bob/hub", "/srv/bob/hub"),
            ("/a/~/b", "/a/~/b", "/a/~/b"),
            ("$HOME/x", "/home/ada/x", "/home/ada/x"),
            ("${HOME}x", "/home/adax", "/home/adax"),
            ("/data/$USER-hub", "/data/ada-hub", ""),
            ("/$A-B/x", "", "/dash/x"),
            ("%USER%\\x", "%USER%\\x", "ada\\x"),
            ("a$EMPTY/b", "a/b", "a/b"),
            ("$X", "$USER", "$USER"),
            ("cost$", "cost$", "cost$"),
            ("a$/b", "a$/b", "a$/b"),
            ("${HOME", "${HOME", "${HOME"),
            ("50%", "50%", "50%"),
            ("$$USER", "$ada", "$USER"),
            ("%%USER%%", "%%USER%%", "%USER%"),
            ("'$USER'/x", "'ada'/x", "'$USER'/x"),
            ("/plain/päth", "/plain/päth", "/plain/päth"),
        ] {
            for (style, expected) in [(Style::Posix, posix), (Style::Windows, windows)] {
                if !expected.is_empty() {
                    assert_eq!(expand(text, style, &Fixed).as_deref(), Ok(expected), "{text} {style:?}");
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_expanded_is_named() {
        for (text, style, word) in [
            ("~eve/x", Style::Posix, "`~eve`"),
            ("$NOPE/x", Style::Posix, "`NOPE`"),
            ("${NOPE}/x", Style::Windows, "`NOPE`"),
            ("%NOPE%/x", Style::Windows, "`NOPE`"),
            ("~\\hub", Style::Posix, "no user"),
        ] {
            let reason = expand(text, style, &Fixed).unwrap_err();
            assert!(reason.contains(word), "{text}: {reason}");
        }
    }
}
