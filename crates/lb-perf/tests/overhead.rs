//! The measuring side: shapes, scenes, the serial baseline, and the arithmetic of the report.

use std::time::Duration;

use candle_core::{DType, Device, Tensor};
use lb_am::{Compaction, LayerKv, Selection, Timing, ValuesMethod, compact};
use lb_model::Checkpoint;
use lb_perf::{
    Baseline, Batched, Error, OverheadConfig, OverheadReport, Peak, PrefillEffort, RandomCheckpoint, Scaling,
    Scene, SceneConfig, SerialFit, Shape, Stats, Steps, VOCAB, compact_serially, head_flops, measure,
    peak_extra, time_prefill, write_tensors,
};
use lb_testkit::assert_error;

/// β and C2 of the two implementations against each other: sums in f32 in another order.
const F32_TOLERANCE: f32 = 2e-4;
/// The same once both are rounded to bf16: two neighbouring numbers.
const BF16_TOLERANCE: f32 = 2e-2;

fn config(shape: &str, seq_len: usize, task_tokens: usize) -> SceneConfig {
    let shape: Shape = shape.parse().unwrap();
    let layers = shape.layers;
    SceneConfig { shape, layers, seq_len, task_tokens, dtype: DType::F32, seed: 3 }
}

fn scene(config: &SceneConfig) -> Scene {
    config.build(&Device::Cpu).unwrap()
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn shapes_are_read_by_name_and_by_numbers() {
    let named = [("qwen3-0.6b", 28, 2, 1024), ("qwen3-4b", 36, 4, 2560), ("14b", 40, 5, 5120)];
    for (name, layers, group_size, hidden) in named {
        let shape: Shape = name.parse().unwrap();
        assert_eq!((shape.layers, shape.group_size, shape.hidden), (layers, group_size, hidden));
        assert_eq!((shape.kv_heads, shape.head_dim), (8, 128));
        assert_eq!(shape.to_string().parse::<Shape>().unwrap(), shape);
    }
    // Qwen3-0.6B has 15.7 million weights in a layer's linear maps.
    assert!((Shape::qwen3_0_6b().linear_flops() / 2.0 - 15_728_640.0).abs() < 0.5);
    let shape: Shape = "3x2x4x16".parse().unwrap();
    assert_eq!((shape.layers, shape.kv_heads, shape.group_size, shape.head_dim), (3, 2, 4, 16));
    assert_eq!((shape.query_heads(), shape.hidden, shape.per_position()), (8, 128, 64));
}

#[test]
fn other_shapes_are_refused_by_name() {
    let wrong = [
        "",
        "7b",
        "qwen3-",
        "3x2x4",
        "3x2x4x16x1",
        "3x2xfourx16",
        "0x2x4x16",
        "3x2x4x9999",
        "3x2x4x15",
        "-1x2x4x16",
        "99999999999999999999x1x1x2",
    ];
    for name in wrong {
        assert_error!(
            name.parse::<Shape>().unwrap_err(),
            Error::Config { field: "shape", .. },
            "shape",
            name
        );
    }
}

#[test]
fn scenes_are_seeded_and_neither_flat_nor_a_single_peak() {
    let config = config("2x2x2x64", 512, 8);
    let (a, b) = (scene(&config), scene(&config));
    for (a, b) in a.layers.iter().zip(&b.layers) {
        assert_eq!(numbers(&a.keys), numbers(&b.keys));
    }
    let other = scene(&SceneConfig { seed: 4, ..config.clone() });
    assert_ne!(numbers(&a.queries[0]), numbers(&other.queries[0]));
    assert_ne!(numbers(&a.layers[0].keys), numbers(&a.layers[1].keys));
    assert_ne!(numbers(&a.layers[0].keys), numbers(&a.layers[0].values));
    // The mass on the tenth that is looked at most: 0.1 where attention is flat, 1 where it is a few peaks.
    let compaction = Compaction::keep_ratio(0.1).with_pooling(1).with_score(lb_am::ScoreAgg::Mean);
    let mut scores = compact(&a.layers, &a.queries, &compaction).unwrap().report.raw_scores;
    scores.sort_by(|a, b| b.total_cmp(a));
    let mass: f32 = scores[..51].iter().sum();
    assert!((0.25..0.9).contains(&mass), "{mass}");
    let half = scene(&SceneConfig { dtype: DType::BF16, ..config });
    assert_eq!((half.layers[0].dtype(), half.queries[0].dtype()), (DType::BF16, DType::BF16));
}

#[test]
fn scenes_out_of_range_are_refused() {
    let good = config("2x2x2x64", 64, 8);
    let wrong = [
        (SceneConfig { layers: 0, ..good.clone() }, "layers"),
        (SceneConfig { seq_len: 0, ..good.clone() }, "seq_len"),
        (SceneConfig { task_tokens: usize::MAX, ..good.clone() }, "task_tokens"),
        (SceneConfig { layers: 1 << 20, seq_len: 1 << 20, ..good.clone() }, "layers x seq_len"),
        (SceneConfig { task_tokens: 1 << 24, ..good.clone() }, "task_tokens x seq_len"),
        (SceneConfig { dtype: DType::U8, ..good }, "dtype"),
    ];
    for (config, field) in wrong {
        assert_error!(config.build(&Device::Cpu).unwrap_err(), Error::Config { .. }, field);
    }
}

/// The baseline is worth nothing if it computes something else.
#[test]
fn one_head_after_another_gives_what_all_at_once_give() {
    // Fewer queries than kept positions and more of them, and everything kept.
    let cases = [(300, 8, 0.2), (300, 40, 0.1), (40, 4, 1.0)];
    for (seq_len, task_tokens, keep_ratio) in cases {
        for (dtype, tolerance) in [(DType::F32, F32_TOLERANCE), (DType::BF16, BF16_TOLERANCE)] {
            let scene = scene(&SceneConfig { dtype, ..config("2x2x3x32", seq_len, task_tokens) });
            for fit in [SerialFit::Ridge, SerialFit::LeastSquares] {
                // A λ of 1e-6 lets rounding through.
                let tolerance = if fit == SerialFit::LeastSquares { 50.0 * tolerance } else { tolerance };
                // With more queries than kept positions its systems lack rank, and a λ of 1e-6 leaves the rest to rounding.
                if fit == SerialFit::LeastSquares && task_tokens == 40 {
                    continue;
                }
                let batched = compact(&scene.layers, &scene.queries, &fit.config(keep_ratio)).unwrap();
                let serial = compact_serially(&scene.layers, &scene.queries, keep_ratio, fit).unwrap();
                for (batched, serial) in batched.layers.iter().zip(&serial.heads) {
                    for (head, serial) in serial.iter().enumerate() {
                        assert_eq!(batched.kept.head(head), serial.kept);
                        assert_eq!(numbers(&batched.keys.get(head).unwrap()), numbers(&serial.keys));
                        for (what, a, b) in [
                            ("bias", &batched.bias, &serial.bias),
                            ("values", &batched.values, &serial.values),
                        ] {
                            for (a, b) in numbers(&a.get(head).unwrap()).iter().zip(numbers(b)) {
                                let off = (a - b).abs() / (1.0 + b.abs());
                                assert!(off <= tolerance, "{what} {dtype:?} {fit:?}: {a} against {b}");
                            }
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn the_two_fits_differ_and_bad_input_is_refused() {
    let scene = scene(&config("1x2x2x32", 200, 8));
    let run = |ratio, fit| compact_serially(&scene.layers, &scene.queries, ratio, fit);
    let (ridge, squares) = (run(0.2, SerialFit::Ridge).unwrap(), run(0.2, SerialFit::LeastSquares).unwrap());
    assert_ne!(numbers(&ridge.heads[0][0].values), numbers(&squares.heads[0][0].values));
    assert!(ridge.timing.total >= ridge.timing.scores + ridge.timing.beta + ridge.timing.values);
    assert_error!(run(0.0, SerialFit::Ridge).unwrap_err(), Error::Compaction(_), "keep_ratio");
    let few = compact_serially(&scene.layers, &[], 0.2, SerialFit::Ridge).unwrap_err();
    assert_error!(few, Error::Config { field: "queries", .. }, "queries");
    let layer = &scene.layers[0];
    let bias = Tensor::zeros((2, 200), DType::F32, &Device::Cpu).unwrap();
    let biased = [LayerKv::new(layer.keys.clone(), layer.values.clone(), Some(bias)).unwrap()];
    let refused = compact_serially(&biased, &scene.queries, 0.2, SerialFit::Ridge).unwrap_err();
    assert_error!(refused, Error::Config { field: "bias", .. }, "biases");
}

#[test]
fn operations_are_counted_by_hand() {
    let ridge = Compaction::keep_ratio(0.1);
    let (n, s, t, d) = (2.0, 100.0, 10.0, 4.0);
    let pass = 4.0 * n * s * d + 4.0 * n * s;
    let beta = 4.0 * n * t * 17.0 + 2.0 * n * t * d;
    let dual = 2.0 * n * n * t + n * n * n / 3.0 + 2.0 * n * n * d + 2.0 * n * t * d;
    let want = pass + beta + 2.0 * n * t * d + dual;
    assert!((head_flops(&ridge, 2, 100, 10, 4) - want).abs() < 1e-9);
    assert!((head_flops(&ridge, 2, 100, 100, 4) - pass).abs() < 1e-9);
    let copied = head_flops(&ridge.clone().with_values(ValuesMethod::Copy), 2, 100, 10, 4);
    assert!((copied - (pass - 2.0 * n * s * d + beta)).abs() < 1e-9);
    assert!((head_flops(&ridge.selection_only(), 2, 100, 10, 4) - 2400.0).abs() < 1e-9);
}

#[test]
fn medians_ranges_and_exponents() {
    assert_eq!(Stats::of([3.0, 1.0, 2.0]), Stats { median: 2.0, min: 1.0, max: 3.0 });
    assert_eq!(Stats::of([4.0, 1.0]), Stats { median: 2.5, min: 1.0, max: 4.0 });
    assert_eq!(Stats::of([]), Stats::default());
    let points = |power: f64| [1000usize, 2000, 4000].map(|len| (len, Stats::of([(len as f64).powf(power)])));
    for power in [1.0, 1.3] {
        assert!((Scaling::fit(1, points(power).to_vec()).exponent - power).abs() < 1e-9);
    }
    assert!(Scaling::fit(1, points(1.0)[..1].to_vec()).exponent.abs() < 1e-9);
    let ms = Duration::from_millis;
    let timing =
        |total| Timing { search: ms(0), scores: ms(5), mask: ms(1), beta: ms(2), values: ms(2), total };
    let steps = Steps::of(&[timing(ms(12)), timing(ms(20)), timing(ms(11))]);
    assert!((steps.other.median - 0.002).abs() < 1e-12 && (steps.total.max - 0.020).abs() < 1e-12);
    assert!((steps.times(3.0).beta.median - 0.006).abs() < 1e-12);
}

/// Small enough for a test, with every part of a report in it.
fn small() -> OverheadConfig {
    OverheadConfig {
        shape: "4x2x2x16".parse().unwrap(),
        layers: Some(2),
        seq_len: 128,
        task_tokens: 4,
        keep_ratio: 0.25,
        dtype: DType::BF16,
        runs: 2,
        selections: vec![Selection::shared(), Selection::per_head()],
        serial_layers: 1,
        prefill: PrefillEffort::Full,
        only_ours: false,
        scaling: false,
    }
}

#[test]
fn a_report_adds_up() {
    let mut stages = Vec::new();
    let (report, scene, compacted) =
        measure(&small(), &Device::Cpu, &mut |stage| stages.push(stage.to_owned())).unwrap();
    assert!(stages.len() > 4, "{stages:?}");
    assert_eq!((scene.layers.len(), compacted.len(), report.n_queries), (2, 2, 8));
    assert_eq!(report.cache_bytes, 2 * 2 * 2 * 128 * 16 * 2);
    let [shared, per_head] = &report.batched[..] else { panic!("two selections") };
    assert_eq!((shared.kept_len, per_head.kept_len), (32, 32));
    // Keys and values in bf16, biases in f32, two layers of two heads.
    assert_eq!(shared.output_bytes, 4 * 32 * (2 * 16 * 2 + 4));
    assert!(shared.gflops > 0.0 && per_head.extra_bytes.is_none());
    let [ridge, squares] = &report.baselines[..] else { panic!("two baselines") };
    assert_eq!((ridge.fit, squares.fit), (SerialFit::Ridge, SerialFit::LeastSquares));
    assert!(ridge.ratio.min > 0.0 && ridge.layers_measured == 1);
    let prefill = report.prefill.as_ref().unwrap();
    assert_eq!((prefill.layers_measured, prefill.layers, prefill.effort), (4, 4, PrefillEffort::Full));
    let peaks: Vec<_> = report.peaks.iter().map(|peak| (peak.by.as_str(), peak.dtype.as_str())).collect();
    assert_eq!(peaks, [("candle", "f32"), ("candle", "bf16"), ("kernel", "bf16")]);
    let json = serde_json::to_string(&report).unwrap();
    let read: OverheadReport = serde_json::from_str(&json).unwrap();
    assert_eq!(read.batched[0].kept_len, 32);
    let text = report.to_string();
    for word in
        ["shared", "per-head", "serial, least squares", "all layers", "of the cache", "measured, all layers"]
    {
        assert!(
            text.contains(word) || word == "of the cache" && shared.extra_bytes.is_none(),
            "{word}: {text}"
        );
    }
    let alone = OverheadConfig { only_ours: true, layers: None, ..small() };
    let (report, ..) = measure(&alone, &Device::Cpu, &mut |_| {}).unwrap();
    assert!(report.baselines.is_empty() && report.prefill.is_none() && report.peaks.is_empty());
    assert_eq!(report.layers, 4);
}

#[test]
fn shares_are_of_the_whole_shape() {
    let (mut report, ..) =
        measure(&OverheadConfig { only_ours: true, ..small() }, &Device::Cpu, &mut |_| {}).unwrap();
    assert!(report.share_of_prefill().is_none());
    report.batched[0].seconds.total = Stats::of([0.5]);
    report.batched[0].gflops = 30.0;
    report.prefill =
        time_prefill(&report.shape, 64, DType::F32, &Device::Cpu, PrefillEffort::OneLayer).unwrap();
    report.prefill.as_mut().unwrap().seconds = 20.0;
    // Two of four layers took 0.5 s.
    assert!((report.share_of_prefill().unwrap() - 0.05).abs() < 1e-12);
    let peak = Peak { dtype: "f32".into(), by: "test".into(), gflops: 120.0, size: 1 };
    assert!((report.share_of_peak(&report.batched[0], &peak) - 0.25).abs() < 1e-12);
    let seconds = Steps::default();
    let ratio = Stats::of([10.0, 12.0, 11.0]);
    report.baselines.push(Baseline { fit: SerialFit::Ridge, layers_measured: 1, seconds, ratio });
    assert!(report.to_string().contains("11.0x (10.0 to 12.0)"), "{report}");
    let Batched { gflop, .. } = report.batched[0];
    let settings = small().compaction(&Selection::shared());
    assert!((gflop - 4.0 * head_flops(&settings, 8, 128, 32, 16) / 1e9).abs() < 1e-12);
}

#[test]
fn runs_out_of_range_are_refused() {
    for (config, word) in [
        (OverheadConfig { layers: Some(5), ..small() }, "layers"),
        (OverheadConfig { layers: Some(0), ..small() }, "layers"),
        (OverheadConfig { runs: 0, ..small() }, "runs"),
        (OverheadConfig { selections: Vec::new(), ..small() }, "selection"),
        (OverheadConfig { keep_ratio: 1.5, ..small() }, "keep_ratio"),
        (OverheadConfig { seq_len: 0, ..small() }, "seq_len"),
    ] {
        assert_error!(measure(&config, &Device::Cpu, &mut |_| {}).unwrap_err(), _, word);
    }
}

#[test]
fn a_random_checkpoint_loads_and_its_prefill_is_timed() {
    let shape: Shape = "3x2x2x16".parse().unwrap();
    for dtype in [DType::F32, DType::BF16] {
        let checkpoint = RandomCheckpoint::write(&shape, 2, dtype, 100).unwrap();
        let worker = Checkpoint::dir(checkpoint.path()).unwrap().load(&Device::Cpu, Some(dtype)).unwrap();
        let model = worker.model();
        assert_eq!((model.config().num_hidden_layers, model.config().hidden_size), (2, 64));
        let tokens = worker.tokenizer().encode_text("Grüße an Oslo").unwrap();
        assert_eq!(worker.tokenizer().decode(&tokens).unwrap(), "Grüße an Oslo");
        let logits = model.forward(&tokens, &mut model.new_cache()).unwrap();
        assert_eq!(logits.dims(), [VOCAB]);
        assert!(numbers(&logits).iter().all(|logit| logit.is_finite()));
    }
    assert_error!(
        RandomCheckpoint::write(&shape, 4, DType::F32, 1).unwrap_err(),
        Error::Config { .. },
        "layers"
    );
    let huge: Shape = "1x1024x1024x1024".parse().unwrap();
    let error = RandomCheckpoint::write(&huge, 1, DType::F32, 1).unwrap_err();
    assert_error!(error, Error::Config { field: "shape", .. }, "16 GiB");
    let time = |seq_len, effort| time_prefill(&shape, seq_len, DType::F32, &Device::Cpu, effort);
    assert!(time(64, PrefillEffort::Skip).unwrap().is_none());
    assert_error!(time(0, PrefillEffort::Full).unwrap_err(), Error::Config { .. }, "seq_len");
    let sampled = time(3000, PrefillEffort::Sampled).unwrap().unwrap();
    // Five chunks of 512 and a rest.
    assert_eq!(
        sampled.samples.iter().map(|(depth, _)| *depth).collect::<Vec<_>>(),
        [0, 512, 1024, 1536, 2048]
    );
    let chunks: f64 = sampled.samples.iter().map(|(_, seconds)| seconds).sum();
    // At each sampled depth the line differs from what was measured, but not in the sum over all of them.
    assert!(sampled.seconds > 3.0 * chunks && sampled.layers_measured == 1, "{sampled:?}");
    // Linear maps of 98,304 operations a token and layer, attention of 256 a pair of positions before another, 3 layers.
    let (linear, all) = (98_304.0 * 3.0 * 3000.0, 128.0 * 3.0 * 3000.0 * 3000.0);
    assert!((sampled.linear_gflops * sampled.seconds * 1e9 / linear - 1.0).abs() < 1e-6, "{sampled:?}");
    assert!((sampled.gflops * sampled.seconds * 1e9 / (linear + all) - 1.0).abs() < 1e-6, "{sampled:?}");
    let short = time(64, PrefillEffort::Sampled).unwrap().unwrap();
    assert!(short.samples.is_empty() && short.seconds > 0.0);
}

#[test]
fn memory_that_a_step_takes_is_seen() {
    const BYTES: usize = 96 << 20;
    let (sum, peak) = peak_extra(|| vec![1u8; BYTES].iter().map(|byte| u64::from(*byte)).sum::<u64>());
    assert_eq!(sum, BYTES as u64);
    // Other tests run at the same time, so there is no upper bound.
    if let Some(peak) = peak {
        assert!(peak >= BYTES as u64 / 2, "{peak}");
    }
}

#[test]
fn tensors_are_written_whole() {
    let scene = scene(&config("2x2x2x16", 64, 4));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scene.safetensors");
    let equal = Compaction::keep_ratio(0.25).with_sharing(lb_am::Sharing::Equal);
    let config = equal.with_selection(Selection::per_head());
    let compacted = compact(&scene.layers, &scene.queries, &config).unwrap();
    let named = [("per-head".to_owned(), &compacted)];
    write_tensors(&path, &scene, &named, &config).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let told = &metadata.metadata().as_ref().unwrap()["config"];
    assert_eq!(serde_json::from_str::<Compaction>(told).unwrap(), config);
    let read = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    assert_eq!(numbers(&read["keys.1"]), numbers(&scene.layers[1].keys));
    assert_eq!(numbers(&read["queries.0"]), numbers(&scene.queries[0]));
    assert_eq!(numbers(&read["per-head.values.1"]), numbers(&compacted.layers[1].values));
    let kept: Vec<Vec<i64>> = read["per-head.kept.0"].to_vec2().unwrap();
    assert_eq!(
        kept[1],
        compacted.layers[0].kept.head(1).iter().map(|slot| i64::from(*slot)).collect::<Vec<_>>()
    );
    let nowhere = folder.path().join("none").join("file");
    let error = write_tensors(&nowhere, &scene, &named, &config).unwrap_err();
    assert_error!(error, Error::Io { .. }, "none");
}
