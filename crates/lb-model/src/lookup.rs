//! Guesses from a text that is copied from.
//!
//! Answers about a text quote it. Where the last tokens that were written stand in the text, what stands behind them there
//! is likely to be written next (Inference with Reference, arXiv 2304.04487; prompt lookup decoding). A guess costs a search; the pass that
//! reads it says how far it was right ([`generate_batch_guessed`](crate::Worker::generate_batch_guessed)).

use std::borrow::Cow;

/// Tokens that must agree before a guess is made: two stand next to each other by chance too often.
const SHORTEST: usize = 3;
/// More agreement than this makes no better guess.
const LONGEST: usize = 12;
/// Tokens of the first guess, and of one after a failure at least.
const FIRST: usize = 4;
/// Tokens of a guess at most: what is wrong is read in vain.
const MOST: usize = 16;
/// Tokens of a draft that are guessed at once: longer inputs may be read less exactly than one token at a time.
const OF_DRAFT: usize = 32;

/// Guesses how one sequence goes on, from texts and from what it has written itself.
#[derive(Clone, Debug)]
pub struct Lookup<'a> {
    texts: Vec<Cow<'a, [u32]>>,
    /// What is thought to be written from the beginning on.
    draft: Vec<u32>,
    /// Tokens of the next guess at most.
    stride: usize,
    /// How much was written when the last guess was made, and its tokens.
    last: Option<(usize, usize)>,
}

impl<'a> Lookup<'a> {
    /// Guesses `draft` first, for as long as it is what is written, and then from `texts`; without texts nothing more.
    pub fn new(texts: Vec<&'a [u32]>, draft: Vec<u32>) -> Self {
        Self { texts: texts.into_iter().map(Cow::Borrowed).collect(), draft, stride: FIRST, last: None }
    }

    /// The same with texts of its own.
    pub fn owning(texts: Vec<Vec<u32>>, draft: Vec<u32>) -> Self {
        Self { texts: texts.into_iter().map(Cow::Owned).collect(), draft, stride: FIRST, last: None }
    }

    /// At most `most` tokens that may follow `written`, all that the sequence has written so far. Empty where nothing is
    /// likely. Calls come in the order of writing: how far the last guess was right says how long the next one may be.
    pub fn guess(&mut self, written: &[u32], most: usize) -> Vec<u32> {
        if let Some((before, guessed)) = self.last.take() {
            // The token behind what agreed is the sequence's own.
            let right = written.len().saturating_sub(before + 1).min(guessed);
            self.stride = if right == guessed { 2 * self.stride } else { right.max(FIRST) }.min(MOST);
        }
        if most == 0 {
            return Vec::new();
        }
        if self.draft.len() > written.len() && self.draft.starts_with(written) {
            // What is wrong in a draft is told by one pass; it was made with care.
            return self.draft[written.len()..].iter().take(most.min(OF_DRAFT)).copied().collect();
        }
        let own = (!self.texts.is_empty()).then_some(written);
        let found = self.texts.iter().map(|text| &**text).chain(own).filter_map(|text| behind(text, written));
        // The longest run; of equal ones what was written itself, and what comes later.
        let Some((_, text)) = found.max_by_key(|(same, _)| *same) else { return Vec::new() };
        let guess: Vec<u32> = text.iter().take(self.stride.min(most)).copied().collect();
        self.last = Some((written.len(), guess.len()));
        guess
    }
}

/// What stands in `text` behind the longest run of tokens that `written` ends with, the latest of the longest, and the run's length.
fn behind<'a>(text: &'a [u32], written: &[u32]) -> Option<(usize, &'a [u32])> {
    let end = *written.last()?;
    let ends = text.iter().enumerate().filter(|(_, token)| **token == end);
    let runs = ends.map(|(at, _)| {
        let before = text[..=at].iter().rev().zip(written.iter().rev());
        (before.take(LONGEST).take_while(|(a, b)| a == b).count(), &text[at + 1..])
    });
    runs.filter(|(same, rest)| *same >= SHORTEST && !rest.is_empty()).max_by_key(|(same, _)| *same)
}

#[cfg(test)]
mod tests {
    use super::{FIRST, Lookup, MOST, behind};

    #[test]
    fn the_latest_of_the_longest_runs_is_followed() {
        let text = [9, 1, 2, 3, 7, 1, 2, 3, 8, 0, 2, 3, 4];
        assert_eq!(behind(&text, &[1, 2, 3]), Some((3, &text[8..])));
        assert_eq!(behind(&text, &[9, 1, 2, 3]), Some((4, &text[4..])));
        assert_eq!(behind(&text, &[2, 3]), None, "two tokens are a chance");
        assert_eq!(behind(&text, &[0, 2, 3, 4]), None, "nothing stands behind the end");
        assert_eq!(behind(&text, &[]), None);
    }

    #[test]
    fn guesses_grow_with_success_and_shrink_without() {
        let text: Vec<u32> = (0..100).collect();
        let mut lookup = Lookup::new(vec![&text], Vec::new());
        assert!(lookup.guess(&text[..2], 50).is_empty());
        let mut written = 3;
        for wanted in [FIRST, 2 * FIRST, MOST, MOST] {
            assert_eq!(lookup.guess(&text[..written], 50).len(), wanted);
            written += wanted + 1;
        }
        // Wrong from the second token on.
        assert_eq!(lookup.guess(&text[..written], 50).len(), MOST);
        let mut other = text[..=written].to_vec();
        other.extend([200, 10, 11, 12]);
        assert_eq!(lookup.guess(&other, 50), (13..13 + FIRST as u32).collect::<Vec<_>>());
        assert_eq!(lookup.guess(&text[..9], 2), [9, 10], "no more than there is room for");
    }

    #[test]
    fn a_draft_comes_first_and_what_was_written_is_a_text_too() {
        let mut lookup = Lookup::new(vec![&[1, 2, 3, 50]], vec![5, 6, 7]);
        assert_eq!(lookup.guess(&[], 9), [5, 6, 7]);
        assert_eq!(lookup.guess(&[5, 6], 9), [7]);
        assert!(lookup.guess(&[5, 8], 9).is_empty());
        assert_eq!(lookup.guess(&[5, 8, 1, 2, 3], 9), [50]);
        let mut lookup = Lookup::new(vec![&[1, 2, 3, 50]], Vec::new());
        assert_eq!(lookup.guess(&[4, 5, 6, 7, 8, 4, 5, 6], 9), [7, 8, 4, 5]);
    }
}
