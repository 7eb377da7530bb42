//! Who computes: chosen by the device, or by the caller.

use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::{Device, Tensor};
use lb_am::backend::{self, Attended, Cpu, FitInput, Fitted, Observing, Reference};
use lb_am::{
    Backend, Compactor, Error, Fidelity, Kept, LayerKv, Observed, Result, Selection, Timing, compact,
};

use super::bits;
use crate::support::caches::{SMALL, scene};
use crate::support::layered::Layered;

/// Tensor operations that count what they are asked, for some device or none.
#[derive(Debug, Default)]
struct Counting {
    observed: AtomicUsize,
    fitted: AtomicUsize,
    attended: AtomicUsize,
    nowhere: bool,
}

impl Backend for Counting {
    fn name(&self) -> &'static str {
        "counting"
    }

    fn serves(&self, _: &Device) -> bool {
        !self.nowhere
    }

    fn observe(&self, layers: &[LayerKv], queries: &[Tensor], what: Observing) -> Result<Vec<Observed>> {
        self.observed.fetch_add(1, Ordering::Relaxed);
        Reference.observe(layers, queries, what)
    }

    fn attend(&self, layer: &LayerKv, queries: &Tensor) -> Result<Attended> {
        self.attended.fetch_add(1, Ordering::Relaxed);
        Reference.attend(layer, queries)
    }

    fn gather(&self, tensor: &Tensor, kept: &Kept) -> Result<Tensor> {
        Reference.gather(tensor, kept)
    }

    fn fit(&self, input: &FitInput<'_>, timing: &mut Timing) -> Result<Fitted> {
        self.fitted.fetch_add(1, Ordering::Relaxed);
        Reference.fit(input, timing)
    }
}

impl Counting {
    fn counts(&self) -> [usize; 3] {
        [&self.observed, &self.fitted, &self.attended].map(|count| count.load(Ordering::Relaxed))
    }
}

/// One pass and one fit; a selection that looks with other queries takes a pass more, an error target many.
#[test]
fn a_backend_of_ones_own_does_all_the_work() {
    let case = scene(SMALL, 701).task;
    for (selection, observed) in [("per-head", 1), ("omp", 1), ("snapkv:window=2", 2), ("tova", 2)] {
        let config = Layered::keep_ratio(0.3).with_selection(selection.parse().unwrap());
        let own = Counting::default();
        let with = |backend: &dyn Backend| {
            Compactor::new(&case.layers, &case.queries, &config).with_backend(backend).run().unwrap()
        };
        let (counted, reference) = (with(&own), with(&Reference));
        assert_eq!(own.counts(), [observed, 1, 0], "{selection}");
        for (a, b) in counted.layers.iter().zip(&reference.layers) {
            assert_eq!((bits(&a.values), bits(&a.bias)), (bits(&b.values), bits(&b.bias)));
        }
    }
    let (own, config) = (Counting::default(), Layered::error_below(0.5));
    Compactor::new(&case.layers, &case.queries, &config).with_backend(&own).group_size(2).run().unwrap();
    let [observed, fitted, attended] = own.counts();
    assert!(observed == 3 && fitted > 2 && attended > 4, "{:?}", own.counts());
}

/// By default the kernels, to the bit; tensor operations keep the same and answer as well.
#[test]
fn backends_agree_on_a_compaction() {
    let scene = scene(SMALL, 702);
    let case = &scene.task;
    assert_eq!(backend::of(&case.layers).name(), Cpu.name());
    for selection in [Selection::shared(), Selection::per_layer(), Selection::per_head()] {
        let config = Layered::keep_ratio(0.3).with_selection(selection);
        let with = |backend: &dyn Backend| {
            Compactor::new(&case.layers, &case.queries, &config).with_backend(backend).run().unwrap()
        };
        let (usual, cpu, reference) =
            (compact(&case.layers, &case.queries, &config).unwrap(), with(&Cpu), with(&Reference));
        let error = |compacted: &lb_am::Compacted| {
            Fidelity::measure(&case.layers, &compacted.layers, &scene.answer).unwrap().total.relative_l2
        };
        for ((a, b), c) in usual.layers.iter().zip(&cpu.layers).zip(&reference.layers) {
            assert_eq!((&a.kept, bits(&a.values), bits(&a.bias)), (&b.kept, bits(&b.values), bits(&b.bias)));
            assert_eq!(a.kept, c.kept);
        }
        assert!((error(&cpu) - error(&reference)).abs() < 1e-4, "{} {}", error(&cpu), error(&reference));
    }
}

#[test]
fn a_backend_that_does_not_read_the_device_is_refused() {
    let case = scene(SMALL, 703).task;
    let (own, config) = (Counting { nowhere: true, ..Counting::default() }, Layered::keep_ratio(0.3));
    let compactor = Compactor::new(&case.layers, &case.queries, &config).with_backend(&own);
    let error = compactor.run().unwrap_err();
    assert!(matches!(error, Error::Config { field: "backend", .. }), "{error}");
    assert!(error.to_string().contains("counting"), "{error}");
    assert_eq!(own.counts(), [0; 3]);
}
