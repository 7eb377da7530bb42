//! Selections that look at no attention, to compare with: pass them to [`compact_at`](crate::compact_at).

mod random;
mod recent;

pub use random::random_positions;
pub use recent::recent_positions;

use crate::config::Protected;

/// Protected positions, and the others, both ascending.
fn split(seq_len: usize, protect: Protected) -> (Vec<u32>, Vec<u32>) {
    (0..seq_len as u32).partition(|j| protect.covers(*j as usize, seq_len))
}
