//! `compact`: tensors in, tensors out.

use candle_core::{Device, safetensors};
use lb_am::{Compaction, ValuesMethod};

use super::{json_of, ran};
use crate::support::caches::{noise, rng};

#[test]
fn a_cache_in_a_file_becomes_a_shorter_one() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in.safetensors"), folder.path().join("out.safetensors"));
    let mut rng = rng(11);
    let mut draw = |rows: usize| noise(&mut rng, (4, rows, 8), 1.0).reshape((2, 2, rows, 8)).unwrap();
    let tensors = [("keys", draw(64)), ("values", draw(64)), ("queries", draw(6))];
    safetensors::save(&tensors.map(|(name, tensor)| (name.to_owned(), tensor)).into(), &input).unwrap();
    let (from, to) = (input.to_str().unwrap(), output.to_str().unwrap());
    let told = json_of(["compact", "--input", from, "--output", to, "--keep-ratio", "0.25"]);
    // Heads share a quarter of all slots among them; the longest says how many rows there are.
    let kept = told["kept_len"].as_u64().unwrap() as usize;
    assert!(kept >= 16 && (told["keep_ratio"].as_f64().unwrap() - 0.25).abs() < 1e-9, "{told}");
    assert_eq!(told["shape"], serde_json::json!([2, 2, 64, 8]));
    let made = safetensors::load(&output, &Device::Cpu).unwrap();
    assert_eq!(made["keys"].dims(), [2, 2, kept, 8]);
    // The same for a person, and a report beside it.
    let report = folder.path().join("report.json");
    let ended = ran([
        "compact",
        "--input",
        from,
        "--output",
        to,
        "--keep-ratio",
        "0.25",
        "--selection",
        "shared",
        "--report",
        report.to_str().unwrap(),
    ]);
    assert!(ended.code == 0 && ended.out.contains("kept "), "{}{}", ended.out, ended.err);
    assert!(report.is_file());

    let before = std::fs::read(&output).unwrap();
    for (arguments, word) in
        [(["--keep-ratio", "0"], "keep_ratio"), (["--pool", "4"], "width"), (["--lambda", "-1"], "lambda")]
    {
        let ended = ran(["compact", "--input", from, "--output", to, "--json"].into_iter().chain(arguments));
        assert_eq!(ended.code, 1, "{arguments:?}: {}", ended.err);
        assert!(ended.err.contains(word), "{arguments:?}: {}", ended.err);
        assert_eq!(ended.json()["exit"], 1);
    }
    for (arguments, word) in [
        (["--values", "lstsq", "--lambda", "0"], "lstsq"),
        (["--values", "ridge-loo", "--lambda", "1"], "ridge-loo"),
        (["--values", "ridge-zero", "--importance", "1"], "ridge-original"),
    ] {
        let ended = ran(["compact", "--input", from, "--output", to].into_iter().chain(arguments));
        assert!(ended.code == 2 && ended.err.contains(word), "{arguments:?}: {}", ended.err);
    }
    let ended = ran(["compact", "--input", "/no/such.safetensors", "--output", to]);
    assert!(ended.code == 1 && ended.err.contains("/no/such.safetensors"), "{}", ended.err);
    assert_eq!(std::fs::read(&output).unwrap(), before);
    // Nothing asked for is the library's default, and a λ of 0 is taken.
    let told = json_of(["compact", "--input", from, "--output", to]);
    assert_eq!(told["config"], serde_json::to_value(Compaction::default()).unwrap());
    let told = json_of(["compact", "--input", from, "--output", to, "--keep-ratio", "0.25", "--lambda", "0"]);
    let want = ValuesMethod::Ridge { lambda: 0.0, importance: 1.0 };
    assert_eq!(told["config"]["values"], serde_json::to_value(want).unwrap());
    // What the fit did, of all that it could not tell apart from 0.
    assert!((told["values"]["lambda"].as_f64().unwrap() - 1e-6).abs() < 1e-12, "{}", told["values"]);
}
