//! Several answers at once, each until something says stop.

use std::borrow::BorrowMut;
use std::time::Instant;

use candle_core::Tensor;

use crate::attention::Heard;
use crate::batch::{check_count, pick};
use crate::generate::{Decoding, Next};
use crate::model::{Capture, Rows};
use crate::{Error, GenerateOptions, Generation, KvCache, PrefillOptions, Result, Worker};

/// Hears the number of a sequence, its token and the text that it completes; false stops that sequence.
type OnToken<'a> = &'a mut dyn FnMut(usize, u32, &str) -> bool;

/// Hears a token, the text that it completes, and the logits (`[vocab]`, f32) that it was chosen by; false stops the sequence.
pub(crate) type OnChosen<'a> = &'a mut dyn FnMut(u32, &str, &Tensor) -> bool;

/// Hears the number of a sequence, the queries of the token that it has just read, by layer, and its cache.
type OnRead<'a> = &'a mut dyn FnMut(usize, Vec<Tensor>, &mut KvCache) -> Result<()>;

/// Says what a sequence may write next: its number, what it has written, and how many tokens at most.
type Guess<'a> = &'a mut dyn FnMut(usize, &[u32], usize) -> Vec<u32>;

/// One sequence that goes on.
pub(crate) struct Live<'a> {
    pub(crate) index: usize,
    pub(crate) decoding: Decoding<'a>,
    /// Written, and not read yet; `None` at the beginning, when there are logits to begin with.
    pub(crate) pending: Option<u32>,
    /// What may follow.
    pub(crate) guess: Vec<u32>,
}

impl<'a> Live<'a> {
    pub(crate) fn begun(index: usize, decoding: Decoding<'a>) -> Self {
        Self { index, decoding, pending: None, guess: Vec::new() }
    }

    /// What it reads next.
    pub(crate) fn unread(&self) -> Vec<u32> {
        self.pending.iter().chain(&self.guess).copied().collect()
    }
}

/// What the tokens that a sequence has just read are followed by, and their queries where somebody wants to hear them.
pub(crate) struct Read {
    /// `[tokens, vocab]`.
    logits: Tensor,
    queries: Vec<Tensor>,
}

impl Read {
    /// Of its first tokens.
    fn queries_of(self, worker: &Worker, tokens: usize) -> Result<Vec<Tensor>> {
        if tokens == self.logits.dim(0)? {
            return Ok(self.queries);
        }
        let first: Vec<u32> = (0..tokens as u32).collect();
        worker.model().pick_queries(&self.queries, &first)
    }
}

impl Worker {
    /// Like [`generate`](Self::generate) for several sequences, each with its own cache, prompt and options: prompts are
    /// read together, and each token is one pass for all sequences that still go on. A sequence stops for its own reasons
    /// and leaves the others alone. `on_token` hears the number of the sequence first.
    ///
    /// Tokens are those of one call of [`generate`](Self::generate) for each: every sequence has its own sampler, and
    /// logits differ by the order of summation alone ([`forward_batch`](crate::Decoder::forward_batch)). Forks of one
    /// cache that are asked the same with the same seed give the same answer. Caches end as there too. Times are wall
    /// times: of reading all prompts, and of all tokens until this sequence stopped.
    ///
    /// # Errors
    /// [`Error::Sequence`](crate::Error::Sequence) with the errors of [`generate`](Self::generate) for the first sequence
    /// at fault, [`Error::Shape`](crate::Error::Shape) where there are not as many caches and options as prompts. Where
    /// input is at fault all caches are as before; otherwise the tokens read until then stay in them.
    pub fn generate_batch<C: BorrowMut<KvCache>>(
        &self,
        caches: &mut [C],
        prompts: &[impl AsRef<[u32]>],
        options: &[GenerateOptions],
        on_token: OnToken<'_>,
    ) -> Result<Vec<Generation>> {
        check_count("options", options.len(), prompts.len())?;
        let decodings = start(self, options)?;
        let mut caches: Vec<&mut KvCache> = caches.iter_mut().map(BorrowMut::borrow_mut).collect();
        let begin = Instant::now();
        let read = PrefillOptions::default();
        let logits = self.model().prefill_batch(prompts, &mut caches, &read, &mut |_, _| {})?;
        let prefill = begin.elapsed();
        let generations = self.decode_batch(&mut caches, logits, decodings, on_token)?;
        Ok(generations.into_iter().map(|generation| Generation { prefill, ..generation }).collect())
    }

    /// Like [`generate_batch`](Self::generate_batch) for caches whose prompts are already read, from the logits of their
    /// last tokens (`[vocab]` each, f32).
    ///
    /// # Errors
    /// Those of [`generate_batch`](Self::generate_batch), [`Error::Shape`](crate::Error::Shape) for other logits.
    pub fn generate_batch_from_logits<C: BorrowMut<KvCache>>(
        &self,
        caches: &mut [C],
        logits: &[Tensor],
        options: &[GenerateOptions],
        on_token: OnToken<'_>,
    ) -> Result<Vec<Generation>> {
        check_count("options", options.len(), logits.len())?;
        check_count("caches", caches.len(), logits.len())?;
        let decodings = start(self, options)?;
        let mut caches: Vec<&mut KvCache> = caches.iter_mut().map(BorrowMut::borrow_mut).collect();
        for (index, (logits, cache)) in logits.iter().zip(&caches).enumerate() {
            let fits = self.check_logits(logits).and_then(|()| self.model().check_cache(cache));
            fits.map_err(|error| error.in_sequence(index))?;
        }
        self.decode_batch(&mut caches, logits.to_vec(), decodings, on_token)
    }

    /// Like [`generate_batch_from_logits`](Self::generate_batch_from_logits) where somebody guesses how answers go on: a
    /// guess is read in one pass with the token before it, and as many of its tokens as the worker would have written itself, drawn as
    /// always, are written then; the rest is forgotten (speculative decoding, arXiv 2211.17192). What comes out is the same for any guess,
    /// but for the order of summation; a good one saves a pass for each token.
    ///
    /// `guess` is asked before each pass, with the number of a sequence, what it has written so far and how many tokens it has room for;
    /// before the first one nothing is written. [`Lookup`](crate::Lookup) guesses from a text. An empty guess costs nothing, and tokens
    /// beyond the room are left out.
    ///
    /// `on_read` hears the number of a sequence and the queries of what it has read, one token and those of a guess that agreed, per
    /// layer `[kv_heads, group_size * tokens, head_dim]`; it may put another cache of the same logical length in the place of the
    /// sequence's, for instance a newer briefing with the same answer behind it. It is not called where the answer has ended.
    ///
    /// Caches must be such that what is read behind them can be cut off again ([`truncate`](KvCache::truncate)).
    ///
    /// # Errors
    /// Those of [`generate_batch_from_logits`](Self::generate_batch_from_logits); [`Error::TokenRange`] for a guess that has other
    /// tokens.
    pub fn generate_batch_guessed(
        &self,
        caches: &mut [KvCache],
        logits: &[Tensor],
        options: &[GenerateOptions],
        on_token: OnToken<'_>,
        guess: Guess<'_>,
        on_read: Option<OnRead<'_>>,
    ) -> Result<Vec<Generation>> {
        check_count("options", options.len(), logits.len())?;
        check_count("caches", caches.len(), logits.len())?;
        let decodings = start(self, options)?;
        let mut caches: Vec<&mut KvCache> = caches.iter_mut().collect();
        for (index, (logits, cache)) in logits.iter().zip(&caches).enumerate() {
            let fits = self.check_logits(logits).and_then(|()| self.model().check_cache(cache));
            fits.map_err(|error| error.in_sequence(index))?;
        }
        self.decode_guessed(&mut caches, logits.to_vec(), decodings, on_token, guess, on_read)
    }

    fn decode_batch(
        &self,
        caches: &mut [&mut KvCache],
        logits: Vec<Tensor>,
        decodings: Vec<Decoding<'_>>,
        on_token: OnToken<'_>,
    ) -> Result<Vec<Generation>> {
        self.decode_guessed(caches, logits, decodings, on_token, &mut |_, _, _| Vec::new(), None)
    }

    fn decode_guessed(
        &self,
        caches: &mut [&mut KvCache],
        logits: Vec<Tensor>,
        decodings: Vec<Decoding<'_>>,
        on_token: OnToken<'_>,
        guess: Guess<'_>,
        mut on_read: Option<OnRead<'_>>,
    ) -> Result<Vec<Generation>> {
        let begin = Instant::now();
        let mut done: Vec<Option<Generation>> = (0..caches.len()).map(|_| None).collect();
        let begun = |(index, decoding)| Live::begun(index, decoding);
        let mut live: Vec<Live<'_>> = decodings.into_iter().enumerate().map(begun).collect();
        // Of the tokens that were read before; needed where nothing is.
        let mut before = logits;
        while !live.is_empty() {
            for live in &mut live {
                self.guess(live, caches[live.index], guess).map_err(|error| error.in_sequence(live.index))?;
            }
            let unread = live.iter().map(|live| (live.index, live.unread()));
            let mut read = self.read(caches, unread, on_read.is_some())?.into_iter();
            let mut going = Vec::with_capacity(live.len());
            for mut live in live {
                let index = live.index;
                let own = if live.unread().is_empty() { None } else { read.next() };
                let mut hear = |token: u32, text: &str, _: &Tensor| on_token(index, token, text);
                let held = self.hold(&mut live, before.get(index), own.as_ref(), caches[index], &mut hear);
                let (next, stays) = held.map_err(|error| error.in_sequence(index))?;
                match next {
                    Next::Stop(reason) => {
                        done[index] = Some(live.decoding.finish(self, reason, begin.elapsed())?);
                    }
                    Next::Read(token) => {
                        if let (Some(on_read), Some(own)) = (&mut on_read, own)
                            && stays > 0
                        {
                            let queries = own.queries_of(self, stays)?;
                            self.hear_read(index, queries, caches[index], on_read)?;
                        }
                        live.pending = Some(token);
                        going.push(live);
                    }
                }
            }
            live = going;
            before.clear();
        }
        Ok(done.into_iter().flatten().collect())
    }

    pub(crate) fn guess(&self, live: &mut Live<'_>, cache: &KvCache, guess: Guess<'_>) -> Result<()> {
        let positions = self.config().position_limit().saturating_sub(cache.logical_len());
        // The last token of an answer is not read.
        let written = live.decoding.written();
        let room = (live.decoding.most() - written.len() - 1)
            .min(positions.saturating_sub(usize::from(live.pending.is_some())));
        live.guess = if room == 0 { Vec::new() } else { guess(live.index, written, room) };
        live.guess.truncate(room);
        self.model().check_ids(&live.guess)
    }

    /// What every sequence, by its number, has not read yet, in one pass; what has nothing to read is left out.
    pub(crate) fn read(
        &self,
        caches: &mut [&mut KvCache],
        unread: impl Iterator<Item = (usize, Vec<u32>)>,
        listens: bool,
    ) -> Result<Vec<Read>> {
        let (numbers, tokens): (Vec<usize>, Vec<Vec<u32>>) =
            unread.filter(|(_, tokens)| !tokens.is_empty()).unzip();
        if tokens.is_empty() {
            return Ok(Vec::new());
        }
        let parts: Vec<&[u32]> = tokens.iter().map(Vec::as_slice).collect();
        let wanted = if parts.iter().all(|part| part.len() == 1) { Rows::Last } else { Rows::All };
        let mut chosen = pick(caches, |number| numbers.contains(&number));
        let mut queries = vec![Vec::new(); parts.len()];
        let mut capture = |_: usize, number: usize, heard: Heard| queries[number].push(heard.queries);
        let capture: Capture<'_> = if listens { Some(&mut capture) } else { None };
        let logits = self.model().run(&parts, &mut chosen, wanted, None, capture)?;
        let mut from = 0;
        let read = queries.into_iter().zip(parts).map(|(queries, part)| {
            let logits = logits.narrow(0, from, part.len())?;
            from += part.len();
            Ok(Read { logits, queries })
        });
        read.collect()
    }

    /// Writes the token that the logits ask for, and those that follow as long as they are the guess; what was read in vain is
    /// forgotten. What is next, and how many of the tokens that were read stay.
    pub(crate) fn hold(
        &self,
        live: &mut Live<'_>,
        before: Option<&Tensor>,
        read: Option<&Read>,
        cache: &mut KvCache,
        on_token: OnChosen<'_>,
    ) -> Result<(Next, usize)> {
        let pending = usize::from(live.pending.is_some());
        let all = pending + live.guess.len();
        let begin = cache.logical_len() - all;
        let row = |row: usize| -> Result<Tensor> {
            let read = read.ok_or(Error::Empty { arg: "tokens" })?;
            Ok(read.logits.get(row)?)
        };
        let mut logits = match before {
            Some(before) => before.clone(),
            None => row(0)?,
        };
        let mut stays = pending;
        let next = loop {
            let mut hear = |token: u32, text: &str| on_token(token, text, &logits);
            match live.decoding.take(self, &logits, begin + stays, &mut hear) {
                Ok(Next::Read(token)) if live.guess.get(stays - pending) == Some(&token) => {
                    logits = row(stays)?;
                    stays += 1;
                }
                next => break next,
            }
        };
        if stays < all {
            cache.truncate(begin + stays)?;
        }
        Ok((next?, stays))
    }

    fn hear_read(
        &self,
        index: usize,
        queries: Vec<Tensor>,
        cache: &mut KvCache,
        on_read: &mut OnRead<'_>,
    ) -> Result<()> {
        let read = cache.logical_len();
        on_read(index, queries, cache)?;
        if cache.logical_len() != read {
            let reason = format!("stood for {read} positions and stands for {} now", cache.logical_len());
            return Err(Error::cache(reason).in_sequence(index));
        }
        self.model().check_cache(cache).map_err(|error| error.in_sequence(index))
    }
}

fn start<'a>(worker: &'a Worker, options: &'a [GenerateOptions]) -> Result<Vec<Decoding<'a>>> {
    let start = |(index, options)| Decoding::new(worker, options).map_err(|error| error.in_sequence(index));
    options.iter().enumerate().map(start).collect()
}
