//! What a block prints, up to a limit; the rest is counted.

use std::fmt::Write as _;

/// Printed text with an end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Output {
    text: String,
    chars: usize,
    limit: usize,
    cut: usize,
}

impl Output {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    pub(crate) fn push(&mut self, text: &str) {
        let count = text.chars().count();
        let kept = count.min(self.limit - self.chars);
        let end = text.char_indices().nth(kept).map_or(text.len(), |(at, _)| at);
        self.text.push_str(&text[..end]);
        self.chars += kept;
        self.cut = self.cut.saturating_add(count - kept);
    }

    /// The text, with a line that says how much is missing.
    pub(crate) fn finish(mut self) -> String {
        if self.cut > 0 {
            let all = self.chars.saturating_add(self.cut);
            let _ = write!(self.text, "\n[{} of {all} characters of output were cut]", self.cut);
        }
        self.text
    }
}
