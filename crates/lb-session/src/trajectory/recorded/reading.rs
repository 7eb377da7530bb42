//! A trajectory while it is made of a log's messages.

use std::collections::HashMap;

use super::notes::{self, LogNote};
use crate::{Segment, Source};

/// Segments and notes so far.
#[derive(Default)]
pub(super) struct Reading {
    pub(super) segments: Vec<Segment>,
    pub(super) notes: Vec<LogNote>,
    /// Names of the called tools by the ids of their calls.
    called: HashMap<String, String>,
    /// Segments of the message in hand begin here.
    begun: usize,
    /// The message in hand held something that was noted elsewhere.
    noted: bool,
    /// The first of the segments that an assistant wrote without a break, if any.
    turn: Option<usize>,
    /// The message before the one in hand was an assistant's.
    answers: bool,
}

impl Reading {
    /// Appends a text; a blank one is none.
    pub(super) fn say(&mut self, source: Source, name: Option<&str>, text: &str) {
        if text.trim().is_empty() {
            return;
        }
        let segment = Segment::new(source, text);
        self.segments.push(match name {
            Some(name) => segment.named(name),
            None => segment,
        });
    }

    pub(super) fn note(&mut self, note: LogNote) {
        self.noted = true;
        notes::add(&mut self.notes, note);
    }

    pub(super) fn left_out(&mut self, what: &str) {
        let what = what.chars().take(60).collect();
        self.note(LogNote::LeftOut { what, parts: 1 });
    }

    pub(super) fn unknown_role(&mut self, role: &str) {
        let role = role.chars().take(60).collect();
        self.note(LogNote::UnknownRole { role, messages: 1 });
    }

    /// Remembers which tool a call's id stands for.
    pub(super) fn called(&mut self, id: Option<&str>, name: &str) {
        if let Some(id) = id {
            self.called.insert(id.to_owned(), name.to_owned());
        }
    }

    pub(super) fn name_of_call(&self, id: Option<&str>) -> Option<String> {
        self.called.get(id?).cloned()
    }

    /// A message begins; `by_assistant` where the model under orchestration wrote it.
    pub(super) fn begin(&mut self, by_assistant: bool) {
        (self.begun, self.noted, self.answers) = (self.segments.len(), false, self.turn.is_some());
        match (by_assistant, self.turn) {
            (true, None) => self.turn = Some(self.segments.len()),
            (true, Some(_)) => {}
            (false, _) => self.turn = None,
        }
    }

    /// A message ends: one without any text is noted, unless what else it held was.
    pub(super) fn end(&mut self) {
        if self.segments.len() == self.begun && !self.noted {
            notes::add(&mut self.notes, LogNote::Empty { messages: 1 });
        }
    }

    /// What the assistant said since its turn began led to a call: it was no reply yet.
    pub(super) fn calls(&mut self) {
        let from = self.turn.unwrap_or(self.segments.len());
        for segment in &mut self.segments[from..] {
            if segment.source == Source::Reply {
                segment.source = Source::Reasoning;
            }
        }
    }

    /// The message in hand is what came of running what the assistant said before it: fenced blocks in that are code, the
    /// rest is reasoning.
    pub(super) fn ran(&mut self) {
        if !self.answers {
            return;
        }
        let Some(last) = self.segments.last() else { return };
        if !matches!(last.source, Source::Reply | Source::Reasoning) {
            return;
        }
        let Some(last) = self.segments.pop() else { return };
        for (code, text) in fenced(&last.text) {
            if !text.trim().is_empty() {
                let source = if code { Source::Code } else { Source::Reasoning };
                let name = last.name.clone();
                self.segments.push(Segment { source, text: text.trim().to_owned(), name });
            }
        }
    }
}

/// A text in pieces: within fences of three backquotes (true) and outside. A fence without an end is text.
fn fenced(text: &str) -> Vec<(bool, &str)> {
    let (mut pieces, mut rest) = (Vec::new(), text);
    while let Some(open) = rest.find("```") {
        let inside = &rest[open + 3..];
        let Some(line) = inside.find('\n') else { break };
        let Some(close) = inside[line..].find("```") else { break };
        pieces.push((false, &rest[..open]));
        pieces.push((true, &inside[line..line + close]));
        rest = &inside[line + close + 3..];
    }
    pieces.push((false, rest));
    pieces
}

#[cfg(test)]
mod tests {
    use super::fenced;

    #[test]
    fn fences_are_code_and_a_fence_without_an_end_is_text() {
        assert_eq!(fenced("a\n```sh\nls\n```\nb"), [(false, "a\n"), (true, "\nls\n"), (false, "\nb")]);
        assert_eq!(fenced("a ```sh\nls"), [(false, "a ```sh\nls")]);
        assert_eq!(fenced("```"), [(false, "```")]);
        assert_eq!(fenced("é"), [(false, "é")]);
    }
}
