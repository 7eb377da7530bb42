//! The body of the fuzz target on files that are valid and then damaged, without a fuzzer.

#[path = "../../fuzz/body.rs"]
mod body;

use std::time::{Duration, Instant};

use candle_core::{DType, Tensor};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::support::caches::{noise, rng};
use body::{Came, SETTINGS, run};

/// A valid file of a few small tensors.
fn valid(rng: &mut ChaCha8Rng) -> Vec<u8> {
    let dims =
        [rng.random_range(1..4), rng.random_range(1..4), rng.random_range(1..40), rng.random_range(1..9)];
    let [layers, heads, slots, width] = dims;
    let dtype = [DType::F32, DType::F16, DType::BF16, DType::F64][rng.random_range(0..4)];
    // Ordinary numbers, all zero, and so large that logits overflow.
    let scale = [1.0, 1.0, 0.0, 30.0, 1e18][rng.random_range(0..5)];
    let draw = |rng: &mut ChaCha8Rng, rows: usize| -> Tensor {
        let flat = noise(rng, (layers * heads, rows, width), scale);
        flat.reshape((layers, heads, rows, width)).unwrap().to_dtype(dtype).unwrap()
    };
    let mut tensors = vec![("keys", draw(rng, slots)), ("values", draw(rng, slots))];
    let rows = rng.random_range(1..9);
    tensors.push(("queries", draw(rng, rows)));
    if rng.random_bool(0.5) {
        tensors.push(("held_out_queries", draw(rng, 3)));
    }
    if rng.random_bool(0.5) {
        let dead = rng.random_range(0.0..0.6);
        let bias = (0..layers * heads * slots)
            .map(|_| if rng.random_bool(dead) { f32::NEG_INFINITY } else { rng.random_range(-3.0..3.0) });
        let bias = Tensor::from_iter(bias.collect::<Vec<_>>(), &candle_core::Device::Cpu).unwrap();
        tensors.push(("bias", bias.reshape((layers, heads, slots)).unwrap()));
    }
    safetensors::serialize(tensors, None).unwrap()
}

/// Leaves a file as it is, or changes a few of its bytes, or cuts or extends it.
fn damage(rng: &mut ChaCha8Rng, mut file: Vec<u8>) -> Vec<u8> {
    match rng.random_range(0..8) {
        0..3 => {}
        3 => file.truncate(rng.random_range(0..file.len())),
        4 => file.extend((0..rng.random_range(1..20)).map(|_| rng.random::<u8>())),
        // The header is where a byte matters most.
        5 => (0..rng.random_range(1..4)).for_each(|_| {
            let at = rng.random_range(0..file.len().min(400));
            file[at] = rng.random();
        }),
        6 => (0..rng.random_range(1..4)).for_each(|_| {
            let at = rng.random_range(0..file.len().min(400));
            file[at] = b"0123456789[]{},:\"FB"[rng.random_range(0..19)];
        }),
        _ => (0..rng.random_range(1..30)).for_each(|_| {
            let at = rng.random_range(0..file.len());
            file[at] = rng.random();
        }),
    }
    file
}

/// Runs inputs until the time is up; returns how many came how far.
fn fuzz(seed: u64, time: Duration, at_most: usize) -> [usize; 3] {
    let (started, mut counts) = (Instant::now(), [0; 3]);
    for index in 0..at_most {
        if started.elapsed() > time {
            break;
        }
        // Each input has a seed of its own, so that one can be run again.
        let mut rng = rng(seed.wrapping_add(index as u64));
        let mut input: Vec<u8> = (0..SETTINGS).map(|_| rng.random()).collect();
        let file = valid(&mut rng);
        input.extend(damage(&mut rng, file));
        let came = std::panic::catch_unwind(|| run(&input));
        let came =
            came.unwrap_or_else(|_| panic!("the input of seed {} fails", seed.wrapping_add(index as u64)));
        counts[match came {
            Came::Refused => 0,
            Came::Parsed => 1,
            Came::Through => 2,
        }] += 1;
    }
    counts
}

#[test]
fn damaged_inputs_never_panic() {
    let counts = fuzz(1, Duration::from_secs(30), 1500);
    // The time may run out on a slow machine; each kind of input came all the same.
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
}

/// Ten minutes, or `LB_FUZZ_SECONDS`, from the seed `LB_FUZZ_SEED`.
#[test]
#[ignore = "takes ten minutes"]
fn damaged_inputs_never_panic_for_long() {
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (seconds, seed) = (number("LB_FUZZ_SECONDS", 600), number("LB_FUZZ_SEED", 1_000_000));
    let counts = fuzz(seed, Duration::from_secs(seconds), usize::MAX);
    println!(
        "{seconds} s from seed {seed}: {} refused, {} parsed, {} through",
        counts[0], counts[1], counts[2]
    );
}
