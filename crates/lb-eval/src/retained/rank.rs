//! How many directions a cache uses.

use lb_am::{LayerRanks, layer_ranks};
use lb_model::KvCache;
use lb_session::Error as SessionError;
use rayon::prelude::*;

use super::row::Rank;
use crate::Result;

/// Effective ranks of keys and values, means over layers and heads.
pub(super) fn rank_of(cache: &KvCache) -> Result<Rank> {
    let layers = cache.layers().map_err(SessionError::from)?;
    // Collected in order first, so that sums do not depend on the threads.
    let ranks: Vec<LayerRanks> = layers.par_iter().map(layer_ranks).collect::<lb_am::Result<_>>()?;
    let mean = |of: fn(&LayerRanks) -> &Vec<f64>| {
        let all: Vec<f64> = ranks.iter().flat_map(|layer| of(layer).iter().copied()).collect();
        all.iter().sum::<f64>() / all.len().max(1) as f64
    };
    Ok(Rank { keys: mean(|layer| &layer.keys), values: mean(|layer| &layer.values) })
}
