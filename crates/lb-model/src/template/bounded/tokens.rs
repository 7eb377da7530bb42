//! The blocks of a template and their tokens: as much of Jinja's lexer as it takes to find its operators.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Name,
    Number,
    Text,
    Sign,
}

/// A token and where it stands in the source.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a str,
    pub(super) start: usize,
}

impl Token<'_> {
    pub(super) fn end(&self) -> usize {
        self.start + self.text.len()
    }

    pub(super) fn is_name(&self, name: &str) -> bool {
        self.kind == Kind::Name && self.text == name
    }

    pub(super) fn is_sign(&self, sign: &str) -> bool {
        self.kind == Kind::Sign && self.text == sign
    }
}

/// `{{ ... }}` or `{% ... %}`.
#[derive(Debug)]
pub(super) struct Block<'a> {
    /// Whether it is a statement.
    pub(super) statement: bool,
    pub(super) tokens: Vec<Token<'a>>,
    /// Bytes from its first brace to its last.
    pub(super) bytes: usize,
}

/// A template, taken apart.
#[derive(Debug, Default)]
pub(super) struct Blocks<'a> {
    pub(super) blocks: Vec<Block<'a>>,
    /// Bytes outside of blocks.
    pub(super) text: usize,
}

/// Takes a template apart. None where it cannot be: an end is missing, or a sign is none of the language.
pub(super) fn blocks(source: &str) -> Option<Blocks<'_>> {
    let mut all = Blocks::default();
    let mut at = 0;
    while let Some(open) = opening(source, at) {
        all.text += open - at;
        if source[open..].starts_with("{#") {
            at = open + 2 + source[open + 2..].find("#}")? + 2;
            continue;
        }
        let statement = source[open..].starts_with("{%");
        let (tokens, end) = block(source, open + 2, if statement { "%}" } else { "}}" })?;
        at = end;
        if statement && matches!(tokens[..], [only] if only.is_name("raw")) {
            let after = end_of_raw(source, end)?;
            all.text += after - end;
            at = after;
            continue;
        }
        all.blocks.push(Block { statement, tokens, bytes: end - open });
    }
    all.text += source.len() - at;
    Some(all)
}

fn opening(source: &str, from: usize) -> Option<usize> {
    let braces = source[from..].match_indices('{').map(|(at, _)| from + at);
    braces.into_iter().find(|at| ["{{", "{%", "{#"].iter().any(|open| source[*at..].starts_with(open)))
}

/// Behind `{% endraw %}`.
fn end_of_raw(source: &str, from: usize) -> Option<usize> {
    source[from..].match_indices("{%").find_map(|(at, _)| {
        let inner = source[from + at + 2..].trim_start_matches(['-', '+']).trim_start();
        let rest = inner.strip_prefix("endraw")?.trim_start().trim_start_matches(['-', '+']);
        let rest = rest.strip_prefix("%}")?;
        Some(source.len() - rest.len())
    })
}

/// Tokens from `at` to `close`, and where what follows begins.
fn block<'a>(source: &'a str, mut at: usize, close: &str) -> Option<(Vec<Token<'a>>, usize)> {
    let (mut tokens, mut depth): (Vec<Token<'_>>, usize) = (Vec::new(), 0);
    // White space is controlled by a sign at either end.
    if source[at..].starts_with(['-', '+']) {
        at += 1;
    }
    loop {
        at += source[at..].len() - source[at..].trim_start_matches(|c: char| c.is_ascii_whitespace()).len();
        let rest = &source[at..];
        if depth == 0 {
            if rest.starts_with(close) {
                return Some((tokens, at + 2));
            }
            if rest.starts_with(['-', '+']) && rest[1..].starts_with(close) {
                return Some((tokens, at + 3));
            }
        }
        let after_dot = tokens.last().is_some_and(|token| token.is_sign("."));
        let (kind, length) = token(rest, after_dot)?;
        let text = &rest[..length];
        match text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.checked_sub(1)?,
            _ => {}
        }
        tokens.push(Token { kind, text, start: at });
        at += length;
    }
}

fn token(rest: &str, after_dot: bool) -> Option<(Kind, usize)> {
    const PAIRS: [&str; 6] = ["**", "//", "==", "!=", "<=", ">="];
    let first = *rest.as_bytes().first()?;
    Some(match first {
        b'"' | b'\'' => (Kind::Text, quoted(rest)?),
        b'0'..=b'9' => (Kind::Number, number(rest, after_dot)),
        b'_' | b'a'..=b'z' | b'A'..=b'Z' => {
            (Kind::Name, run(rest, |c| c == b'_' || c.is_ascii_alphanumeric()))
        }
        _ if PAIRS.iter().any(|pair| rest.starts_with(pair)) => (Kind::Sign, 2),
        _ if b"+-*/%~|.,:;()[]{}=<>".contains(&first) => (Kind::Sign, 1),
        _ => return None,
    })
}

fn run(text: &str, holds: impl Fn(u8) -> bool) -> usize {
    text.bytes().take_while(|c| holds(*c)).count()
}

/// Bytes of a string with its quotes.
fn quoted(rest: &str) -> Option<usize> {
    let (quote, mut escaped) = (rest.as_bytes()[0], false);
    for (at, c) in rest.bytes().enumerate().skip(1) {
        match c {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            c if c == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// Bytes of a number. Behind a dot it is an index, which has no fraction.
fn number(rest: &str, after_dot: bool) -> usize {
    let digits = |text: &str| run(text, |c| c == b'_' || c.is_ascii_digit());
    let radix = rest.get(..2).is_some_and(|start| ["0b", "0B", "0o", "0O", "0x", "0X"].contains(&start));
    if radix {
        return 2 + run(&rest[2..], |c| c == b'_' || c.is_ascii_hexdigit());
    }
    let mut length = digits(rest);
    let begins = |text: &str| text.as_bytes().first().is_some_and(u8::is_ascii_digit);
    if !after_dot && rest[length..].starts_with('.') && begins(&rest[length + 1..]) {
        length += 1 + digits(&rest[length + 1..]);
    }
    if rest[length..].starts_with(['e', 'E']) {
        let exponent = &rest[length + 1..];
        let sign = usize::from(exponent.starts_with(['+', '-']));
        if begins(&exponent[sign..]) {
            length += 1 + sign + digits(&exponent[sign..]);
        }
    }
    length
}
