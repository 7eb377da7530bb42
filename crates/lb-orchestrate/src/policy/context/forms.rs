//! The ladder of an item: each form shorter than the one before.

use serde::{Deserialize, Serialize};

use super::kind::error_lines;
use super::state::State;
use super::{Count, Item, ItemKind, ManagerConfig};

/// In which form an item is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// As it is.
    Whole,
    /// What is other than in the state before.
    Diff,
    /// How it begins, and the lines that must not be lost: code, errors.
    Excerpt,
    /// What it was, and what code finds it by.
    Pointer,
    /// Not at all.
    Gone,
}

/// A rung: the form, its text, its tokens.
#[derive(Clone, Debug)]
pub(super) struct Rung {
    pub(super) form: Form,
    pub(super) text: String,
    pub(super) tokens: usize,
}

/// The forms below the whole text, each with fewer tokens than the one before it.
pub(super) fn below(
    item: &Item,
    whole: usize,
    before: Option<(&State, &State)>,
    config: &ManagerConfig,
    count: Count<'_>,
) -> Vec<Rung> {
    let mut rungs: Vec<Rung> = Vec::new();
    let mut add = |form, text: String| {
        let tokens = if text.is_empty() { 0 } else { count(&text) };
        if tokens < rungs.last().map_or(whole, |last| last.tokens) {
            rungs.push(Rung { form, text, tokens });
        }
    };
    let names = if config.pointers { format!("; `{}` holds all of it", item.name) } else { String::new() };
    if let Some((own, earlier)) = before.filter(|_| config.diffs) {
        add(Form::Diff, own.since(earlier));
    }
    let kept = excerpt(item, config.head_chars);
    add(Form::Excerpt, format!("{kept}\n[{whole} tokens, shortened{names}]"));
    if config.pointers {
        let what = serde_json::to_value(item.kind).ok().and_then(|kind| kind.as_str().map(str::to_owned));
        let what = what.unwrap_or_default();
        add(Form::Pointer, format!("[{what}, {whole} tokens left out: `{}`]", item.name));
    }
    if !item.stays {
        add(Form::Gone, String::new());
    }
    rungs
}

/// How a text begins, and what must not be lost of it.
fn excerpt(item: &Item, head_chars: usize) -> String {
    let text = item.text.trim();
    let mut head: String = text.chars().take(head_chars).collect();
    if head.len() < text.len() {
        head.push('…');
    }
    match item.kind {
        ItemKind::Code => {
            let code = fenced(text);
            if code.is_empty() { head } else { code }
        }
        ItemKind::Error => {
            let lines: Vec<&str> = error_lines(text).filter(|line| !head.contains(*line)).take(8).collect();
            [&[head.as_str()][..], &lines].concat().join("\n")
        }
        _ => head,
    }
}

/// The fenced blocks of a text, fences counted in.
fn fenced(text: &str) -> String {
    let mut inside = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        let fence = line.trim_start().starts_with("```");
        if fence || inside {
            lines.push(line);
        }
        inside ^= fence;
    }
    lines.join("\n")
}
