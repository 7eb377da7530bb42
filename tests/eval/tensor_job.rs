//! Caches in files: round trips, ragged results, bad files.

use std::path::Path;

use candle_core::{DType, Device, Tensor, safetensors};
use lb_am::{Budget, Compaction, Fidelity, HeadBudgets, Selection, compact};
use lb_eval::Error;
use lb_eval::tensor_job::{JobReport, TensorJob};

use crate::support::caches::{noise, rng};
use crate::support::layered::Layered;

/// Layers, KV heads, slots, width, queries.
const DIMS: [usize; 5] = [2, 2, 40, 8, 6];

type Named = Vec<(&'static str, Tensor)>;

fn tensors(dtype: DType) -> Named {
    let [layers, heads, slots, width, queries] = DIMS;
    let mut rng = rng(7);
    let mut draw = |rows: usize| {
        let flat = noise(&mut rng, (layers * heads, rows, width), 1.0);
        flat.reshape((layers, heads, rows, width)).unwrap().to_dtype(dtype).unwrap()
    };
    vec![
        ("keys", draw(slots)),
        ("values", draw(slots)),
        ("queries", draw(queries)),
        ("held_out_queries", draw(9)),
    ]
}

/// `tensors` with one replaced, or added.
fn with(mut tensors: Named, name: &'static str, tensor: Tensor) -> Named {
    tensors.retain(|(other, _)| *other != name);
    tensors.push((name, tensor));
    tensors
}

pub(super) fn bytes(tensors: &Named) -> Vec<u8> {
    ::safetensors::serialize(tensors.iter().map(|(name, tensor)| (*name, tensor)), None).unwrap()
}

fn job(tensors: &Named) -> Result<TensorJob, Error> {
    TensorJob::from_bytes(&bytes(tensors), Path::new("in.safetensors"))
}

#[test]
fn a_round_trip_in_every_dtype() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in.safetensors"), folder.path().join("out.safetensors"));
    for (dtype, stored) in [
        (DType::F32, DType::F32),
        (DType::F16, DType::F16),
        (DType::BF16, DType::BF16),
        (DType::F64, DType::F32),
    ] {
        std::fs::write(&input, bytes(&tensors(dtype))).unwrap();
        let job = TensorJob::read(&input).unwrap();
        let config = Layered::keep_ratio(0.2);
        let outcome = job.run(&config, 1).unwrap();
        outcome.write(&output).unwrap();
        let read = safetensors::load(&output, &Device::Cpu).unwrap();
        let same = compact(job.layers(), job.queries(), &config).unwrap();
        assert_eq!(read["indices"].dtype(), DType::I64);
        for (index, layer) in same.layers.iter().enumerate() {
            let stored_is = |name: &str, want: &Tensor, dtype: DType| {
                let got = read[name].get(index).unwrap();
                assert_eq!((got.dims(), got.dtype()), (want.dims(), dtype));
                let flat = |t: &Tensor| -> Vec<f64> {
                    t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
                };
                assert_eq!(flat(&got), flat(want), "{name}");
            };
            stored_is("keys", &layer.keys, stored);
            stored_is("values", &layer.values, stored);
            stored_is("beta", &layer.bias, DType::F32);
            let slots = read["indices"].get(index).unwrap().to_vec2::<i64>().unwrap();
            let want: Vec<i64> = layer.kept.head(0).iter().map(|slot| i64::from(*slot)).collect();
            assert_eq!(slots, [want.clone(), want]);
        }
        let report = &outcome.report;
        assert_eq!((report.kept_len, report.shape), (8, [2, 2, 40, 8]));
        let held_out = Fidelity::measure(job.layers(), &same.layers, job.held_out().unwrap()).unwrap();
        assert_eq!(report.held_out_fidelity.as_ref(), Some(&held_out));
        let json = serde_json::to_string(report).unwrap();
        assert_eq!(serde_json::from_str::<JobReport>(&json).unwrap().config, report.config);
    }
}

#[test]
fn shorter_heads_and_layers_end_in_padding() {
    let job = job(&tensors(DType::F32)).unwrap();
    let budgets = HeadBudgets { shares: vec![vec![0.4, 0.1], vec![0.2, 0.3]] };
    let ragged = Layered::kept_len(10).with_selection(Selection::per_head());
    let ragged = Compaction { sharing: None, ..ragged }.with_head_budgets(budgets);
    let tau = Budget::Mad { tau: 1.0, min_kept: 1, max_ratio: 1.0 };
    let by_layer = Layered::with_budget(tau).with_pooling(1);
    let by_head = by_layer.clone().with_selection(Selection::per_head());
    for config in [ragged, by_layer, by_head] {
        let outcome = job.run(&config, 1).unwrap();
        let read = safetensors::load_buffer(&outcome.to_bytes().unwrap(), &Device::Cpu).unwrap();
        let mut padded = 0;
        for (index, layer) in outcome.compacted.layers.iter().enumerate() {
            let beta = read["beta"].get(index).unwrap().to_vec2::<f32>().unwrap();
            let slots = read["indices"].get(index).unwrap().to_vec2::<i64>().unwrap();
            let keys = read["keys"].get(index).unwrap().to_vec3::<f32>().unwrap();
            let full = job.layers()[index].keys.to_vec3::<f32>().unwrap();
            for head in 0..2 {
                assert_eq!(slots[head].len(), outcome.report.kept_len);
                for row in 0..outcome.report.kept_len {
                    let filled = row >= layer.kept.head(head).len();
                    padded += usize::from(filled);
                    assert_eq!(slots[head][row] == -1, filled);
                    assert_eq!(beta[head][row] == f32::NEG_INFINITY, filled);
                    if filled {
                        assert!(keys[head][row].iter().all(|x| *x == 0.0));
                    } else {
                        assert_eq!(keys[head][row], full[head][slots[head][row] as usize]);
                    }
                }
            }
        }
        assert!(padded > 0, "{config:?}");
    }
}

#[test]
fn a_bias_may_mark_padding() {
    let [layers, heads, slots, ..] = DIMS;
    let row: Vec<f32> = (0..slots).map(|j| if j >= 36 { f32::NEG_INFINITY } else { 0.1 }).collect();
    let bias = Tensor::new(row, &Device::Cpu).unwrap().broadcast_as((layers, heads, slots)).unwrap();
    let bias = bias.contiguous().unwrap();
    let job = job(&with(tensors(DType::F32), "bias", bias.clone())).unwrap();
    let outcome = job.run(&Compaction::keep_ratio(0.5), 1).unwrap();
    assert!(outcome.compacted.layers[0].kept.head(0).iter().all(|slot| *slot < 36));
    for bad in [f32::NAN, f32::INFINITY] {
        let bias = Tensor::full(bad, (layers, heads, slots), &Device::Cpu).unwrap();
        let error = self::job(&with(tensors(DType::F32), "bias", bias)).unwrap_err();
        assert!(matches!(error, Error::NonFinite { tensor: "bias", layer: 0, head: 0, .. }), "{error}");
    }
}

#[test]
fn bad_tensors_are_named() {
    let good = || tensors(DType::F32);
    for missing in ["keys", "values", "queries"] {
        let mut tensors = good();
        tensors.retain(|(name, _)| *name != missing);
        let error = job(&tensors).unwrap_err();
        assert!(matches!(&error, Error::MissingTensor { tensor, .. } if *tensor == missing), "{error}");
        assert!(error.to_string().contains("in.safetensors"));
    }
    let ones = |dims: &[usize]| Tensor::ones(dims, DType::F32, &Device::Cpu).unwrap();
    let wrong: [(&'static str, &[usize]); 9] = [
        ("keys", &[2, 40, 8]),
        ("keys", &[0, 2, 40, 8]),
        ("keys", &[2, 2, 0, 8]),
        ("values", &[2, 2, 39, 8]),
        ("queries", &[2, 1, 6, 8]),
        ("queries", &[2, 2, 0, 8]),
        ("held_out_queries", &[2, 2, 6, 7]),
        ("bias", &[2, 2, 41]),
        ("bias", &[2, 2, 40, 1]),
    ];
    for (name, dims) in wrong {
        let error = job(&with(good(), name, ones(dims))).unwrap_err();
        assert!(
            matches!(&error, Error::TensorShape { tensor, got, .. } if *tensor == name && got == dims),
            "{error}"
        );
    }
    for (name, dtype) in [("keys", DType::I64), ("queries", DType::U8), ("values", DType::BF16)] {
        let tensor = good().into_iter().find(|(other, _)| *other == name).unwrap().1;
        let error = job(&with(good(), name, tensor.to_dtype(dtype).unwrap())).unwrap_err();
        assert!(matches!(&error, Error::TensorDtype { tensor, .. } if *tensor == name), "{error}");
    }
    for dtype in [DType::F32, DType::F16, DType::BF16, DType::F64] {
        let [layers, heads, slots, width, _] = DIMS;
        let mut values = vec![0f32; layers * heads * slots * width];
        values[(heads + 1) * slots * width + 5] = f32::NAN;
        let values = Tensor::from_vec(values, (layers, heads, slots, width), &Device::Cpu).unwrap();
        let error = job(&with(tensors(dtype), "values", values.to_dtype(dtype).unwrap())).unwrap_err();
        assert!(matches!(error, Error::NonFinite { tensor: "values", layer: 1, head: 1, .. }), "{error}");
    }
}

#[test]
fn damaged_files_are_errors() {
    let whole = bytes(&tensors(DType::BF16));
    for len in (0..whole.len()).step_by(37) {
        let error = TensorJob::from_bytes(&whole[..len], Path::new("cut")).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{len}: {error}");
    }
    // Headers that promise more than there is.
    for header in [
        r#"{"keys":{"dtype":"F32","shape":[4611686018427387904,4,1,1],"data_offsets":[0,0]}}"#,
        r#"{"keys":{"dtype":"F32","shape":[1000000,1000000,1000,1],"data_offsets":[0,4000000000000000]}}"#,
        r#"{"keys":{"dtype":"F32","shape":[1,1,1,1],"data_offsets":[4,0]}}"#,
        "[]",
        "",
    ] {
        let file = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
        let error = TensorJob::from_bytes(&file, Path::new("hostile")).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{header}: {error}");
    }
    // A dimension of zero beside one that would never end.
    let header = r#"{"keys":{"dtype":"F32","shape":[9223372036854775807,0,1,1],"data_offsets":[0,0]}}"#;
    let file = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    let error = TensorJob::from_bytes(&file, Path::new("hostile")).unwrap_err();
    assert!(matches!(error, Error::TensorShape { tensor: "keys", .. }), "{error}");
    let error = TensorJob::from_bytes(&u64::MAX.to_le_bytes(), Path::new("hostile")).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    let error = TensorJob::read(Path::new("/does/not/exist")).unwrap_err();
    assert!(matches!(&error, Error::Io { path, .. } if path == Path::new("/does/not/exist")), "{error}");
}

#[test]
fn settings_are_checked_and_nothing_is_half_written() {
    let job = job(&tensors(DType::F32)).unwrap();
    assert!(matches!(job.run(&Compaction::keep_ratio(0.0), 1).unwrap_err(), Error::Compaction(_)));
    assert!(matches!(job.run(&Compaction::keep_ratio(0.5), 4).unwrap_err(), Error::Compaction(_)));
    let folder = tempfile::tempdir().unwrap();
    let outcome = job.run(&Compaction::keep_ratio(0.5), 2).unwrap();
    let error = outcome.write(&folder.path().join("missing/out.safetensors")).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
