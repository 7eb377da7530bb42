//! Several sequences in one pass, each behind its own cache.
//!
//! What is the same work for every row (projections, norms, feed-forward blocks, the head) is done once for the rows of
//! all sequences; positions and attention are each sequence's own. Nothing is padded.

use std::borrow::BorrowMut;

use candle_core::Tensor;

use crate::attention::Heard;
use crate::buffers;
use crate::config::check;
use crate::model::{Capture, HEADROOM, Rows, unbroken};
use crate::{Captured, Decoder, Error, KvCache, PrefillOptions, Result};

/// A piece of one sequence: which, and the tokens `from..to` of it.
type Piece = (usize, usize, usize);

impl Decoder {
    /// Reads each of `tokens` behind what the cache with the same number holds, all in one pass. Sequences may differ in
    /// length, caches in everything but the model. Caches that are forks of one are attended to together, so that what
    /// they share is read once.
    ///
    /// # Shapes
    /// For each sequence the logits of its last token, `[vocab]`, f32. Without sequences, nothing.
    ///
    /// # Numerics
    /// What [`forward`](Self::forward) gives for each sequence alone, in another order of summation: matrix products on the
    /// CPU sum differently for one row than for several, and over long caches by the number of rows. Within 1e-5 of the
    /// largest logit for f32 activations; where caches are in 16 bits, a key or value between two numbers may be rounded
    /// to the other one, 5e-3.
    ///
    /// # Errors
    /// [`Error::Sequence`] with the errors of [`forward`](Self::forward) for the first sequence whose input is at fault,
    /// [`Error::Shape`] where there are not as many caches as sequences, [`Error::Tensor`]. All caches are as before then.
    pub fn forward_batch<C: BorrowMut<KvCache>>(
        &self,
        tokens: &[impl AsRef<[u32]>],
        caches: &mut [C],
    ) -> Result<Vec<Tensor>> {
        let (tokens, mut caches) = self.checked(tokens, caches)?;
        if tokens.is_empty() {
            return Ok(Vec::new());
        }
        rows(&self.run(&tokens, &mut caches, Rows::Last, None, None)?)
    }

    /// Reads long inputs in as many passes as it takes. Each sequence is cut where [`prefill`](Self::prefill) cuts it, and
    /// a pass takes as many pieces of different sequences as fit [`PrefillOptions::chunk`] tokens. `progress` hears the
    /// tokens done and in all, of all sequences together.
    ///
    /// # Shapes
    /// For each sequence the logits of its last token, `[vocab]`, f32.
    ///
    /// # Errors
    /// Those of [`forward_batch`](Self::forward_batch), and [`Error::Config`] for a chunk of 0. All caches are as before
    /// then, however many passes there were.
    pub fn prefill_batch<C: BorrowMut<KvCache>>(
        &self,
        tokens: &[impl AsRef<[u32]>],
        caches: &mut [C],
        options: &PrefillOptions,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Vec<Tensor>> {
        self.prefill_batch_while(tokens, caches, options, &mut unbroken(progress))
    }

    /// Like [`prefill_batch`](Self::prefill_batch); where `go_on` returns false after a pass, the rest is not read.
    ///
    /// # Errors
    /// Those of [`prefill_batch`](Self::prefill_batch), [`Error::Interrupted`] where `go_on` said so before the last pass.
    pub fn prefill_batch_while<C: BorrowMut<KvCache>>(
        &self,
        tokens: &[impl AsRef<[u32]>],
        caches: &mut [C],
        options: &PrefillOptions,
        go_on: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<Vec<Tensor>> {
        check(options.chunk > 0, "chunk", options.chunk, "at least 1")?;
        let (tokens, mut caches) = self.checked(tokens, caches)?;
        if tokens.is_empty() {
            return Ok(Vec::new());
        }
        rows(&self.prefill_all(&tokens, &mut caches, *options, go_on, Rows::Last, None)?)
    }

    /// Like [`prefill_batch_while`](Self::prefill_batch_while) for the caches alone: no logits are made, which spares a pass
    /// over the head. A trajectory that is read segment by segment is worth it.
    ///
    /// # Errors
    /// Those of [`prefill_batch_while`](Self::prefill_batch_while).
    pub fn read_batch_while<C: BorrowMut<KvCache>>(
        &self,
        tokens: &[impl AsRef<[u32]>],
        caches: &mut [C],
        options: &PrefillOptions,
        go_on: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<()> {
        check(options.chunk > 0, "chunk", options.chunk, "at least 1")?;
        let (tokens, mut caches) = self.checked(tokens, caches)?;
        if tokens.is_empty() {
            return Ok(());
        }
        self.prefill_all(&tokens, &mut caches, *options, go_on, Rows::None, None).map(drop)
    }

    /// Like [`prefill_batch`](Self::prefill_batch), and hands out the queries of each sequence, as
    /// [`prefill_capturing`](Self::prefill_capturing) does.
    ///
    /// # Errors
    /// Those of [`prefill_batch`](Self::prefill_batch).
    pub fn prefill_capturing_batch<C: BorrowMut<KvCache>>(
        &self,
        tokens: &[impl AsRef<[u32]>],
        caches: &mut [C],
        options: &PrefillOptions,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Vec<Captured>> {
        self.prefill_capturing_batch_while(tokens, caches, options, &mut unbroken(progress))
    }

    /// Like [`prefill_capturing_batch`](Self::prefill_capturing_batch); where `go_on` returns false after a pass, the rest
    /// is not read.
    ///
    /// # Errors
    /// Those of [`prefill_batch_while`](Self::prefill_batch_while).
    pub fn prefill_capturing_batch_while<C: BorrowMut<KvCache>>(
        &self,
        tokens: &[impl AsRef<[u32]>],
        caches: &mut [C],
        options: &PrefillOptions,
        go_on: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<Vec<Captured>> {
        check(options.chunk > 0, "chunk", options.chunk, "at least 1")?;
        let (tokens, mut caches) = self.checked(tokens, caches)?;
        self.capture_all(&tokens, &mut caches, *options, go_on)
    }

    fn checked<'t, 'c, C: BorrowMut<KvCache>>(
        &self,
        tokens: &'t [impl AsRef<[u32]>],
        caches: &'c mut [C],
    ) -> Result<(Vec<&'t [u32]>, Vec<&'c mut KvCache>)> {
        let tokens: Vec<&[u32]> = tokens.iter().map(AsRef::as_ref).collect();
        let caches: Vec<&mut KvCache> = caches.iter_mut().map(BorrowMut::borrow_mut).collect();
        check_count("caches", caches.len(), tokens.len())?;
        for (index, (tokens, cache)) in tokens.iter().zip(&caches).enumerate() {
            self.check_input(tokens, cache).map_err(|error| error.in_sequence(index))?;
        }
        Ok((tokens, caches))
    }

    /// [`prefill_batch`](Self::prefill_batch) of at least one sequence whose input is checked, `[sequences, vocab]`, or no
    /// rows where none are wanted. `capture` hears each layer's queries piece by piece, with the number of the sequence.
    pub(crate) fn prefill_all(
        &self,
        tokens: &[&[u32]],
        caches: &mut [&mut KvCache],
        options: PrefillOptions,
        go_on: &mut dyn FnMut(usize, usize) -> bool,
        wanted: Rows,
        capture: Capture<'_>,
    ) -> Result<Tensor> {
        let before: Vec<_> = caches.iter().map(|cache| cache.mark()).collect();
        let result = self.prefill_passes(tokens, caches, options, go_on, wanted, capture);
        if result.is_err() {
            for (cache, before) in caches.iter_mut().zip(&before) {
                cache.roll_back(before)?;
            }
        }
        result
    }

    fn prefill_passes(
        &self,
        tokens: &[&[u32]],
        caches: &mut [&mut KvCache],
        options: PrefillOptions,
        go_on: &mut dyn FnMut(usize, usize) -> bool,
        wanted: Rows,
        mut capture: Capture<'_>,
    ) -> Result<Tensor> {
        let _keeper = buffers::keep();
        for (cache, tokens) in caches.iter_mut().zip(tokens) {
            cache.reserve(tokens.len(), HEADROOM)?;
        }
        let lengths: Vec<usize> = tokens.iter().map(|tokens| tokens.len()).collect();
        let (total, mut done) = (lengths.iter().sum(), 0);
        let mut last: Vec<Option<Tensor>> = vec![None; tokens.len()];
        for pass in passes(&lengths, options.chunk) {
            let parts: Vec<&[u32]> =
                pass.iter().map(|&(number, from, to)| &tokens[number][from..to]).collect();
            let mut chosen = pick(caches, |number| pass.iter().any(|piece| piece.0 == number));
            let mut heard = capture
                .as_mut()
                .map(|capture| |layer: usize, number: usize, heard| capture(layer, pass[number].0, heard));
            let heard: Capture<'_> =
                heard.as_mut().map(|heard| heard as &mut (dyn FnMut(usize, usize, Heard) + Send));
            // Only the logits of a sequence's end are wanted, if any.
            let ends = pass.iter().any(|&(number, _, to)| to == lengths[number]);
            let logits =
                self.run(&parts, &mut chosen, if ends { wanted } else { Rows::None }, None, heard)?;
            for (row, &(number, from, to)) in pass.iter().enumerate() {
                last[number] = (row < logits.dim(0)?).then(|| logits.narrow(0, row, 1)).transpose()?;
                done += to - from;
            }
            if !go_on(done, total) && done < total {
                return Err(Error::Interrupted);
            }
        }
        let last: Vec<Tensor> = last.into_iter().flatten().collect();
        match &last[..] {
            [] => self.logits_of_none(),
            [only] => Ok(only.clone()),
            _ => Ok(Tensor::cat(&last, 0)?),
        }
    }

    /// [`prefill_capturing_batch`](Self::prefill_capturing_batch) of sequences whose input is checked.
    pub(crate) fn capture_all(
        &self,
        tokens: &[&[u32]],
        caches: &mut [&mut KvCache],
        options: PrefillOptions,
        go_on: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<Vec<Captured>> {
        if tokens.is_empty() {
            return Ok(Vec::new());
        }
        let mut parts = vec![vec![Vec::new(); self.layers.len()]; tokens.len()];
        let mut capture =
            |layer: usize, number: usize, heard: Heard| parts[number][layer].push(heard.queries);
        let logits = self.prefill_all(tokens, caches, options, go_on, Rows::Last, Some(&mut capture))?;
        let group = self.config().group_size();
        let captured = |(layers, logits): (&Vec<Vec<Tensor>>, Tensor)| -> Result<Captured> {
            let queries = layers.iter().map(|parts| crate::queries::join(parts, group));
            Ok(Captured { queries: queries.collect::<Result<_>>()?, logits })
        };
        parts.iter().zip(rows(&logits)?).map(captured).collect()
    }
}

/// Fails unless there is one of `arg` for each of `wanted` sequences.
pub(crate) fn check_count(arg: &'static str, got: usize, wanted: usize) -> Result<()> {
    if got == wanted {
        return Ok(());
    }
    Err(Error::Shape { arg, expected: format!("[{wanted}], one for each sequence"), got: vec![got] })
}

/// The caches whose number is wanted, in order.
pub(crate) fn pick<'a>(
    caches: &'a mut [&mut KvCache],
    wanted: impl Fn(usize) -> bool,
) -> Vec<&'a mut KvCache> {
    let numbered = caches.iter_mut().enumerate().filter(|(number, _)| wanted(*number));
    numbered.map(|(_, cache)| &mut **cache).collect()
}

/// `[rows, n]` as `rows` tensors of `[n]`.
pub(crate) fn rows(x: &Tensor) -> Result<Vec<Tensor>> {
    (0..x.dim(0)?).map(|row| Ok(x.get(row)?)).collect()
}

/// Which pieces each pass takes: of every sequence its next `chunk` tokens or what is left of it, as long as they fit.
fn passes(lengths: &[usize], chunk: usize) -> Vec<Vec<Piece>> {
    let mut read = vec![0; lengths.len()];
    let mut passes = Vec::new();
    loop {
        let (mut pass, mut room) = (Vec::new(), chunk);
        for (number, (&length, read)) in lengths.iter().zip(&mut read).enumerate() {
            let piece = chunk.min(length - *read);
            if piece > 0 && piece <= room {
                pass.push((number, *read, *read + piece));
                *read += piece;
                room -= piece;
            }
        }
        if pass.is_empty() {
            return passes;
        }
        passes.push(pass);
    }
}

#[cfg(test)]
mod tests {
    use super::passes;

    #[test]
    fn a_pass_takes_what_fits() {
        assert_eq!(passes(&[3, 2, 4], 10), [[(0, 0, 3), (1, 0, 2), (2, 0, 4)]]);
        assert_eq!(passes(&[3, 2, 4], 5), [vec![(0, 0, 3), (1, 0, 2)], vec![(2, 0, 4)]]);
        let long = passes(&[1, 9, 3], 4);
        assert_eq!(long, [vec![(0, 0, 1), (2, 0, 3)], vec![(1, 0, 4)], vec![(1, 4, 8)], vec![(1, 8, 9)]]);
        assert_eq!(passes(&[2, 1], 1).len(), 3);
        assert!(passes(&[], 4).is_empty());
    }
}
