//! The passages of a trajectory that match a task best (Okapi BM25 by the crate `bm25`: k1 = 1.2, b = 0.75).

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use bm25::{Embedder, EmbedderBuilder, Scorer};

use super::last::Last;
use super::lines::cut;
use super::size::SelectionSize;
use super::stand_in::StandIn;
use super::words::Words;
use crate::context::{Context, sentence_starts};
use crate::ledger::CallTokens;
use crate::{Result, Task};

/// A trajectory's text in passages, indexed.
pub(crate) struct Passages {
    all: Vec<Passage>,
    embedder: Embedder<u64, Words>,
    scorer: Scorer<usize, u64>,
}

/// A range of the text's tokens, inside one segment.
#[derive(Clone, Debug)]
struct Passage {
    range: Range<usize>,
    segment: usize,
    /// Tokens where it stands alone.
    alone: usize,
}

impl fmt::Debug for Passages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passages").field("all", &self.all.len()).finish_non_exhaustive()
    }
}

impl Passages {
    /// The passages to be handed over within `room` tokens, in their order in the text.
    fn chosen(&self, question: &str, mut room: usize) -> Vec<usize> {
        let mut ranked = self.scorer.matches(&self.embedder.embed(question));
        // The crate orders equal scores by chance.
        ranked.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.id.cmp(&b.id)));
        let mut chosen = Vec::new();
        if ranked.is_empty() {
            for (index, passage) in self.all.iter().enumerate().rev() {
                let Some(left) = room.checked_sub(passage.alone) else { break };
                room = left;
                chosen.push(index);
            }
        }
        for found in ranked {
            if let Some(left) = room.checked_sub(self.all[found.id].alone) {
                room = left;
                chosen.push(found.id);
            }
        }
        chosen.sort_unstable();
        chosen
    }
}

/// How well each of `texts` matches a question (Okapi BM25 among them, k1 = 1.2, b = 0.75; words as
/// [`Handoff::Bm25`](crate::Handoff::Bm25) has them), in their order; 0 where they have no word in common.
pub fn relevance(question: &str, texts: &[&str]) -> Vec<f64> {
    let embedder = EmbedderBuilder::<u64, Words>::with_tokenizer_and_fit_to_corpus(Words, texts).build();
    let mut scorer = Scorer::new();
    for (index, text) in texts.iter().enumerate() {
        scorer.upsert(&index, embedder.embed(text));
    }
    let mut scores = vec![0.0; texts.len()];
    for found in scorer.matches(&embedder.embed(question)) {
        scores[found.id] = f64::from(found.score);
    }
    scores
}

/// For each task the passages that match it, as text. The index is made once for all that want passages as long.
pub(super) fn retrieved(
    context: &Context,
    known: &Last<usize, Arc<Passages>>,
    size: SelectionSize,
    longest: usize,
    tasks: &[&Task],
) -> Result<Vec<StandIn>> {
    let room = size.resolve(context.text.tokens.len())?.saturating_sub(context.head().len());
    let mut handed = Vec::with_capacity(tasks.len());
    for task in tasks {
        let start = Instant::now();
        let passages = match known.get(&longest) {
            Some(passages) => passages,
            None => Arc::new(Passages::of(context, longest)?),
        };
        let text = joined(context, &passages, &passages.chosen(&task.question, room))?;
        known.keep(longest, passages);
        handed.push(StandIn::of_text(context, text).made(start.elapsed(), CallTokens::default()));
    }
    Ok(handed)
}

impl Passages {
    fn of(context: &Context, longest: usize) -> Result<Self> {
        let (tokenizer, text) = (context.worker().tokenizer(), &context.text);
        let pieces = tokenizer.pieces(&text.tokens);
        let starts: Vec<u32> = text.segments.iter().map(|(start, _)| *start).collect();
        let sentences = sentence_starts(&pieces, context.head().len(), &starts);
        let mut all = Vec::new();
        for (segment, (start, label)) in text.segments.iter().enumerate() {
            let end = text.segments.get(segment + 1).map_or(text.tokens.len(), |(next, _)| *next as usize);
            let start = *start as usize;
            for range in cut(start..end, &sentences, longest) {
                let (before, behind) = around(context, label, &range, start, end)?;
                let alone = before.len() + range.len() + behind.len();
                all.push(Passage { range, segment, alone });
            }
        }
        let texts: Vec<String> = all.iter().map(|passage| pieces[passage.range.clone()].concat()).collect();
        let corpus: Vec<&str> = texts.iter().map(String::as_str).collect();
        let embedder =
            EmbedderBuilder::<u64, Words>::with_tokenizer_and_fit_to_corpus(Words, &corpus).build();
        let mut scorer = Scorer::new();
        for (index, text) in corpus.iter().enumerate() {
            scorer.upsert(&index, embedder.embed(text));
        }
        Ok(Self { all, embedder, scorer })
    }
}

/// Template head and the chosen passages; those that are neighbours in a segment stay joined.
fn joined(context: &Context, passages: &Passages, chosen: &[usize]) -> Result<Vec<u32>> {
    let (mut tokens, text) = (context.head().to_vec(), &context.text);
    let joins = |a: usize, b: usize| b == a + 1 && passages.all[a].segment == passages.all[b].segment;
    for run in chosen.chunk_by(|a, b| joins(*a, *b)) {
        let (first, last) = (&passages.all[run[0]], &passages.all[run[run.len() - 1]]);
        let (start, label) = &text.segments[first.segment];
        let next = text.segments.get(first.segment + 1);
        let end = next.map_or(text.tokens.len(), |(next, _)| *next as usize);
        let range = first.range.start..last.range.end;
        let (before, behind) = around(context, label, &range, *start as usize, end)?;
        tokens.extend(before);
        tokens.extend(&text.tokens[range]);
        tokens.extend(behind);
    }
    Ok(tokens)
}

/// What a range of the segment `start..end` lacks of being a line: its label, its end.
fn around(
    context: &Context,
    label: &str,
    range: &Range<usize>,
    start: usize,
    end: usize,
) -> Result<(Vec<u32>, Vec<u32>)> {
    let tokenizer = context.worker().tokenizer();
    let tag = if range.start == start { String::new() } else { format!("{label}: ") };
    let line = if range.end == end { "" } else { "\n" };
    Ok((tokenizer.encode_text(&tag)?, tokenizer.encode_text(line)?))
}
