//! Tests of `lb-am` against a naive f64 reference: one test binary; each module pins one stage.

mod backend;
mod baseline_matrix;
mod baselines;
mod beta;
mod combinations;
mod config;
mod dtypes;
mod edges;
mod error_target;
mod errors;
mod fidelity;
mod fits;
mod folding;
mod mask;
mod more_baselines;
mod packed;
mod padding;
mod properties;
mod rank;
mod recompaction;
mod registry;
mod scale;
mod scores;
mod select;
mod sharing;
mod values;

use candle_core::Tensor;
use lb_am::{Compacted, CompactedLayer, Compaction, LayerKv, Protected, Selection, compact};
use lb_testkit as support;

use crate::support::caches::Case;
use crate::support::oracle::{Head, heads, rows2, rows3};

/// f32 attention and f32 products against f64, on entries of order one.
const F32_TOLERANCE: f64 = 2e-5;
/// Nothing is protected.
const BARE: Protected = Protected { first: 0, last: 0 };

/// One mask for all layers, so that `report.scores` are what everything went by.
fn shared(config: Compaction) -> Compaction {
    config.with_selection(Selection::shared())
}

fn run(case: &Case, config: &Compaction) -> Compacted {
    compact(&case.layers, &case.queries, config).unwrap()
}

/// What all heads of a layer keep.
fn slots(layer: &CompactedLayer) -> &[u32] {
    assert!(layer.kept.is_shared());
    layer.kept.head(0)
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    let wide = tensor.to_dtype(candle_core::DType::F32).unwrap();
    wide.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
}

fn assert_close(got: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len());
    for (j, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((got - want).abs() <= tolerance, "entry {j}: {got} against {want}");
    }
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

/// All heads of all layers.
fn all_heads(case: &Case) -> Vec<Head> {
    case.layers.iter().zip(&case.queries).flat_map(|(layer, queries)| heads(layer, queries)).collect()
}

/// Each head of the full cache beside the same head of the briefing, read by the task's queries.
fn pairs(case: &Case, compacted: &Compacted) -> Vec<(Head, Head, Vec<u32>)> {
    let mut pairs = Vec::new();
    for ((layer, queries), small) in case.layers.iter().zip(&case.queries).zip(&compacted.layers) {
        let (values, bias) = (rows3(&small.values), rows2(&small.bias));
        for (h, head) in heads(layer, queries).into_iter().enumerate() {
            let briefed = head.briefed(small.kept.head(h), &bias[h], &values[h]);
            pairs.push((head, briefed, small.kept.head(h).to_vec()));
        }
    }
    pairs
}

/// Keys of `layer` at `kept` are the rows of `keys`, bit for bit.
fn assert_keys_gathered(layer: &LayerKv, keys: &Tensor, kept: &[u32]) {
    for (row, slot) in kept.iter().enumerate() {
        let original = layer.keys.narrow(1, *slot as usize, 1).unwrap();
        assert_eq!(bits(&keys.narrow(1, row, 1).unwrap()), bits(&original), "slot {slot}");
    }
}
