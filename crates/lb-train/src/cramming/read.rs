//! A text written behind its vectors.

use candle_core::D;
use lb_model::{InputVectors, Worker};

use crate::Result;

/// A place of a text, and the token that stands there although another one is likelier.
pub(super) type Exception = (u32, u32);

/// The likeliest token behind what stands before it, token by token, `count` of them; `correct` says what stands at a place instead,
/// where it is another.
pub(super) fn written(
    worker: &Worker,
    vectors: &InputVectors,
    count: usize,
    correct: &mut dyn FnMut(usize, u32) -> u32,
) -> Result<Vec<u32>> {
    let model = worker.model();
    let mut cache = model.new_cache();
    let mut logits = model.forward_vectors(vectors.rows(), &mut cache)?;
    let mut tokens = Vec::with_capacity(count);
    for place in 0..count {
        let likeliest = logits.argmax(D::Minus1)?.to_scalar::<u32>()?;
        tokens.push(correct(place, likeliest));
        if place + 1 < count {
            logits = model.forward(&tokens[place..], &mut cache)?;
        }
    }
    Ok(tokens)
}

/// The places of `tokens` at which another token is likelier behind what stands before.
pub(super) fn exceptions(worker: &Worker, vectors: &InputVectors, tokens: &[u32]) -> Result<Vec<Exception>> {
    let mut found = Vec::new();
    written(worker, vectors, tokens.len(), &mut |place, likeliest| {
        if likeliest != tokens[place] {
            found.push((place as u32, tokens[place]));
        }
        tokens[place]
    })?;
    Ok(found)
}
