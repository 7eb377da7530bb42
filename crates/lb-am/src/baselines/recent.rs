//! The most recent positions.

use super::split;
use crate::config::Protected;

/// `kept_len` positions, the protected ones and the most recent others, ascending.
///
/// At least the protected positions and at most all `seq_len` are returned.
pub fn recent_positions(seq_len: usize, kept_len: usize, protect: Protected) -> Vec<u32> {
    let (mut kept, rest) = split(seq_len, protect);
    let taken = kept_len.saturating_sub(kept.len()).min(rest.len());
    kept.extend_from_slice(&rest[rest.len() - taken..]);
    kept.sort_unstable();
    kept
}
