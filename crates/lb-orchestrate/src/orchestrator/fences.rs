//! Where the first fenced block of a text that is being written ends.

/// Backticks of a fence.
const FENCE: &str = "```";

/// Hears a text piece by piece.
#[derive(Debug, Default)]
pub(super) struct Fences {
    line: String,
    open: bool,
    closed: bool,
}

impl Fences {
    /// Whether a block has been closed by what was heard so far.
    pub(super) fn closed_by(&mut self, text: &str) -> bool {
        for c in text.chars() {
            if c == '\n' {
                self.end_line();
                self.line.clear();
            } else {
                self.line.push(c);
            }
        }
        // The closing fence is whole before its line ends; an opening one still gets its language.
        self.closed |= self.open && self.line.trim() == FENCE;
        self.closed
    }

    fn end_line(&mut self) {
        let line = self.line.trim();
        if self.open && line.ends_with(FENCE) {
            self.closed = true;
        } else if !self.open && line.starts_with(FENCE) {
            // A block may lie on one line.
            let on_one_line = line.len() > FENCE.len() && line.ends_with(FENCE);
            (self.open, self.closed) = (!on_one_line, self.closed || on_one_line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How much of a text is heard, a character at a time, before it is enough.
    fn heard(text: &str) -> &str {
        let mut fences = Fences::default();
        let end = text.char_indices().find(|(_, c)| fences.closed_by(&c.to_string()));
        end.map_or(text, |(at, c)| &text[..at + c.len_utf8()])
    }

    #[test]
    fn the_first_block_is_the_end() {
        assert_eq!(heard("I ask.\n```repl\nx = 1\n```\nOutput: 3"), "I ask.\n```repl\nx = 1\n```");
        assert_eq!(heard("```python\nx\n  ```  \nmore"), "```python\nx\n  ```");
        assert_eq!(heard("```repl FINAL(1)```\nmore"), "```repl FINAL(1)```\n");
        assert_eq!(heard("```\nx = '```' + y\n```\n!"), "```\nx = '```' + y\n```");
        assert_eq!(heard("```repl\nprint(1)```\nmore"), "```repl\nprint(1)```\n");
        for whole in ["no code", "```repl\nx = 1", "``` is a fence in prose"] {
            assert_eq!(heard(whole), whole);
        }
        let mut whole = Fences::default();
        assert!(!whole.closed_by("```repl\nx") && whole.closed_by(" = 1\n```\n"));
    }
}
