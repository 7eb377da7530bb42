//! Several answers at once, each until something says stop.

use std::borrow::BorrowMut;
use std::time::Instant;

use candle_core::Tensor;

use crate::batch::{check_count, pick, rows};
use crate::generate::{Decoding, Next};
use crate::model::Rows;
use crate::{GenerateOptions, Generation, KvCache, PrefillOptions, Result, Worker};

/// Hears the number of a sequence, its token and the text that it completes; false stops that sequence.
type OnToken<'a> = &'a mut dyn FnMut(usize, u32, &str) -> bool;

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

    fn decode_batch(
        &self,
        caches: &mut [&mut KvCache],
        mut logits: Vec<Tensor>,
        decodings: Vec<Decoding<'_>>,
        on_token: OnToken<'_>,
    ) -> Result<Vec<Generation>> {
        let begin = Instant::now();
        let mut done: Vec<Option<Generation>> = (0..caches.len()).map(|_| None).collect();
        let mut live: Vec<(usize, Decoding)> = decodings.into_iter().enumerate().collect();
        while !live.is_empty() {
            let (mut going, mut tokens) = (Vec::with_capacity(live.len()), Vec::new());
            for ((index, mut decoding), logits) in live.into_iter().zip(logits) {
                let mut hear = |token: u32, text: &str| on_token(index, token, text);
                let next = decoding.take(self, &logits, caches[index], &mut hear);
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
            logits = self.step(caches, &live, &tokens)?;
        }
        Ok(done.into_iter().flatten().collect())
    }

    /// One token of each sequence that goes on.
    fn step(
        &self,
        caches: &mut [&mut KvCache],
        live: &[(usize, Decoding<'_>)],
        tokens: &[[u32; 1]],
    ) -> Result<Vec<Tensor>> {
        if live.is_empty() {
            return Ok(Vec::new());
        }
        let mut chosen = pick(caches, |number| live.iter().any(|(index, _)| *index == number));
        let tokens: Vec<&[u32]> = tokens.iter().map(<[u32; 1]>::as_slice).collect();
        rows(&self.model().run(&tokens, &mut chosen, Rows::Last, None, None)?)
    }
}

fn start<'a>(worker: &'a Worker, options: &'a [GenerateOptions]) -> Result<Vec<Decoding<'a>>> {
    let start = |(index, options)| Decoding::new(worker, options).map_err(|error| error.in_sequence(index));
    options.iter().enumerate().map(start).collect()
}
