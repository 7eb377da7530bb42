//! Every backend over one table of cases, against tensor operations.
//!
//! Sizes are those around the panels and tiles of kernels; caches and queries have every dtype that goes together, biases
//! with padding, scales of their own, and lie in memory as views do; selections are shared and ragged; every bias and value
//! fit is there. A new backend is one line in [`backends`].

use candle_core::{DType, Device, Tensor};

use super::{Backend, Cpu, FitInput, Fitted, Observing, Reference};
use crate::compacted::{CompactedLayer, Timing};
use crate::config::{BetaMethod, Compaction, NnlsStart, RowWeighting, ScoreAgg, ValuesMethod};
use crate::kept::Kept;
use crate::layout::LayerKv;
use crate::observed::Observed;

/// What is held to [`Reference`], each with a device that it serves.
fn backends() -> Vec<(&'static dyn Backend, Device)> {
    vec![(&Cpu, Device::Cpu)]
}

/// Dtypes of cache and queries, and the tolerances of what is computed of them, relative to the largest number of the
/// reference. Sums are in another order; where all is bf16, weights may be rounded for their product with the values.
/// Fitted biases and values are rounded to the cache's dtype, so that two that nearly agree may be one step apart.
const DTYPES: [Tolerances; 4] = [
    Tolerances { cache: DType::F32, queries: DType::F32, observed: 1e-5, fitted: 2e-4, squares: 1e-2 },
    Tolerances { cache: DType::F16, queries: DType::F16, observed: 1e-5, fitted: 2e-3, squares: 3e-2 },
    Tolerances { cache: DType::BF16, queries: DType::F32, observed: 1e-5, fitted: 1.2e-2, squares: 0.1 },
    Tolerances { cache: DType::BF16, queries: DType::BF16, observed: 4e-3, fitted: 1.2e-2, squares: 0.1 },
];

#[derive(Clone, Copy, Debug)]
struct Tolerances {
    cache: DType,
    queries: DType,
    observed: f32,
    fitted: f32,
    /// Of errors after least squares, whose systems are as good as singular and whose values are large.
    squares: f64,
}

/// Slots, queries and width of a head.
const SIZES: [(usize, usize, usize); 8] = [
    (1, 1, 8),
    (127, 47, 16),
    (128, 48, 128),
    (300, 49, 64),
    (515, 130, 6),
    (64, 16, 7),
    (200, 5, 64),
    // Many more queries than slots, as where a whole context is read again.
    (60, 200, 50),
];

const HEADS: usize = 2;

/// Numbers from a fixed seed, in [−1, 1).
struct Dice(u64);

impl Dice {
    fn numbers(&mut self, count: usize) -> Vec<f32> {
        let next = |_| {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        (0..count).map(next).collect()
    }

    fn tensor(&mut self, dims: &[usize], size: f64) -> Tensor {
        let numbers = self.numbers(dims.iter().product());
        (Tensor::from_vec(numbers, dims, &Device::Cpu).unwrap() * size).unwrap()
    }
}

/// A cache of one layer with its queries.
struct Case {
    name: String,
    layers: [LayerKv; 1],
    queries: [Tensor; 1],
    tolerances: Tolerances,
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (number, (slots, n, d)) in SIZES.into_iter().enumerate() {
        for tolerances in DTYPES {
            let mut dice = Dice(1 + number as u64);
            // A part of a larger tensor, so that heads lie apart.
            let mut view = |size: f64| {
                let whole = dice.tensor(&[HEADS, slots + 3, d], size).to_dtype(tolerances.cache).unwrap();
                whole.narrow(1, 2, slots).unwrap()
            };
            let (keys, values) = (view(3.0), view(1.0));
            let mut bias = dice.tensor(&[HEADS, slots], 1.0).to_vec2::<f32>().unwrap();
            if slots > 100 {
                bias[1][..100].fill(f32::NEG_INFINITY);
            }
            let bias = Tensor::new(bias, &Device::Cpu).unwrap();
            let queries = [dice.tensor(&[HEADS, n, d], 3.0).to_dtype(tolerances.queries).unwrap()];
            for (bias, scale) in [(None, None), (Some(bias.clone()), None), (Some(bias), Some(0.21))] {
                let name = format!(
                    "{tolerances:?}, {slots} slots, {n} queries, width {d}, biased {}, scale {scale:?}",
                    bias.is_some()
                );
                let layer = LayerKv::new(keys.clone(), values.clone(), bias).unwrap();
                let layers = [scale.map_or(layer.clone(), |scale| layer.with_scale(scale))];
                cases.push(Case { name, layers, queries: queries.clone(), tolerances });
            }
        }
    }
    cases
}

impl Case {
    fn seen(&self, backend: &dyn Backend, score: ScoreAgg) -> Observed {
        backend.observe(&self.layers, &self.queries, Observing { score, output: true }).unwrap().remove(0)
    }

    /// All of the slots, some that heads share, and some of each head; never padding alone.
    fn selections(&self) -> Vec<Kept> {
        let slots = self.layers[0].seq_len() as u32;
        let every = |step: usize, from: u32| -> Vec<u32> { (from..slots).step_by(step).collect() };
        let last = slots - 1;
        let with_last = |mut list: Vec<u32>| {
            if list.last() != Some(&last) {
                list.push(last);
            }
            list
        };
        vec![
            Kept::shared((0..slots).collect()),
            Kept::shared(with_last(every(3, 0))),
            Kept::per_head(vec![with_last(every(2, 0)), with_last(every(5, 0))]),
        ]
    }

    /// ‖Ŷ − Y‖ / ‖Y‖ of a compacted layer on the queries.
    fn error(&self, layer: &CompactedLayer) -> f64 {
        let queries = self.queries[0].to_dtype(DType::F32).unwrap();
        let read = |layer: &LayerKv| flat(&Reference.attend(layer, &queries).unwrap().output);
        let (got, want) = (read(&layer.to_layer().unwrap()), read(&self.layers[0]));
        let squares = |x: f32| f64::from(x).powi(2);
        let error: f64 = got.iter().zip(&want).map(|(a, b)| squares(a - b)).sum();
        (error / want.iter().copied().map(squares).sum::<f64>()).sqrt()
    }

    fn fit(
        &self,
        backend: &dyn Backend,
        observed: &Observed,
        kept: &Kept,
        importance: &[Vec<Vec<f32>>],
        config: &Compaction,
    ) -> Fitted {
        let (observed, kept) = ([observed.clone()], [kept.clone()]);
        let (layers, queries) = (&self.layers[..], &self.queries[..]);
        let (keys, observed, kept) = (None, &observed[..], &kept[..]);
        let input = FitInput { layers, queries, observed, kept, keys, importance, config };
        backend.fit(&input, &mut Timing::default()).unwrap()
    }
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// The largest difference over the largest number; what is infinite in both agrees.
fn far(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let size = b.iter().filter(|x| x.is_finite()).fold(0f32, |size, x| size.max(x.abs()));
    let apart = |(a, b): (&f32, &f32)| if a.to_bits() == b.to_bits() { 0.0 } else { (a - b).abs() };
    a.iter().zip(b).map(apart).fold(0f32, f32::max) / size.max(f32::MIN_POSITIVE)
}

#[track_caller]
fn assert_near(got: &[f32], want: &[f32], tolerance: f32, what: &str) {
    let far = far(got, want);
    assert!(far <= tolerance, "off by {far:e}, {tolerance:e} allowed: {what}");
}

#[test]
fn all_see_the_same() {
    for case in cases() {
        for score in [ScoreAgg::Mean, ScoreAgg::Max, ScoreAgg::Rms] {
            let want = case.seen(&Reference, score);
            for (backend, _) in backends() {
                let got = case.seen(backend, score);
                let pairs = [
                    ("max", &got.max, &want.max),
                    ("mass", &got.mass, &want.mass),
                    ("output", got.output.as_ref().unwrap(), want.output.as_ref().unwrap()),
                ];
                for (what, got, want) in pairs {
                    let what = format!("{what} of {}: {score:?}, {}", backend.name(), case.name);
                    assert_near(&flat(got), &flat(want), case.tolerances.observed, &what);
                }
                let what = format!("scores of {}: {score:?}, {}", backend.name(), case.name);
                assert_near(&got.scores.concat(), &want.scores.concat(), case.tolerances.observed, &what);
            }
        }
    }
}

/// Queries in f32: nothing is rounded.
#[test]
fn all_attend_alike() {
    const EXACT: f32 = 1e-5;
    for case in cases() {
        let queries = case.queries[0].to_dtype(DType::F32).unwrap();
        let want = Reference.attend(&case.layers[0], &queries).unwrap();
        for (backend, _) in backends() {
            let got = backend.attend(&case.layers[0], &queries).unwrap();
            for (got, want) in [(&got.output, &want.output), (&got.max, &want.max), (&got.mass, &want.mass)] {
                assert_eq!(got.dims(), want.dims());
                assert_near(&flat(got), &flat(want), EXACT, &format!("{}: {}", backend.name(), case.name));
            }
        }
    }
}

/// Bit for bit, in the tensor's own dtype.
#[test]
fn all_gather_the_same_rows() {
    for case in cases() {
        for kept in case.selections() {
            let layer = &case.layers[0];
            for tensor in [&layer.keys, &layer.values].into_iter().chain(&layer.bias) {
                let want = Reference.gather(tensor, &kept).unwrap();
                for (backend, _) in backends() {
                    let got = backend.gather(tensor, &kept).unwrap();
                    assert_eq!((got.dims(), got.dtype()), (want.dims(), want.dtype()), "{}", case.name);
                    let bits =
                        |tensor: &Tensor| flat(tensor).into_iter().map(f32::to_bits).collect::<Vec<_>>();
                    assert_eq!(bits(&got), bits(&want), "{}: {}", backend.name(), case.name);
                }
            }
        }
    }
}

#[test]
fn all_find_what_is_no_number() {
    for case in cases() {
        let keys = &case.layers[0].keys;
        for (backend, _) in backends() {
            assert!(backend.is_finite(keys).unwrap());
            for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                let mut numbers = keys.to_dtype(DType::F32).unwrap().to_vec3::<f32>().unwrap();
                let last = numbers[1].len() - 1;
                numbers[1][last][3] = bad as f32;
                let keys = Tensor::new(numbers, &Device::Cpu).unwrap().to_dtype(keys.dtype()).unwrap();
                assert!(!backend.is_finite(&keys).unwrap() && !Reference.is_finite(&keys).unwrap());
            }
        }
    }
}

fn fits() -> Vec<Compaction> {
    let nnls = |iterations: usize, start, rows| {
        let iterations = Some(iterations);
        BetaMethod::Nnls { iterations, lower: -3.0, upper: 3.0, start, rows }
    };
    let betas = [
        BetaMethod::Zero,
        BetaMethod::default(),
        nnls(3, NnlsStart::Ones, RowWeighting::Mass),
        nnls(3, NnlsStart::Shared, RowWeighting::Relative),
        nnls(3, NnlsStart::LeastSquares, RowWeighting::Mass),
    ];
    let values = [
        ValuesMethod::Copy,
        ValuesMethod::default(),
        ValuesMethod::Ridge { lambda: 0.1, importance: 2.0 },
        ValuesMethod::RidgeToZero { lambda: 1.0 },
        ValuesMethod::LeastSquares,
        ValuesMethod::RidgeLeaveOneOut,
    ];
    // Every bias fit with a value fit, and every value fit with a bias fit.
    let of = |beta, values| Compaction::keep_ratio(0.5).with_beta(beta).with_values(values);
    let with_betas = betas.into_iter().map(|beta| of(beta, ValuesMethod::default()));
    with_betas.chain(values.into_iter().map(|values| of(BetaMethod::default(), values))).collect()
}

/// Against the same target, so that nothing but the fits differs.
#[test]
fn all_fit_alike() {
    for case in cases() {
        let observed = case.seen(&Reference, ScoreAgg::Mean);
        let shared = vec![vec![observed.scores[0].clone()]];
        let by_head = vec![observed.scores.clone()];
        for kept in case.selections() {
            let importance = if kept.is_shared() { &shared } else { &by_head };
            for config in fits() {
                let want = case.fit(&Reference, &observed, &kept, importance, &config);
                for (backend, _) in backends() {
                    let got = case.fit(backend, &observed, &kept, importance, &config);
                    let what = format!(
                        "{}: {:?}, {:?}, {} kept at most, {}",
                        backend.name(),
                        config.beta,
                        config.values,
                        kept.max_len(),
                        case.name
                    );
                    compare(&case, &got, &want, &config, &what);
                }
            }
        }
    }
}

fn compare(case: &Case, got: &Fitted, want: &Fitted, config: &Compaction, what: &str) {
    let tolerance = case.tolerances.fitted;
    let (layer, other) = (&got.layers[0], &want.layers[0]);
    assert_eq!(flat(&layer.keys), flat(&other.keys), "keys of {what}");
    assert_eq!((&layer.kept, layer.scale.to_bits()), (&other.kept, other.scale.to_bits()), "{what}");
    assert_near(&flat(&layer.bias), &flat(&other.bias), tolerance, &format!("bias of {what}"));
    if config.values == ValuesMethod::LeastSquares {
        // Hardly held by anything, values far apart give nearly one output: how near it is to the target must agree.
        let (got, want) = (case.error(layer), case.error(other));
        assert!((got - want).abs() <= case.tolerances.squares * (1.0 + want), "{got} against {want}: {what}");
    } else {
        assert_near(&flat(&layer.values), &flat(&other.values), tolerance, &format!("values of {what}"));
    }
    let loose = config.values == ValuesMethod::LeastSquares;
    let tolerance = if loose { case.tolerances.squares } else { f64::from(tolerance) };
    // What a backend tells of least squares may come from the system itself, whose rounding it then has.
    let near = |a: f64, b: f64| (a - b).abs() <= tolerance * (1.0 + b.abs());
    let (beta, wanted) = (got.beta.report(), want.beta.report());
    let errors = near(beta.mass_error_before, wanted.mass_error_before)
        && near(beta.mass_error_after, wanted.mass_error_after);
    assert!(errors && beta.iterations == wanted.iterations, "{beta:?} against {wanted:?}: {what}");
    let (values, wanted) = (got.values.report(), want.values.report());
    let errors = near(values.output_error_before, wanted.output_error_before)
        && (loose || near(values.output_error_after, wanted.output_error_after))
        && near(values.lambda, wanted.lambda);
    assert!(
        errors && values.left_out_error.is_some() == wanted.left_out_error.is_some(),
        "{config:?}: {what}"
    );
}
