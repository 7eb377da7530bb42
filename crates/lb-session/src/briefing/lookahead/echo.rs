//! The last words of whoever writes in a trajectory.

use crate::Source;
use crate::context::{Context, Text};

/// Whose words are those of the one who asks or answers.
const OWN: [Source; 2] = [Source::Reasoning, Source::Reply];

/// What the author of the trajectory wrote last, at most `limit` tokens of it: as likely a beginning of what comes next as
/// can be had for nothing. Empty where nobody's own words are in it.
pub(in crate::briefing) fn echo(context: &Context, limit: usize) -> Vec<u32> {
    let Text { tokens, segments } = &*context.text;
    let own = |label: &str| OWN.iter().any(|source| label.starts_with(source.tag()));
    let end_of = |index: usize| segments.get(index + 1).map_or(tokens.len(), |(start, _)| *start as usize);
    let mut written = Vec::new();
    // The latest first, each from its beginning: that is where an answer begins.
    for (index, (start, _)) in segments.iter().enumerate().rev().filter(|(_, (_, label))| own(label)) {
        let room = limit - written.len();
        written.extend(tokens[*start as usize..end_of(index)].iter().take(room));
        if written.len() == limit {
            break;
        }
    }
    written
}
