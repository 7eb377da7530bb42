//! Several answers at once, each until something says stop.

use std::borrow::BorrowMut;
use std::time::Instant;

use candle_core::Tensor;

use crate::attention::Heard;
use crate::batch::{check_count, pick, rows};
use crate::generate::{Decoding, Next};
use crate::model::Rows;
use crate::{Error, GenerateOptions, Generation, KvCache, PrefillOptions, Result, Worker};

/// Hears the number of a sequence, its token and the text that it completes; false stops that sequence.
type OnToken<'a> = &'a mut dyn FnMut(usize, u32, &str) -> bool;

/// Hears the number of a sequence, the queries of the token that it has just read, by layer, and its cache.
type OnRead<'a> = &'a mut dyn FnMut(usize, Vec<Tensor>, &mut KvCache) -> Result<()>;

/// The logits in front of what is guessed, and the guess.
struct Guess<'a> {
    logits: Tensor,
    tokens: &'a [u32],
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
        let generations = self.decode_batch(&mut caches, logits, decodings, on_token, None)?;
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
        self.decode_batch(&mut caches, logits.to_vec(), decodings, on_token, None)
    }

    /// Like [`generate_batch_from_logits`](Self::generate_batch_from_logits) where the beginning of each answer was guessed: the
    /// guess is read in one pass, and as many of its tokens as the worker would have written itself, drawn as always, are written
    /// then; the rest is forgotten. What comes out is the same for any guess, but for the order of summation; a good one saves
    /// a pass for each token.
    ///
    /// `on_read` hears the number of a sequence and the queries of what it has read, one token or those of a guess that agreed, per
    /// layer `[kv_heads, group_size * tokens, head_dim]`; it may put another cache of the same logical length in the place of the
    /// sequence's, for instance a newer briefing with the same answer behind it.
    ///
    /// An empty guess costs nothing. Caches must be such that what is read behind them can be cut off again
    /// ([`truncate`](KvCache::truncate)).
    ///
    /// # Errors
    /// Those of [`generate_batch_from_logits`](Self::generate_batch_from_logits); [`Error::TokenRange`] for a guess that has other
    /// tokens.
    pub fn generate_batch_guessed(
        &self,
        caches: &mut [KvCache],
        logits: &[Tensor],
        guesses: &[Vec<u32>],
        options: &[GenerateOptions],
        on_token: OnToken<'_>,
        on_read: Option<OnRead<'_>>,
    ) -> Result<Vec<Generation>> {
        check_count("options", options.len(), logits.len())?;
        check_count("caches", caches.len(), logits.len())?;
        check_count("guesses", guesses.len(), logits.len())?;
        let decodings = start(self, options)?;
        let mut caches: Vec<&mut KvCache> = caches.iter_mut().collect();
        for (index, (logits, cache)) in logits.iter().zip(&caches).enumerate() {
            let fits = self.check_logits(logits).and_then(|()| self.model().check_cache(cache));
            fits.map_err(|error| error.in_sequence(index))?;
        }
        self.decode_guessed(&mut caches, logits.to_vec(), guesses, decodings, on_token, on_read)
    }

    fn decode_batch(
        &self,
        caches: &mut [&mut KvCache],
        logits: Vec<Tensor>,
        decodings: Vec<Decoding<'_>>,
        on_token: OnToken<'_>,
        on_read: Option<OnRead<'_>>,
    ) -> Result<Vec<Generation>> {
        let guesses = vec![Vec::new(); logits.len()];
        self.decode_guessed(caches, logits, &guesses, decodings, on_token, on_read)
    }

    fn decode_guessed(
        &self,
        caches: &mut [&mut KvCache],
        logits: Vec<Tensor>,
        guesses: &[Vec<u32>],
        decodings: Vec<Decoding<'_>>,
        on_token: OnToken<'_>,
        mut on_read: Option<OnRead<'_>>,
    ) -> Result<Vec<Generation>> {
        let begin = Instant::now();
        let mut done: Vec<Option<Generation>> = (0..caches.len()).map(|_| None).collect();
        let (mut live, mut tokens): (Vec<(usize, Decoding)>, Vec<[u32; 1]>) = (Vec::new(), Vec::new());
        for ((index, mut decoding), logits) in decodings.into_iter().enumerate().zip(logits) {
            let mut hear = |token: u32, text: &str| on_token(index, token, text);
            let guess = Guess { logits, tokens: &guesses[index] };
            let (next, agreed) = self
                .hold_to(&mut decoding, guess, caches[index], &mut hear)
                .map_err(|error| error.in_sequence(index))?;
            match next {
                Next::Stop(reason) => done[index] = Some(decoding.finish(self, reason, begin.elapsed())?),
                Next::Read(token) => {
                    if let (Some(on_read), Some(queries)) = (&mut on_read, agreed) {
                        self.hear_read(index, queries, caches[index], on_read)?;
                    }
                    live.push((index, decoding));
                    tokens.push([token]);
                }
            }
        }
        while !live.is_empty() {
            let logits = self.step(caches, &live, &tokens, &mut on_read)?;
            tokens.clear();
            let mut going = Vec::with_capacity(live.len());
            for ((index, mut decoding), logits) in live.into_iter().zip(logits) {
                let mut hear = |token: u32, text: &str| on_token(index, token, text);
                let read = caches[index].logical_len();
                let next = decoding.take(self, &logits, read, &mut hear);
                match next.map_err(|error| error.in_sequence(index))? {
                    Next::Read(token) => {
                        tokens.push([token]);
                        going.push((index, decoding));
                    }
                    Next::Stop(reason) => {
                        done[index] = Some(decoding.finish(self, reason, begin.elapsed())?);
                    }
                }
            }
            live = going;
        }
        Ok(done.into_iter().flatten().collect())
    }

    /// Reads a guess and writes those of its first tokens that `decoding` draws itself; what is to be done next, and the queries of
    /// the tokens that agreed.
    fn hold_to(
        &self,
        decoding: &mut Decoding<'_>,
        Guess { mut logits, tokens: guess }: Guess<'_>,
        cache: &mut KvCache,
        on_token: &mut dyn FnMut(u32, &str) -> bool,
    ) -> Result<(Next, Option<Vec<Tensor>>)> {
        let before = cache.logical_len();
        let room = self.config().position_limit().saturating_sub(before);
        // The last token of an answer is not read.
        let guess = &guess[..guess.len().min(room).min(decoding.most() - 1)];
        if guess.is_empty() {
            return Ok((decoding.take(self, &logits, before, on_token)?, None));
        }
        let read = self.model().forward_all_capturing(guess, cache)?;
        let mut agreed = 0;
        let next = loop {
            match decoding.take(self, &logits, before + agreed, on_token)? {
                Next::Read(token) if guess.get(agreed) == Some(&token) => {
                    logits = read.logits.get(agreed)?;
                    agreed += 1;
                }
                next => break next,
            }
        };
        cache.truncate(before + agreed)?;
        if agreed == 0 {
            return Ok((next, None));
        }
        let first: Vec<u32> = (0..agreed as u32).collect();
        Ok((next, Some(self.model().pick_queries(&read.queries, &first)?)))
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

    /// One token of each sequence that goes on.
    fn step(
        &self,
        caches: &mut [&mut KvCache],
        live: &[(usize, Decoding<'_>)],
        tokens: &[[u32; 1]],
        on_read: &mut Option<OnRead<'_>>,
    ) -> Result<Vec<Tensor>> {
        if live.is_empty() {
            return Ok(Vec::new());
        }
        let mut chosen = pick(caches, |number| live.iter().any(|(index, _)| *index == number));
        let tokens: Vec<&[u32]> = tokens.iter().map(<[u32; 1]>::as_slice).collect();
        let Some(on_read) = on_read else {
            return rows(&self.model().run(&tokens, &mut chosen, Rows::Last, None, None)?);
        };
        let mut queries = vec![Vec::new(); tokens.len()];
        let mut capture = |_: usize, number: usize, heard: Heard| queries[number].push(heard.queries);
        let logits = self.model().run(&tokens, &mut chosen, Rows::Last, None, Some(&mut capture))?;
        for (((index, _), queries), cache) in live.iter().zip(queries).zip(chosen) {
            self.hear_read(*index, queries, cache, on_read)?;
        }
        rows(&logits)
    }
}

fn start<'a>(worker: &'a Worker, options: &'a [GenerateOptions]) -> Result<Vec<Decoding<'a>>> {
    let start = |(index, options)| Decoding::new(worker, options).map_err(|error| error.in_sequence(index));
    options.iter().enumerate().map(start).collect()
}
