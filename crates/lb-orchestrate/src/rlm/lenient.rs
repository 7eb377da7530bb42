//! What a small model's turn says, in whatever form it says it.

use super::protocol::{FinalMark, Reply};

/// Words after a fence's backticks that mark code to run.
const CODE: [&str; 7] = ["repl", "python", "python3", "py", "tool_code", "code", "tool"];
/// Calls that make a line code where there are no fences.
const CALLS: [&str; 8] = [
    "llm_query",
    "llm_query_batched",
    "rlm_query",
    "rlm_query_batched",
    "note",
    "print",
    "FINAL",
    "FINAL_VAR",
];
/// Beginnings of a line that says the answer, in small letters.
const ANSWERS: [&str; 3] = ["final answer:", "final answer is", "the final answer is"];

/// A reply, and how much of it the conversation keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) reply: Reply,
    /// Bytes up to the end of the block that runs; everything where none does.
    pub(super) kept: usize,
}

/// Takes a turn apart: its first block, else lines that are calls, else a line that says the answer. `whole`: the model
/// ended its turn itself, so that a block without its closing fence is all of it.
pub(super) fn read(text: &str, whole: bool) -> Read {
    fenced(text, whole).or_else(|| bare(text)).unwrap_or_else(|| {
        let reply = Reply { prose: text.trim().to_owned(), final_mark: mark(text), ..Reply::default() };
        Read { reply, kept: text.len() }
    })
}

/// The first fenced block that is code.
fn fenced(text: &str, whole: bool) -> Option<Read> {
    let (mut offset, mut lines) = (0, text.split_inclusive('\n'));
    let mut prose = String::new();
    while let Some(line) = lines.next() {
        offset += line.len();
        let Some(info) = line.trim().strip_prefix("```") else {
            prose.push_str(line);
            continue;
        };
        let (code, kept, closed) = block(&text[offset..]);
        // Code may stand on the line of the fence itself.
        let (word, first) = info.trim().split_once(char::is_whitespace).unwrap_or((info.trim(), ""));
        let marked = CODE.contains(&word.to_lowercase().as_str());
        let first = if marked { first.trim() } else { "" };
        if let Some(code) = first.strip_suffix("```") {
            return Some(Read { reply: ran(code.trim(), &prose), kept: offset });
        }
        if marked || (word.is_empty() && code.lines().any(is_code)) {
            let code =
                [first, code].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n");
            if closed || whole {
                return Some(Read { reply: ran(&code, &prose), kept: offset + kept });
            }
            let reply = Reply { prose: prose.trim().to_owned(), unclosed: true, ..Reply::default() };
            return Some(Read { reply, kept: text.len() });
        }
        // A block of something else is passed over.
        let skipped = &text[offset..offset + kept];
        offset += kept;
        lines = text[offset..].split_inclusive('\n');
        prose.push_str(line);
        prose.push_str(skipped);
    }
    None
}

/// The text up to a closing fence, the bytes with that fence, and whether there is one.
fn block(text: &str) -> (&str, usize, bool) {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let end = at + line.len();
        if line.trim_start().starts_with("```") {
            return (text[..at].trim_end(), end, true);
        }
        // Nobody ends the block; what the output might be is no code.
        if line.starts_with("Output:") {
            return (text[..at].trim_end(), at, true);
        }
        // A fence at the end of the last line of code.
        if let Some(code) = line.trim_end().strip_suffix("```") {
            return (&text[..at + code.len()], end, true);
        }
        at = end;
    }
    (text.trim_end(), text.len(), false)
}

/// Lines of code without any fence: from the first call to the last line before prose.
fn bare(text: &str) -> Option<Read> {
    let (mut at, mut start, mut end) = (0, None, 0);
    for line in text.split_inclusive('\n') {
        let code = is_code(line);
        if code && start.is_none() {
            start = Some(at);
        }
        at += line.len();
        if start.is_some() {
            let goes_on = code || line.trim().is_empty() || line.starts_with([' ', '\t']);
            if !goes_on {
                break;
            }
            end = if line.trim().is_empty() { end } else { at };
        }
    }
    let start = start?;
    Some(Read { reply: ran(text[start..end].trim_end(), &text[..start]), kept: end })
}

/// Whether a line is a call of a session's function, or sets a variable.
fn is_code(line: &str) -> bool {
    let line = line.trim();
    let name = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || c == '_');
    let call =
        |text: &str| text.split_once('(').is_some_and(|(function, _)| CALLS.contains(&function.trim()));
    if call(line) || line.starts_with("answer[") {
        return true;
    }
    let Some((target, value)) = line.split_once('=') else { return false };
    let value = value.trim_start();
    name(target.trim())
        && (call(value) || value.starts_with(['{', '[', '"', '\'']) || value.starts_with("f\""))
}

fn ran(code: &str, prose: &str) -> Reply {
    Reply { blocks: vec![code.to_owned()], prose: prose.trim().to_owned(), ..Reply::default() }
}

/// `FINAL(...)` or `FINAL_VAR(...)` anywhere in prose, or a line that says that it is the final answer.
pub(super) fn mark(text: &str) -> Option<FinalMark> {
    let begins = |at: usize| !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '.');
    let variable = text.match_indices("FINAL_VAR(").find(|(at, _)| begins(*at));
    if let Some((at, call)) = variable {
        let name = unquoted(argument(&text[at + call.len()..]));
        return (!name.is_empty()).then_some(FinalMark::Variable(name));
    }
    let called = text.match_indices("FINAL(").find(|(at, _)| begins(*at));
    if let Some((at, call)) = called {
        let answer = unquoted(argument(&text[at + call.len()..]));
        // The placeholder of the notices is no answer.
        return (!answer.is_empty() && answer != "...").then_some(FinalMark::Text(answer));
    }
    text.lines().find_map(|line| {
        let line = line.trim().trim_matches('*');
        let lower = line.to_lowercase();
        let start = ANSWERS.iter().find(|start| lower.starts_with(**start))?;
        let answer = unquoted(line.get(start.len()..)?.trim_start_matches([':', '*', ' ']));
        (!answer.is_empty()).then_some(FinalMark::Text(answer))
    })
}

/// What stands in the parentheses that are open before `rest`.
fn argument(rest: &str) -> &str {
    let quote = rest.trim_start().chars().next().filter(|c| ['"', '\'', '`'].contains(c));
    if let Some(quote) = quote {
        let closing = rest.match_indices(')').find(|(at, _)| {
            let before = rest[..*at].trim_end();
            before.len() > 1 && before.ends_with(quote)
        });
        return closing.map_or(rest, |(at, _)| &rest[..at]);
    }
    let line = rest.split('\n').next().unwrap_or_default();
    let mut depth = 1_usize;
    for (at, c) in line.char_indices() {
        match c {
            '(' => depth += 1,
            ')' if depth == 1 => return &line[..at],
            ')' => depth -= 1,
            _ => {}
        }
    }
    line
}

/// A text without the quotes or backticks around it.
pub(super) fn unquoted(text: &str) -> String {
    let mut text = text.trim();
    for quote in ["\"\"\"", "'''", "\"", "'", "`"] {
        let inner = text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote));
        if let Some(inner) = inner {
            text = inner.trim();
        }
    }
    text.to_owned()
}
