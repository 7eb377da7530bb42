//! A trajectory's text line by line, and what of a line can be left out: sentences, phrases, tokens.

use std::collections::BTreeSet;
use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation;

use crate::context::{Context, sentence_starts};

/// Words of a phrase at most.
const PHRASE: usize = 4;

/// A text as the lines that its segments were read as.
#[derive(Debug)]
pub(super) struct Lines {
    /// The text of each token.
    pub(super) pieces: Vec<String>,
    pub(super) all: Vec<Line>,
    /// Where tokens may be parted: the tokens from one to the next are whole characters.
    whole: Vec<bool>,
    sentences: Vec<u32>,
}

/// One line, as ranges of the text's tokens that follow one another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Whose it is, the colon counted in.
    pub(super) label: Range<usize>,
    /// What it says.
    pub(super) body: Range<usize>,
    /// Its last token, with which the line ends; nothing where that is all that it says.
    pub(super) end: Range<usize>,
}

/// A part of what a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) line: usize,
    pub(super) range: Range<usize>,
}

impl Line {
    /// Tokens that are kept where anything of the line is.
    pub(super) fn frame(&self) -> usize {
        self.label.len() + self.end.len()
    }
}

impl Lines {
    pub(super) fn of(context: &Context) -> Self {
        let (tokenizer, text) = (context.worker().tokenizer(), &*context.text);
        let pieces = tokenizer.pieces(&text.tokens);
        let starts: Vec<u32> = text.segments.iter().map(|(start, _)| *start).collect();
        let sentences = sentence_starts(&pieces, context.head().len(), &starts);
        let ends = starts.iter().skip(1).map(|start| *start as usize).chain([pieces.len()]);
        let segments = text.segments.iter().zip(ends);
        let all: Vec<Line> =
            segments.map(|((start, label), end)| line(&pieces, *start as usize..end, label)).collect();
        let mut whole = vec![true; pieces.len() + 1];
        for line in &all {
            let mut start = line.label.start;
            for at in start + 1..line.end.end {
                let (alone, part) = (tokenizer.pieces(&text.tokens[start..at]), &pieces[start..at]);
                whole[at] = same(&alone, part);
                if whole[at] {
                    start = at;
                }
            }
        }
        Self { pieces, all, whole, sentences }
    }

    /// The smallest parts of `range`: tokens, or as many as it takes for whole characters.
    pub(super) fn tokens(&self, range: &Range<usize>) -> Vec<Range<usize>> {
        parted(range, |at| self.whole[at])
    }

    /// The sentences of `range`.
    pub(super) fn sentences(&self, range: &Range<usize>) -> Vec<Range<usize>> {
        parted(range, |at| self.whole[at] && self.sentences.binary_search(&(at as u32)).is_ok())
    }

    /// Up to four words as Unicode has them with no punctuation mark between them.
    pub(super) fn phrases(&self, range: &Range<usize>) -> Vec<Range<usize>> {
        let text = self.pieces[range.clone()].concat();
        let starts: BTreeSet<usize> = text.unicode_word_indices().map(|(at, _)| at).collect();
        let (mut opens, mut at, mut words, mut last) = (BTreeSet::new(), 0, 0, None::<char>);
        for (index, piece) in range.clone().zip(&self.pieces[range.clone()]) {
            let blank = piece.len() - piece.trim_start().len();
            if starts.contains(&(at + blank)) {
                let marked = last.is_some_and(|last| !last.is_alphanumeric());
                if marked || words == PHRASE {
                    opens.insert(index);
                    words = 0;
                }
                words += 1;
            }
            at += piece.len();
            last = piece.trim_end().chars().next_back().or(last);
        }
        parted(range, |at| self.whole[at] && opens.contains(&at))
    }

    /// What every line says, parted by `parts`.
    pub(super) fn parts(&self, parts: impl Fn(&Range<usize>) -> Vec<Range<usize>>) -> Vec<Part> {
        let of_line = |(line, of): (usize, &Line)| {
            parts(&of.body).into_iter().map(move |range| Part { line, range }).collect::<Vec<_>>()
        };
        self.all.iter().enumerate().flat_map(of_line).collect()
    }

    /// Passages of at most `longest` tokens, cut where sentences begin as far as that goes.
    pub(super) fn passages(&self, longest: usize) -> Vec<Part> {
        let mut passages = self.parts(|body| cut(body.clone(), &self.sentences, longest));
        // A cut at a token may be inside a character.
        for index in 1..passages.len() {
            let mut at = passages[index].range.start;
            let (before, end) = (passages[index - 1].clone(), passages[index].range.end);
            if before.line == passages[index].line {
                while at < end && !self.whole[at] {
                    at += 1;
                }
                (passages[index - 1].range.end, passages[index].range.start) = (at, at);
            }
        }
        passages.retain(|passage| !passage.range.is_empty());
        passages
    }

    /// The best of `parts` by `values` that fit in `room`, as their numbers in their own order; equal values go to the earlier. The first
    /// of a line has the line's label and end to pay for.
    pub(super) fn best(&self, parts: &[Part], values: &[f64], mut room: usize) -> Vec<usize> {
        let mut ranked: Vec<usize> = (0..parts.len()).collect();
        ranked.sort_by(|a, b| values[*b].total_cmp(&values[*a]).then(a.cmp(b)));
        let (mut framed, mut chosen) = (vec![false; self.all.len()], Vec::new());
        for index in ranked {
            let Part { line, range } = &parts[index];
            let frame = if framed[*line] { 0 } else { self.all[*line].frame() };
            if let Some(left) = room.checked_sub(range.len() + frame) {
                room = left;
                framed[*line] = true;
                chosen.push(index);
            }
        }
        chosen.sort_unstable();
        chosen
    }

    /// Template head, and of each line that has any of `parts`, label, these, and end. `parts` are in the text's order.
    pub(super) fn text<'a>(&self, context: &Context, parts: impl IntoIterator<Item = &'a Part>) -> Vec<u32> {
        let (mut tokens, text) = (context.head().to_vec(), &context.text.tokens);
        let mut open: Option<usize> = None;
        for Part { line, range } in parts {
            if open != Some(*line) {
                if let Some(open) = open {
                    tokens.extend(&text[self.all[open].end.clone()]);
                }
                tokens.extend(&text[self.all[*line].label.clone()]);
                open = Some(*line);
            }
            tokens.extend(&text[range.clone()]);
        }
        if let Some(open) = open {
            tokens.extend(&text[self.all[open].end.clone()]);
        }
        tokens
    }
}

/// The line of the tokens `range`, which begins with `label` and a colon.
fn line(pieces: &[String], range: Range<usize>, label: &str) -> Line {
    let (mut body, mut read) = (range.start, String::new());
    // What a tokenizer puts in front of a text of its own is a space.
    while body < range.end && read.trim_start().len() <= label.len() {
        read += &pieces[body];
        body += 1;
    }
    let end = if range.end - body > 1 { range.end - 1 } else { range.end };
    Line { label: range.start..body, body: body..end, end: end..range.end }
}

/// Whether tokens that are read alone are the text that they are between others.
fn same(alone: &[String], between: &[String]) -> bool {
    let alone = alone.concat();
    let between = between.concat();
    // A tokenizer may take the first space of a text for its own.
    !between.is_empty() && alone.trim_start_matches(' ') == between.trim_start_matches(' ')
}

/// `range` parted in front of every token of which `opens` holds.
fn parted(range: &Range<usize>, opens: impl Fn(usize) -> bool) -> Vec<Range<usize>> {
    let (mut parts, mut start) = (Vec::new(), range.start);
    for at in range.start + 1..=range.end {
        if at == range.end || opens(at) {
            parts.push(start..at);
            start = at;
        }
    }
    parts
}

/// `whole` in pieces of at most `longest`, cut where sentences begin as far as that goes.
pub(super) fn cut(whole: Range<usize>, sentences: &[u32], longest: usize) -> Vec<Range<usize>> {
    let (mut pieces, mut start) = (Vec::new(), whole.start);
    while whole.end - start > longest {
        let furthest = start + longest;
        let before = sentences[..sentences.partition_point(|at| *at as usize <= furthest)].last();
        let end = before.map(|at| *at as usize).filter(|at| *at > start).unwrap_or(furthest);
        pieces.push(start..end);
        start = end;
    }
    pieces.push(start..whole.end);
    pieces
}

#[cfg(test)]
mod tests {
    use super::{Line, Lines, Part, cut, line};

    fn pieces(of: &[&str]) -> Vec<String> {
        of.iter().map(|piece| (*piece).to_owned()).collect()
    }

    fn lines(of: &[&str], all: Vec<Line>) -> Lines {
        let pieces = pieces(of);
        Lines { whole: vec![true; pieces.len() + 1], pieces, all, sentences: Vec::new() }
    }

    #[test]
    fn passages_end_with_sentences_where_they_can() {
        assert_eq!(cut(10..20, &[0, 10, 14], 10), vec![10..20; 1]);
        assert_eq!(cut(10..20, &[0, 10, 14, 17], 8), [10..17, 17..20]);
        assert_eq!(cut(10..30, &[0, 10, 12], 8), [10..12, 12..20, 20..28, 28..30]);
        assert_eq!(cut(3..5, &[], 1), [3..4, 4..5]);
    }

    #[test]
    fn a_line_is_label_body_and_end() {
        let of = pieces(&["<head>", " tool", " Web", "Surfer", ":", " It", " rains", ".\n"]);
        assert_eq!(line(&of, 1..8, "tool WebSurfer"), Line { label: 1..5, body: 5..7, end: 7..8 });
        let of = pieces(&["tool", ": ", "...\n"]);
        assert_eq!(line(&of, 0..3, "tool"), Line { label: 0..2, body: 2..3, end: 3..3 });
    }

    #[test]
    fn phrases_are_a_few_words_without_a_mark() {
        let of = ["The", " ledger", ",", " kept", " by", " An", "ara", " since", " 2", ".", "5", " years"];
        let found = lines(&of, Vec::new()).phrases(&(0..12));
        // Four words are `kept by Anara since`; `2.5` is one.
        assert_eq!(found, [0..3, 3..8, 8..12]);
        assert_eq!(lines(&["東", "京", "は", "晴", "れ"], Vec::new()).phrases(&(0..5)), [0..4, 4..5]);
        assert!(lines(&[], Vec::new()).phrases(&(0..0)).is_empty());
    }

    #[test]
    fn the_best_that_fit_pay_for_their_line() {
        let line = |at: usize| Line { label: at..at + 2, body: at + 2..at + 5, end: at + 5..at + 6 };
        let lines = lines(&["x"; 12], vec![line(0), line(6)]);
        let part = |line: usize, at: usize| Part { line, range: at..at + 1 };
        let parts = [part(0, 2), part(0, 3), part(0, 4), part(1, 8), part(1, 9), part(1, 10)];
        let values = [3.0, 1.0, 9.0, 8.0, 8.0, 0.0];
        // The best costs four; the second would as well, which is too much; what is left of the first line is one each.
        assert_eq!(lines.best(&parts, &values, 6), [0, 1, 2]);
        assert_eq!(lines.best(&parts, &values, 8), [2, 3]);
        assert_eq!(lines.best(&parts, &values, 9), [2, 3, 4]);
        assert!(lines.best(&parts, &values, 3).is_empty());
    }
}
