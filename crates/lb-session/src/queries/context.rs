//! The queries with which the trajectory was read.

use candle_core::Tensor;

use crate::Result;
use crate::context::Reader;

/// Reads the trajectory again behind the template's head, which has nothing to ask.
pub(super) fn context_queries(reader: Reader<'_>) -> Result<(Vec<Tensor>, usize)> {
    let (full, head) = (&reader.context.full, reader.context.head().len());
    let mut cache = full.cache.fork();
    cache.truncate(head)?;
    let text = &full.tokens[head..];
    Ok((reader.capture(text, &mut cache)?.queries, text.len()))
}
