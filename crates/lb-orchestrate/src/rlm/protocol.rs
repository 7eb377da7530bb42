//! What an orchestrator's turn says: code to run, and whether it is the end.

use serde::{Deserialize, Serialize};

/// How an orchestrator says that it is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// It sets `answer["content"]` and `answer["ready"]` in the REPL (rlms 0.1.3).
    #[default]
    Answer,
    /// A line outside of code begins with `FINAL(...)` or `FINAL_VAR(name)` (RLM, arXiv 2512.24601).
    Final,
}

/// A line that ends a run of [`Protocol::Final`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FinalMark {
    /// `FINAL(text)`.
    Text(String),
    /// `FINAL_VAR(name)`.
    Variable(String),
}

/// A turn, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// The code of every block that is marked `repl`, in order.
    pub blocks: Vec<String>,
    /// What stands outside of those blocks.
    pub prose: String,
    /// A block was opened and never closed. It is not in `blocks`: what is missing may change what it does.
    pub unclosed: bool,
    /// The first line that ends a run, outside of all fences.
    pub final_mark: Option<FinalMark>,
}

/// A fence that is open: how many backticks, and whether it holds code to run.
struct Fence {
    ticks: usize,
    repl: bool,
}

impl Reply {
    /// Takes a turn apart. Any text is a turn; a fence is a line of its own of at least three backticks, closed by one of
    /// at least as many.
    pub fn parse(text: &str) -> Self {
        let (mut reply, mut open, mut code, mut marked) =
            (Self::default(), None::<Fence>, String::new(), None);
        let mut offset = 0;
        for line in text.split_inclusive('\n') {
            let (trimmed, start) = (line.trim(), offset);
            offset += line.len();
            let ticks = trimmed.bytes().take_while(|b| *b == b'`').count();
            match &open {
                Some(fence) if ticks >= fence.ticks && ticks == trimmed.len() => {
                    if fence.repl {
                        reply.blocks.push(std::mem::take(&mut code).trim_end().to_owned());
                    } else {
                        reply.prose.push_str(line);
                    }
                    open = None;
                }
                Some(fence) if fence.repl => code.push_str(line),
                Some(_) => reply.prose.push_str(line),
                None if ticks >= 3 => {
                    let repl = trimmed[ticks..].trim() == "repl";
                    if !repl {
                        reply.prose.push_str(line);
                    }
                    open = Some(Fence { ticks, repl });
                }
                None => {
                    if !reply.prose.is_empty() || !trimmed.is_empty() {
                        reply.prose.push_str(line);
                    }
                    if marked.is_none() && trimmed.starts_with("FINAL") {
                        marked = final_mark(text[start..].trim_start());
                    }
                }
            }
        }
        reply.unclosed = open.is_some_and(|fence| fence.repl);
        reply.final_mark = marked;
        reply.prose.truncate(reply.prose.trim_end().len());
        reply
    }
}

fn final_mark(text: &str) -> Option<FinalMark> {
    if let Some(rest) = text.strip_prefix("FINAL_VAR(") {
        let name = rest.split([')', '\n']).next()?.trim().trim_matches(['"', '\'', '`']);
        return Some(FinalMark::Variable(name.trim().to_owned()));
    }
    let rest = text.strip_prefix("FINAL(")?;
    Some(FinalMark::Text(inside(rest).trim().to_owned()))
}

/// The text up to the parenthesis that closes the one before it: the balanced one where it ends its line, else the last
/// one that ends a line, else everything.
fn inside(rest: &str) -> &str {
    let ends_line = |at: usize| rest[at + 1..].split('\n').next().is_none_or(|tail| tail.trim().is_empty());
    let mut depth = 1_usize;
    for (at, c) in rest.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            if ends_line(at) {
                return &rest[..at];
            }
            break;
        }
    }
    let mut end = rest.len();
    for line in rest.rsplit('\n') {
        let start = end - line.len();
        if let Some(before) = line.trim_end().strip_suffix(')') {
            return &rest[..start + before.len()];
        }
        end = start.saturating_sub(1);
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(text: &str) -> Option<FinalMark> {
        Reply::parse(text).final_mark
    }

    #[test]
    fn every_block_marked_repl_runs_in_order_and_no_other() {
        let text =
            "Plan.\n```repl\na = 1\n```\nThen\n```python\nb = 2\n```\n  ```repl  \nc = 3\n\n```\nDone.";
        let reply = Reply::parse(text);
        assert_eq!(reply.blocks, ["a = 1", "c = 3"]);
        assert_eq!(reply.prose, "Plan.\nThen\n```python\nb = 2\n```\nDone.");
        assert!(!reply.unclosed);
    }

    #[test]
    fn a_block_that_never_closes_does_not_run() {
        let reply = Reply::parse("```repl\na = 1\n```\n```repl\nb = (");
        assert_eq!((reply.blocks.len(), reply.unclosed), (1, true));
        assert!(!Reply::parse("```python\nb = (").unclosed);
    }

    #[test]
    fn a_longer_fence_holds_shorter_ones() {
        let reply = Reply::parse("````repl\nx = '''\n```\n'''\n````");
        assert_eq!(reply.blocks, ["x = '''\n```\n'''"]);
    }

    #[test]
    fn windows_line_ends_and_tildes_of_other_languages_do_no_harm() {
        assert_eq!(Reply::parse("```repl\r\nprint(1)\r\n```\r\n").blocks, ["print(1)"]);
        assert_eq!(Reply::parse("```replica\nprint(1)\n```").blocks.len(), 0);
        assert_eq!(Reply::parse(""), Reply::default());
    }

    #[test]
    fn final_counts_outside_of_code_only() {
        assert_eq!(mark("```repl\nFINAL(no)\n```"), None);
        assert_eq!(mark("```python\nFINAL(no)\n```\nFINAL(yes)"), Some(FinalMark::Text("yes".into())));
        assert_eq!(mark("I will call FINAL(later) when done."), None);
        assert_eq!(mark("FINALLY (not)"), None);
    }

    #[test]
    fn final_takes_its_whole_text() {
        let text = |s: &str| Some(FinalMark::Text(s.into()));
        assert_eq!(mark("FINAL(f(x) = (1, 2))"), text("f(x) = (1, 2)"));
        assert_eq!(mark("FINAL(two\nlines (of text))\nbye"), text("two\nlines (of text)"));
        assert_eq!(mark("FINAL(a :) b)"), text("a :) b"));
        assert_eq!(mark("FINAL(cut at the"), text("cut at the"));
        assert_eq!(mark("FINAL()"), text(""));
        assert_eq!(mark("  FINAL(indented)"), text("indented"));
    }

    #[test]
    fn final_var_names_a_variable() {
        let var = |s: &str| Some(FinalMark::Variable(s.into()));
        assert_eq!(mark("FINAL_VAR(result)"), var("result"));
        assert_eq!(mark("FINAL_VAR(\"result\") # done"), var("result"));
        assert_eq!(mark("FINAL_VAR('größe'"), var("größe"));
    }
}
