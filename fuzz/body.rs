//! What a fuzzer runs: the first bytes are settings, the rest is a tensor file. Shared with the in-process test.

use std::path::Path;

use lb_am::{
    BetaMethod, Budget, Compaction, HeadAgg, NnlsStart, Omp, OmpPhase, Protected, RowWeighting, ScoreAgg,
    Selection, Spans, ValuesMethod,
};
use lb_eval::tensor_job::TensorJob;

/// Bytes in front of the file that choose settings.
pub(crate) const SETTINGS: usize = 24;
/// Larger inputs say nothing new.
const MAX_BYTES: usize = 1 << 20;
/// Logits of all layers and heads; a pair of long key and query lists would take minutes, not memory.
const MAX_LOGITS: usize = 1 << 16;

/// How far an input came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// No tensor file.
    Refused,
    /// A tensor file, but the compaction was refused or the work was too much.
    Parsed,
    /// Through everything.
    Through,
}

/// Runs one input; panics where the library breaks a promise.
pub(crate) fn run(data: &[u8]) -> Came {
    if data.len() < SETTINGS || data.len() > MAX_BYTES {
        return Came::Refused;
    }
    let (settings, bytes) = data.split_at(SETTINGS);
    let Ok(job) = TensorJob::from_bytes(bytes, Path::new("fuzz.safetensors")) else { return Came::Refused };
    let rows = |queries: &[candle_core::Tensor]| queries[0].dims()[1];
    let queries = rows(job.queries()) + job.held_out().map_or(0, rows);
    let slots: usize = job.layers().iter().map(|layer| layer.kv_heads() * layer.seq_len()).sum();
    if slots.saturating_mul(queries) > MAX_LOGITS {
        return Came::Parsed;
    }
    let mut dice = Dice(settings, 0);
    let config = config(&mut dice);
    let Ok(outcome) = job.run(&config, 1 + dice.below(3)) else { return Came::Parsed };
    let written = outcome.to_bytes().expect("what was computed can be written");
    check(&job, &outcome, &written);
    Came::Through
}

/// What comes out has the promised shapes and can be read by anyone.
fn check(job: &TensorJob, outcome: &lb_eval::tensor_job::Outcome, written: &[u8]) {
    let read = safetensors::SafeTensors::deserialize(written).expect("a safetensors file");
    let (layers, first) = (job.layers().len(), &job.layers()[0]);
    let t = outcome.report.kept_len;
    assert!((1..=first.seq_len()).contains(&t));
    let slots = [layers, first.kv_heads(), t];
    let shape = |name: &str| read.tensor(name).expect("is there").shape().to_vec();
    assert_eq!(shape("keys"), [&slots[..], &[first.head_dim()]].concat());
    assert_eq!(shape("values"), shape("keys"));
    assert_eq!((shape("beta"), shape("indices")), (slots.to_vec(), slots.to_vec()));
    for layer in &outcome.compacted.layers {
        for head in 0..first.kv_heads() {
            let kept = layer.kept.head(head);
            assert!(kept.windows(2).all(|pair| pair[0] < pair[1]));
            assert!(kept.iter().all(|slot| (*slot as usize) < first.seq_len()));
        }
    }
}

/// Numbers from bytes, zeros when they run out.
struct Dice<'a>(&'a [u8], usize);

impl Dice<'_> {
    fn byte(&mut self) -> u8 {
        self.1 += 1;
        self.0.get(self.1 - 1).copied().unwrap_or(0)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.byte() as usize % bound
    }

    /// Zero, negative, tiny, ordinary, huge and odd numbers.
    fn number(&mut self) -> f64 {
        let ordinary = f64::from(self.byte()) / 64.0;
        match self.below(12) {
            0 => 0.0,
            1 => -ordinary,
            2 => 1e-6,
            3 => 1e6,
            4 => f64::NAN,
            5 => f64::INFINITY,
            6 => f64::MIN_POSITIVE,
            7 => ordinary / 16.0,
            _ => ordinary,
        }
    }
}

fn config(dice: &mut Dice<'_>) -> Compaction {
    let budget = match dice.below(4) {
        0 => Budget::Mad { tau: dice.number(), min_kept: dice.below(40), max_ratio: dice.number() },
        1 => Budget::KeepRatio(dice.number()),
        2 => Budget::KeptLen([dice.below(64), usize::MAX][usize::from(dice.below(16) == 0)]),
        _ => Budget::ErrorBelow { epsilon: dice.number(), min_kept: dice.below(40) },
    };
    let selection = match dice.below(4) {
        0 => Selection::shared(),
        1 => Selection::per_layer(),
        2 => Selection::per_head(),
        _ => Selection::omp(omp(dice)),
    };
    let values = match dice.below(5) {
        0 => ValuesMethod::Copy,
        1 => ValuesMethod::Ridge { lambda: dice.number(), importance: dice.number() },
        2 => ValuesMethod::RidgeLeaveOneOut,
        3 => ValuesMethod::RidgeToZero { lambda: dice.number() },
        _ => ValuesMethod::LeastSquares,
    };
    let start = [NnlsStart::Shared, NnlsStart::Ones, NnlsStart::LeastSquares][dice.below(3)];
    let rows = [RowWeighting::Mass, RowWeighting::Relative][dice.below(2)];
    let iterations = (dice.below(4) > 0).then(|| dice.below(100));
    let (lower, upper) = (-dice.number(), dice.number());
    let beta = match dice.below(4) {
        0 => BetaMethod::Zero,
        1 => BetaMethod::default(),
        _ => BetaMethod::Nnls { iterations, lower, upper, start, rows },
    };
    let width = dice.below(12);
    let spans = match dice.below(3) {
        0 => Spans::Max { width },
        1 => Spans::Mean { width },
        _ => Spans::Faded { width, factor: dice.number() },
    };
    let far = [dice.below(6), usize::MAX][usize::from(dice.below(32) == 0)];
    Compaction::with_budget(budget)
        .with_selection(selection)
        .with_values(values)
        .with_beta(beta)
        .with_spans(spans)
        .with_protect(Protected { first: far, last: dice.below(4) })
        .with_score([ScoreAgg::Mean, ScoreAgg::Max, ScoreAgg::Rms][dice.below(3)])
        .with_across([HeadAgg::Mean, HeadAgg::Max][dice.below(2)])
}

fn omp(dice: &mut Dice<'_>) -> Omp {
    let phase = |dice: &mut Dice<'_>, until| OmpPhase {
        until,
        keys_per_step: dice.below(5),
        refit_every: dice.below(4),
    };
    let first = dice.below(20);
    let schedule = vec![phase(dice, Some(first)), phase(dice, None)];
    let drop_below = (dice.below(3) == 0).then(|| -dice.number());
    Omp { schedule, drop_below, row_power: dice.number() }
}
