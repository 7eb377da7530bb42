//! Sentences of the trajectory as they stand, those that a task needs most.

use std::time::Instant;

use bm25::{Embedder, EmbedderBuilder, Scorer};
use lb_am::{HeadAgg, ScoreAgg, position_scores};
use serde::{Deserialize, Serialize};

use super::lines::{Lines, Part};
use super::size::SelectionSize;
use super::stand_in::StandIn;
use super::words::Words;
use crate::context::Reader;
use crate::ledger::{CallTokens, share};
use crate::{Error, Result, Task};

/// What says how much a task needs a sentence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SentenceScore {
    /// How well its words match those of the question (Okapi BM25, as [`Handoff::Bm25`](crate::Handoff::Bm25)). Nothing is computed
    /// with the worker. Sentences that match no word are left out; where none matches, the latest are taken.
    #[default]
    Bm25,
    /// The attention that the task's queries pay to it over the full cache: the mean over queries, layers and KV heads, summed over its
    /// positions. The task is read once more for it.
    Attention,
}

/// For each task the sentences that it needs most, in their own order.
pub(super) fn extracted(
    reader: Reader<'_>,
    size: SelectionSize,
    by: SentenceScore,
    tasks: &[&Task],
) -> Result<Vec<StandIn>> {
    let (start, context) = (Instant::now(), reader.context);
    let room = size.resolve(context.text.tokens.len())?.saturating_sub(context.head().len());
    let lines = Lines::of(context);
    let parts = lines.parts(|body| lines.sentences(body));
    let index = (by == SentenceScore::Bm25).then(|| Index::of(&lines, &parts));
    let common = share(start.elapsed(), tasks.len());
    let tokens = reader.tokens_of(tasks)?;
    let extract = |(number, (task, tokens)): (usize, (&&Task, Vec<u32>))| {
        let start = Instant::now();
        let (values, read) = match &index {
            Some(index) => (index.values(&task.question, parts.len()), 0),
            None if parts.is_empty() => (Vec::new(), 0),
            None => {
                let attended = attention(reader, &tokens, &parts);
                (attended.map_err(|error| error.in_call(number))?, tokens.len())
            }
        };
        let matching: Vec<usize> = (0..parts.len()).filter(|index| values[*index] > 0.0).collect();
        let (some, values): (Vec<Part>, Vec<f64>) =
            matching.iter().map(|index| (parts[*index].clone(), values[*index])).unzip();
        let text =
            lines.text(context, lines.best(&some, &values, room).into_iter().map(|index| &some[index]));
        let cost = CallTokens { prefilled: read, ..CallTokens::default() };
        Ok(StandIn::of_text(context, text).made(common + start.elapsed(), cost))
    };
    tasks.iter().zip(tokens).enumerate().map(extract).collect()
}

/// Sentences, indexed by their words.
struct Index {
    embedder: Embedder<u64, Words>,
    scorer: Scorer<usize, u64>,
}

impl Index {
    fn of(lines: &Lines, parts: &[Part]) -> Self {
        let texts: Vec<String> = parts.iter().map(|part| lines.pieces[part.range.clone()].concat()).collect();
        let corpus: Vec<&str> = texts.iter().map(String::as_str).collect();
        let embedder =
            EmbedderBuilder::<u64, Words>::with_tokenizer_and_fit_to_corpus(Words, &corpus).build();
        let mut scorer = Scorer::new();
        for (index, text) in corpus.iter().enumerate() {
            scorer.upsert(&index, embedder.embed(text));
        }
        Self { embedder, scorer }
    }

    /// Of each of `count` sentences; where none matches, the later the more.
    fn values(&self, question: &str, count: usize) -> Vec<f64> {
        let mut values = vec![0.0; count];
        let matches = self.scorer.matches(&self.embedder.embed(question));
        for found in &matches {
            values[found.id] = f64::from(found.score);
        }
        if values.iter().all(|value| *value <= 0.0) {
            return (1..=count).map(|number| number as f64).collect();
        }
        values
    }
}

/// The attention to each sentence.
fn attention(reader: Reader<'_>, task: &[u32], parts: &[Part]) -> Result<Vec<f64>> {
    let context = reader.context;
    if *context.full.tokens != context.text.tokens {
        let reason = "the oldest part of the trajectory is in the cache as a compaction; want by=bm25";
        return Err(Error::config("by", "attention", reason));
    }
    let (captured, _) = reader.capture_behind_all(task)?;
    let queries = context.worker().config().of_global_layers(captured.queries);
    let layers = context.layers(0, context.seq_len())?;
    let scores = position_scores(&layers, &queries, ScoreAgg::Mean, HeadAgg::Mean)?;
    let mass = |part: &Part| scores[part.range.clone()].iter().map(|score| f64::from(*score)).sum();
    Ok(parts.iter().map(mass).collect())
}
