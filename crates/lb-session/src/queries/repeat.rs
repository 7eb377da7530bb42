//! The queries with which the trajectory is repeated (KVzip, arXiv 2505.23416).

use candle_core::Tensor;

use crate::Result;
use crate::context::Reader;

/// What a trajectory is repeated after.
pub(crate) const REQUEST: &str = "Repeat the previous context.";

/// Reads the request and the trajectory once more behind the full cache.
pub(super) fn repeat_queries(reader: Reader<'_>) -> Result<(Vec<Tensor>, usize)> {
    let mut text = reader.task_tokens(&REQUEST.into())?;
    text.extend(&reader.context.full.tokens[reader.context.head().len()..]);
    Ok((reader.capture_behind_all(&text)?.0.queries, text.len()))
}
