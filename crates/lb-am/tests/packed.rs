//! Kept slots in few bits, and fits that are made against them.

use candle_core::{DType, Device, Tensor};
use lb_am::backend::{Cpu, Reference};
use lb_am::{
    Backend, Compacted, Compaction, Compactor, Error, Fidelity, Kept, PackedBits, Selection, ValuesMethod,
};

use super::bits;
use crate::support::caches::{Case, Dims, random, scene};

const DIMS: Dims = Dims { layers: 2, heads: 2, seq_len: 200, head_dim: 40, queries: 24 };

fn run(case: &Case, config: &Compaction, packed: Option<PackedBits>) -> Compacted {
    Compactor::new(&case.layers, &case.queries, config).packed(packed).run().unwrap()
}

/// What the packed rows of each head unpack to, zeros behind, as `[heads, slots, width]`.
fn unpacked(rows: &lb_kernels::PackedRows, slots: usize, dtype: DType) -> Tensor {
    rows.to_tensor(&(0..slots), dtype, &Device::Cpu).unwrap()
}

/// The relative error of the attention output on the case's own queries.
fn error(case: &Case, compacted: &Compacted) -> f64 {
    Fidelity::measure(&case.layers, &compacted.layers, &case.queries).unwrap().total.relative_l2
}

/// The tensors are what is stored, whatever the dtype of the cache; heads have the slots that they keep and no padding.
#[test]
fn tensors_are_what_is_stored() {
    for dtype in [DType::F32, DType::BF16, DType::F16] {
        let case = random(DIMS, 1.0, 5).to_dtype(dtype);
        let config = Compaction::keep_ratio(0.3).with_selection(Selection::per_head());
        let plain = run(&case, &config, None);
        assert!(plain.layers.iter().all(|layer| layer.packed.is_none()));
        assert!(plain.layers.iter().any(|layer| layer.kept.is_ragged()), "heads keep different counts");
        for packed in PackedBits::ALL {
            let compacted = run(&case, &config, Some(packed));
            for (layer, plain) in compacted.layers.iter().zip(&plain.layers) {
                assert_eq!(layer.kept, plain.kept);
                let (stored, slots) = (layer.packed.as_ref().unwrap(), layer.kept_len());
                let counts: Vec<usize> = (0..DIMS.heads).map(|head| layer.kept.head(head).len()).collect();
                assert_eq!((stored.keys.counts(), stored.values.counts()), (&counts[..], &counts[..]));
                assert_eq!((stored.keys.bits(), stored.values.bits()), (packed, packed));
                assert_eq!(bits(&layer.keys), bits(&unpacked(&stored.keys, slots, dtype)));
                assert_eq!(bits(&layer.values), bits(&unpacked(&stored.values, slots, dtype)));
                assert_eq!((layer.keys.dtype(), layer.values.dtype()), (dtype, dtype));
                let dead = |bias: &Tensor| {
                    let bias = bias.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                    bias.iter().map(|b| *b == f32::NEG_INFINITY).collect::<Vec<_>>()
                };
                assert_eq!(dead(&layer.bias), dead(&plain.bias));
            }
        }
    }
}

/// The mass is that of the keys as they are stored: a bias that was fitted to other keys would miss it.
#[test]
fn fits_know_what_is_stored() {
    let case = scene(DIMS, 9).task;
    let config = Compaction::keep_ratio(0.3);
    for packed in PackedBits::ALL {
        let fitted = run(&case, &config, Some(packed));
        // The same slots, fitted as they were and packed then.
        let kept: Vec<Kept> = fitted.layers.iter().map(|layer| layer.kept.clone()).collect();
        let mut later = Compactor::new(&case.layers, &case.queries, &config).at(&kept).run().unwrap();
        for (layer, stored) in later.layers.iter_mut().zip(&fitted.layers) {
            let rows = stored.packed.as_ref().unwrap();
            let counts = rows.keys.counts().to_vec();
            let values = lb_kernels::PackedRows::from_tensor(
                &layer.values,
                &counts,
                lb_kernels::Grids::PerRow,
                packed,
            );
            layer.keys = stored.keys.clone();
            layer.values = unpacked(&values.unwrap(), layer.kept_len(), DType::F32);
        }
        let (fitted_error, later_error) = (error(&case, &fitted), error(&case, &later));
        if packed == PackedBits::Eight {
            assert!((fitted_error - later_error).abs() < 0.02, "{fitted_error} and {later_error}");
        } else {
            assert!(fitted_error < later_error, "{packed:?}: {fitted_error} and {later_error}");
        }
        let fit = fitted.report.beta.unwrap();
        assert!(fit.mass_error_after < fit.mass_error_before, "{packed:?}");
    }
}

/// Between backends fitted values may lie on both sides of a step's middle.
#[test]
fn backends_agree_to_a_step() {
    const STEP: f32 = 0.05;
    let case = scene(DIMS, 3).task;
    for values in [ValuesMethod::default(), ValuesMethod::Copy, ValuesMethod::RidgeLeaveOneOut] {
        let config = Compaction::keep_ratio(0.3).with_values(values);
        let by = |backend: &dyn Backend| {
            let compactor = Compactor::new(&case.layers, &case.queries, &config).with_backend(backend);
            compactor.packed(Some(PackedBits::Eight)).run().unwrap()
        };
        let (cpu, reference) = (by(&Cpu), by(&Reference));
        for (a, b) in cpu.layers.iter().zip(&reference.layers) {
            assert_eq!(bits(&a.keys), bits(&b.keys));
            let far = (&a.values - &b.values).unwrap().abs().unwrap().max_all().unwrap();
            let far = far.to_scalar::<f32>().unwrap();
            assert!(far < STEP, "{values:?}: {far}");
        }
    }
}

/// 40 channels of two bytes become 40, 20 or 10, a slot's values have two grids of two numbers, a group of keys 40.
#[test]
fn sizes_are_those_of_what_is_stored() {
    let case = random(DIMS, 1.0, 5).to_dtype(DType::F16);
    let config = Compaction::kept_len(64).with_sharing(lb_am::Sharing::Equal);
    let slots = 64 * DIMS.heads * DIMS.layers;
    for (packed, codes) in [
        (None, 160),
        (Some(PackedBits::Eight), 80),
        (Some(PackedBits::Four), 40),
        (Some(PackedBits::Two), 20),
    ] {
        let compacted = run(&case, &config, packed);
        let sizes = Fidelity::measure(&case.layers, &compacted.layers, &case.queries).unwrap().sizes;
        let grids = if packed.is_some() { 8 * slots + slots / 32 * 160 } else { 0 };
        assert_eq!(sizes.bytes, slots * (codes + 4) + grids, "{packed:?}");
        assert_eq!(sizes.full_bytes, 160 * DIMS.seq_len * DIMS.heads * DIMS.layers);
    }
}

/// Nothing is fitted where nothing is missing, and everything is packed.
#[test]
fn everything_kept_is_packed_and_not_fitted() {
    let case = random(DIMS, 1.0, 6);
    let compacted = run(&case, &Compaction::keep_ratio(1.0), Some(PackedBits::Eight));
    for (layer, full) in compacted.layers.iter().zip(&case.layers) {
        assert!(bits(&layer.bias).iter().all(|bias| *bias == 0));
        let counts = [DIMS.seq_len; DIMS.heads];
        let of = |tensor: &Tensor, grids| {
            lb_kernels::PackedRows::from_tensor(tensor, &counts, grids, PackedBits::Eight).unwrap()
        };
        let stored = layer.packed.as_ref().unwrap();
        assert_eq!(*stored.keys, of(&full.keys, lb_kernels::Grids::PerChannel));
        assert_eq!(*stored.values, of(&full.values, lb_kernels::Grids::PerRow));
    }
}

/// An error target counts what packing costs.
#[test]
fn an_error_target_sees_the_packing() {
    let case = scene(Dims { queries: 40, ..DIMS }, 4).task;
    let config = Compaction::error_below(0.4);
    let kept = |packed| run(&case, &config, packed).report;
    let (plain, coarse) = (kept(None), kept(Some(PackedBits::Two)));
    assert!(coarse.keep_ratio >= plain.keep_ratio, "{} {}", coarse.keep_ratio, plain.keep_ratio);
    let never = Compaction::error_below(1e-4);
    let target = Compactor::new(&case.layers, &case.queries, &never).packed(Some(PackedBits::Two)).run();
    let target = target.unwrap().report.error_target.unwrap();
    assert!(target.estimated > 1e-4, "everything in 2 bits is not without error: {}", target.estimated);
}

/// The same slots for the same input.
#[test]
fn packing_is_repeated_to_the_bit() {
    let case = scene(DIMS, 8).task;
    let config = Compaction::keep_ratio(0.2);
    let [a, b] = [(); 2].map(|()| run(&case, &config, Some(PackedBits::Four)));
    for (a, b) in a.layers.iter().zip(&b.layers) {
        assert_eq!(a.packed, b.packed);
        assert_eq!(bits(&a.bias), bits(&b.bias));
    }
}

#[test]
fn keys_that_no_grid_reaches_are_refused() {
    let mut case = random(DIMS, 1.0, 7);
    case.layers[1].keys = (&case.layers[1].keys * 1e7).unwrap();
    case.queries[1] = (&case.queries[1] * 1e-7).unwrap();
    let config = Compaction::keep_ratio(0.3);
    let packed = Compactor::new(&case.layers, &case.queries, &config).packed(Some(PackedBits::Eight));
    match packed.run() {
        Err(Error::Layer { index: 1, source }) => assert!(matches!(*source, Error::Kernel(_)), "{source}"),
        other => panic!("{:?}", other.map(|compacted| compacted.report.kept_len)),
    }
    assert!(packed.packed(None).run().is_ok());
}
