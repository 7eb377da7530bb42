//! Drafts that are held to the full cache.
//!
//! A draft over a first briefing is read over the full cache, for its queries. That pass also says where the full cache would
//! have written something else, and what. What stands behind such a place answers another question, so it is thrown away, the full
//! cache's token is taken, and the first briefing writes on from there: speculative decoding (arXiv 2211.17192) with the briefing as the
//! model that guesses. A look reads a few tokens in one pass; nothing is decoded over the full cache, and what comes out is what
//! would have been.

use candle_core::{DType, Tensor};
use lb_model::{GenerateOptions, KvCache};

use super::Draft;
use super::passes::{Ahead, Work};
use crate::{Error, Result};

/// One draft on its way.
struct Trial {
    /// The task and what is agreed behind the full cache, and the token that comes next there.
    full: KvCache,
    next: u32,
    /// The same behind the first briefing, as far as it was read there, and the logits of its end.
    briefed: KvCache,
    logits: Tensor,
    /// Positions before the draft, in either cache.
    begin: usize,
    /// Read over the full cache, with its queries by layer of the model.
    tokens: Vec<u32>,
    queries: Vec<Vec<Tensor>>,
    /// The full cache's own token, behind all of these; not read yet.
    corrected: Option<u32>,
    /// Tokens to be written before the next look.
    stride: usize,
    done: bool,
}

/// Tokens that are written between two looks at most: what is wrong is written in vain.
const LONGEST: usize = 16;

impl Work<'_> {
    /// Writes drafts over first briefings with the tasks behind them, and takes their queries in.
    pub(super) fn hold(self, ahead: &mut [Ahead], draft: Draft, caches: Vec<KvCache>) -> Result<()> {
        let begin = |(ahead, briefed): (&Ahead, KvCache)| {
            let (full, begin, logits) = (ahead.behind.fork(), briefed.logical_len(), ahead.logits.clone());
            let next = likeliest(&ahead.logits.unsqueeze(0).map_err(lb_model::Error::from)?)?[0];
            let (tokens, queries, corrected) = (Vec::new(), Vec::new(), None);
            let stride = if draft.check == 0 { draft.tokens } else { draft.check };
            Ok(Trial { full, next, briefed, logits, begin, tokens, queries, corrected, stride, done: false })
        };
        let mut trials: Vec<Trial> = ahead.iter().zip(caches).map(begin).collect::<Result<_>>()?;
        loop {
            let mut open: Vec<(usize, &mut Trial)> =
                trials.iter_mut().enumerate().filter(|(_, trial)| !trial.done).collect();
            if open.is_empty() {
                break;
            }
            let numbers: Vec<usize> = open.iter().map(|(number, _)| *number).collect();
            let written = self.go_on(&mut open, draft).map_err(|error| error.at_calls(&numbers))?;
            for ((number, trial), written) in open.into_iter().zip(written) {
                let read = self.look(trial, &written, draft);
                ahead[number].pass.prefilled += read.map_err(|error| error.in_call(number))?;
            }
        }
        for (ahead, trial) in ahead.iter_mut().zip(trials) {
            let Trial { tokens, queries, .. } = trial;
            if !queries.is_empty() {
                self.take(&mut ahead.pass, self.reader.context.model().join_queries(&queries)?)?;
            }
            ahead.pass.draft = tokens;
        }
        Ok(())
    }

    /// What each first briefing writes next.
    fn go_on(self, open: &mut [(usize, &mut Trial)], draft: Draft) -> Result<Vec<Vec<u32>>> {
        let (mut caches, mut ends, mut unread) = (Vec::new(), Vec::new(), Vec::new());
        for (_, trial) in open.iter_mut() {
            let tokens = trial.unread();
            if !tokens.is_empty() {
                caches.push(&mut trial.briefed);
                ends.push(&mut trial.logits);
                unread.push(tokens);
            }
        }
        if !unread.is_empty() {
            let read = self.reader.prefill_batch(&unread, &mut caches)?;
            ends.into_iter().zip(read).for_each(|(end, read)| *end = read);
        }
        // Where there is room for no more, one token is written and forgotten.
        let rooms: Vec<usize> = open.iter().map(|(_, trial)| trial.room(draft.tokens)).collect();
        let options: Vec<GenerateOptions> =
            rooms.iter().map(|room| GenerateOptions::greedy((*room).max(1))).collect();
        let logits: Vec<Tensor> = open.iter().map(|(_, trial)| trial.logits.clone()).collect();
        let mut caches: Vec<&mut KvCache> = open.iter_mut().map(|(_, trial)| &mut trial.briefed).collect();
        let mut written = self.write(&mut caches, &logits, &options)?;
        for (written, room) in written.iter_mut().zip(rooms) {
            written.truncate(room);
        }
        Ok(written)
    }

    fn ends(self, token: u32) -> bool {
        self.reader.context.worker().tokenizer().eos_ids().contains(&token)
    }

    /// Reads what was written over the full cache and keeps what it agrees with, or all of it where nobody looks. Tokens that were
    /// read.
    fn look(self, trial: &mut Trial, written: &[u32], draft: Draft) -> Result<usize> {
        let model = self.reader.context.model();
        let tokens: Vec<u32> = trial.corrected.take().into_iter().chain(written.iter().copied()).collect();
        let mut agreed = 0;
        for part in tokens.chunks(self.reader.context.settings.prefill.chunk) {
            self.reader.guard.check()?;
            let captured = model.forward_all_capturing(part, &mut trial.full)?;
            // What the full cache would have written in the place of each of these tokens.
            let mut wanted = vec![trial.next];
            wanted.extend(likeliest(&captured.logits)?);
            let same = part.iter().zip(&wanted).take_while(|(token, wanted)| token == wanted).count();
            let kept = if draft.check == 0 { part.len() } else { same };
            trial.full.truncate(trial.full.logical_len() - (part.len() - kept))?;
            trial.next = wanted[kept];
            if kept > 0 {
                let first: Vec<u32> = (0..kept as u32).collect();
                trial.queries.push(model.pick_queries(&captured.queries, &first)?);
            }
            agreed += kept;
            if kept < part.len() {
                break;
            }
        }
        trial.tokens.extend(&tokens[..agreed]);
        let sure = trial.begin + trial.tokens.len();
        trial.briefed.truncate(sure.min(trial.briefed.logical_len()))?;
        // A briefing that guesses well is trusted further.
        trial.stride = if agreed < tokens.len() { agreed.max(2) } else { 2 * trial.stride }.min(LONGEST);
        let stop = self.ends(trial.next);
        trial.done = draft.check == 0 || stop || trial.tokens.len() == draft.tokens;
        trial.corrected = (!trial.done).then_some(trial.next);
        Ok(tokens.len())
    }
}

impl Trial {
    /// What is agreed, or wanted by the full cache, and was not read behind the first briefing.
    fn unread(&self) -> Vec<u32> {
        let known = self.briefed.logical_len() - self.begin;
        self.tokens[known..].iter().copied().chain(self.corrected).collect()
    }

    /// How many tokens may be written now.
    fn room(&self, most: usize) -> usize {
        self.stride.min(most - self.tokens.len() - usize::from(self.corrected.is_some()))
    }
}

/// The likeliest token of each row.
fn likeliest(logits: &Tensor) -> Result<Vec<u32>> {
    let of_rows = |logits: &Tensor| logits.to_dtype(DType::F32)?.argmax(1)?.to_vec1();
    of_rows(logits).map_err(|error| Error::from(lb_model::Error::from(error)))
}
