//! Where sentences and segments of a trajectory begin.

use lb_am::{Spans, Units};

use super::Context;

/// First positions of the units within `from..to`, counted from `from`, where the spans ask for units. The template's head
/// is a unit of its own.
pub(crate) fn unit_starts(context: &Context, spans: Spans, from: usize, to: usize) -> Option<Vec<u32>> {
    let Spans::Units(units) = spans else { return None };
    let segments = &context.full.starts;
    let starts = match units {
        Units::Sentences => {
            let pieces = context.worker().tokenizer().pieces(&context.full.tokens);
            sentence_starts(&pieces, context.head().len(), segments)
        }
        // Segments, and what may be added to the units later.
        _ => segments.to_vec(),
    };
    let inside = starts.iter().map(|start| *start as usize).filter(|start| *start > from && *start < to);
    Some(std::iter::once(0).chain(inside.map(|start| (start - from) as u32)).collect())
}

/// Sentences begin with a segment, behind a line end, and behind `.`, `!` or `?` where a space follows.
pub(crate) fn sentence_starts(pieces: &[String], head: usize, segments: &[u32]) -> Vec<u32> {
    let mut starts = Vec::new();
    // The last character that is no space, and whether spaces follow it.
    let (mut last, mut spaced) = (' ', false);
    for (index, piece) in pieces.iter().enumerate() {
        let follows = spaced || piece.starts_with(char::is_whitespace);
        let ended = matches!(last, '.' | '!' | '?') && follows;
        let line = index > 0 && pieces[index - 1].ends_with('\n');
        let opens = segments.binary_search(&(index as u32)).is_ok();
        let blank = piece.trim().is_empty();
        if opens || (index > head && !blank && (ended || line)) {
            starts.push(index as u32);
            (last, spaced) = (' ', false);
        }
        match piece.trim_end().chars().next_back() {
            Some(character) => (last, spaced) = (character, piece.ends_with(char::is_whitespace)),
            None => spaced |= !piece.is_empty(),
        }
    }
    starts
}

#[cfg(test)]
mod tests {
    use super::sentence_starts;

    fn starts(pieces: &[&str], segments: &[u32]) -> Vec<u32> {
        let pieces: Vec<String> = pieces.iter().map(|piece| (*piece).to_owned()).collect();
        sentence_starts(&pieces, 1, segments)
    }

    #[test]
    fn sentences_end_where_a_space_or_a_line_end_follows() {
        let pieces = ["<head>", "a", " costs", " 3", ".", "5", ".", " Who", "?", "\n", "b", ".", "\n", "c"];
        assert_eq!(starts(&pieces, &[0, 1]), [0, 1, 7, 10, 13]);
        assert_eq!(starts(&["<head.", " x", " y", "! ", "z"], &[0, 1]), [0, 1, 4]);
        assert_eq!(starts(&["<head>", "a", "b", "c"], &[0, 1, 3]), [0, 1, 3]);
    }
}
