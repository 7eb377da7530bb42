//! Drafts over the full cache, and drafts that are held to it.
//!
//! A draft over a first briefing is read over the full cache, for its queries. That pass also says where the full cache would
//! have written something else, and what. What stands behind such a place answers another question, so it is thrown away, the full
//! cache's token is taken, and the first briefing writes on from there: speculative decoding (arXiv 2211.17192) with the briefing as the
//! model that guesses. A look reads a few tokens in one pass; nothing is decoded over the full cache, and what comes out is what
//! would have been. Where a draft quotes the trajectory, the text itself guesses first, and not even the briefing writes.

use candle_core::{DType, Tensor};
use lb_model::{GenerateOptions, KvCache, Lookup};

use super::Draft;
use super::passes::{Ahead, Work};
use crate::{Error, Result};

/// One draft on its way.
struct Trial<'a> {
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
    /// The trajectory's text, as far as it may be guessed from.
    text: Lookup<'a>,
    /// Whether it did so last.
    quoted: bool,
    done: bool,
}

/// Tokens that are written between two looks at most: what is wrong is written in vain.
const LONGEST: usize = 16;

impl Work<'_> {
    /// Writes drafts over the full cache, and takes their queries in.
    pub(super) fn write_over_full(self, ahead: &mut [Ahead], draft: Draft) -> Result<()> {
        let (worker, model) = (self.reader.context.worker(), self.reader.context.model());
        let mut caches: Vec<KvCache> = ahead.iter().map(|ahead| ahead.behind.fork()).collect();
        let logits: Vec<Tensor> = ahead.iter().map(|ahead| ahead.logits.clone()).collect();
        let options = vec![GenerateOptions::greedy(draft.tokens); caches.len()];
        let mut lookups = vec![Lookup::new(self.reader.context.texts(), Vec::new()); ahead.len()];
        let mut queries: Vec<Vec<Vec<Tensor>>> = vec![Vec::new(); ahead.len()];
        let made = worker.generate_batch_guessed(
            &mut caches,
            &logits,
            &options,
            &mut |_, _, _| self.reader.guard.goes_on(),
            &mut |index, written, most| lookups[index].guess(written, most),
            Some(&mut |index, heard, _| {
                queries[index].push(heard);
                Ok(())
            }),
        );
        let made = made.map_err(|error| Error::of_sequence(error, |index| index))?;
        self.reader.guard.check()?;
        let group = worker.config().group_size();
        for (((ahead, made), mut queries), mut cache) in ahead.iter_mut().zip(made).zip(queries).zip(caches) {
            let mut heard = 0;
            for part in &queries {
                heard += part[0].dim(1).map_err(lb_model::Error::from)? / group;
            }
            // The end of a draft, which nothing followed, was not heard of.
            cache.truncate(ahead.behind.logical_len() + heard)?;
            if heard < made.tokens.len() {
                queries.push(model.forward_all_capturing(&made.tokens[heard..], &mut cache)?.queries);
            }
            ahead.pass.prefilled += made.tokens.len();
            if !queries.is_empty() {
                self.take(&mut ahead.pass, model.join_queries(&queries)?)?;
            }
            ahead.pass.draft = made.tokens;
        }
        Ok(())
    }

    /// Writes drafts over first briefings with the tasks behind them, and takes their queries in.
    pub(super) fn hold(self, ahead: &mut [Ahead], draft: Draft, caches: Vec<KvCache>) -> Result<()> {
        // Nobody would tell what is quoted wrongly from what is not.
        let texts = if draft.check > 0 { self.reader.context.texts() } else { Vec::new() };
        let begin = |(ahead, briefed): (&Ahead, KvCache)| {
            let (full, begin, logits) = (ahead.behind.fork(), briefed.logical_len(), ahead.logits.clone());
            let next = likeliest(&ahead.logits.unsqueeze(0).map_err(lb_model::Error::from)?)?[0];
            let (tokens, queries, corrected) = (Vec::new(), Vec::new(), None);
            let stride = if draft.check == 0 { draft.tokens } else { draft.check };
            let text = Lookup::new(texts.clone(), Vec::new());
            let (quoted, done) = (false, false);
            Ok(Trial {
                full,
                next,
                briefed,
                logits,
                begin,
                tokens,
                queries,
                corrected,
                stride,
                text,
                quoted,
                done,
            })
        };
        let mut trials: Vec<Trial<'_>> = ahead.iter().zip(caches).map(begin).collect::<Result<_>>()?;
        while trials.iter().any(|trial| !trial.done) {
            let mut written: Vec<Vec<u32>> = trials.iter_mut().map(|trial| trial.quote(draft)).collect();
            let (mut open, mut numbers) = (Vec::new(), Vec::new());
            for (number, trial) in trials.iter_mut().enumerate() {
                if !trial.done && !trial.quoted && trial.room(draft.tokens) > 0 {
                    open.push(trial);
                    numbers.push(number);
                }
            }
            let over_briefings = self.go_on(&mut open, draft).map_err(|error| error.at_calls(&numbers))?;
            for (number, own) in numbers.iter().zip(over_briefings) {
                written[*number] = own;
            }
            for (number, (trial, written)) in trials.iter_mut().zip(written).enumerate() {
                if !trial.done {
                    let read = self.look(trial, &written, draft);
                    ahead[number].pass.prefilled += read.map_err(|error| error.in_call(number))?;
                }
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
    fn go_on(self, open: &mut [&mut Trial<'_>], draft: Draft) -> Result<Vec<Vec<u32>>> {
        if open.is_empty() {
            return Ok(Vec::new());
        }
        let (mut caches, mut ends, mut unread) = (Vec::new(), Vec::new(), Vec::new());
        for trial in open.iter_mut() {
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
        let room = |trial: &&mut Trial<'_>| trial.room(draft.tokens).min(trial.stride);
        let options: Vec<GenerateOptions> = open.iter().map(room).map(GenerateOptions::greedy).collect();
        let logits: Vec<Tensor> = open.iter().map(|trial| trial.logits.clone()).collect();
        let mut caches: Vec<&mut KvCache> = open.iter_mut().map(|trial| &mut trial.briefed).collect();
        self.write(&mut caches, &logits, &options)
    }

    fn ends(self, token: u32) -> bool {
        self.reader.context.worker().tokenizer().eos_ids().contains(&token)
    }

    /// Reads what was written over the full cache and keeps what it agrees with, or all of it where nobody looks. Tokens that were
    /// read.
    fn look(self, trial: &mut Trial<'_>, written: &[u32], draft: Draft) -> Result<usize> {
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
        if !trial.quoted {
            trial.stride = if agreed < tokens.len() { agreed.max(2) } else { 2 * trial.stride }.min(LONGEST);
        }
        let stop = self.ends(trial.next);
        trial.done = draft.check == 0 || stop || trial.tokens.len() == draft.tokens;
        trial.corrected = (!trial.done).then_some(trial.next);
        Ok(tokens.len())
    }
}

impl Trial<'_> {
    /// What the trajectory's text has behind the last tokens of the draft, if they are in it.
    fn quote(&mut self, draft: Draft) -> Vec<u32> {
        let known: Vec<u32> = self.tokens.iter().copied().chain(self.corrected).collect();
        let room = if self.done { 0 } else { self.room(draft.tokens) };
        let guess = self.text.guess(&known, room);
        self.quoted = !guess.is_empty();
        guess
    }

    /// What is agreed, or wanted by the full cache, and was not read behind the first briefing.
    fn unread(&self) -> Vec<u32> {
        let known = self.briefed.logical_len() - self.begin;
        self.tokens[known..].iter().copied().chain(self.corrected).collect()
    }

    /// How many tokens there is room for in the draft.
    fn room(&self, most: usize) -> usize {
        most - self.tokens.len() - usize::from(self.corrected.is_some())
    }
}

/// The likeliest token of each row.
fn likeliest(logits: &Tensor) -> Result<Vec<u32>> {
    let of_rows = |logits: &Tensor| logits.to_dtype(DType::F32)?.argmax(1)?.to_vec1();
    of_rows(logits).map_err(|error| Error::from(lb_model::Error::from(error)))
}
