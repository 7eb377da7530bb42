//! How the fits do on queries that they were not made for, as they are given more and more rows: the tables of
//! `MATHEMATICS.md`.
//!
//! `cargo run --release -p lb-am --example fits_over_rows`

use lb_am::{BetaMethod, Compaction, Fidelity, Result, Selection, ValuesMethod, compact};
use lb_testkit::caches::{Dims, Scene, scene};

const SLOTS: usize = 400;
const KEPT: usize = 32;
/// Steps that bring the biases of any number of rows close to their optimum.
const MANY: usize = 3_000;
const SEEDS: std::ops::Range<u64> = 0..6;

fn main() -> Result<()> {
    println!(
        "| rows for each kept slot | mass, β 0 | 4 steps | optimum | output, copied | ridge | least squares |"
    );
    println!("|---|---|---|---|---|---|---|");
    for rows in [KEPT / 2, KEPT, 2 * KEPT, 4 * KEPT, 8 * KEPT, 16 * KEPT, 64 * KEPT] {
        let dims = Dims { layers: 1, heads: 4, seq_len: SLOTS, head_dim: 32, queries: rows };
        let scenes: Vec<Scene> = SEEDS.map(|seed| scene(dims, seed)).collect();
        let mean = |beta, values, error: fn(&Fidelity) -> f64| -> Result<f64> {
            let config = Compaction::kept_len(KEPT).with_selection(Selection::per_head());
            let config = config.with_beta(beta).with_values(values);
            let mut sum = 0.0;
            for scene in &scenes {
                let made = compact(&scene.task.layers, &scene.task.queries, &config)?;
                sum += error(&Fidelity::measure(&scene.task.layers, &made.layers, &scene.answer)?);
            }
            Ok(sum / scenes.len() as f64)
        };
        let mass = |beta| mean(beta, ValuesMethod::Copy, |fidelity| fidelity.total.mass_error);
        let output = |values| mean(BetaMethod::default(), values, |fidelity| fidelity.total.relative_l2);
        println!(
            "| {} | {:.3} | {:.3} | {:.3} | {:.3} | {:.3} | {:.3} |",
            rows as f64 / KEPT as f64,
            mass(BetaMethod::Zero)?,
            mass(BetaMethod::steps(4))?,
            mass(BetaMethod::steps(MANY))?,
            output(ValuesMethod::Copy)?,
            output(ValuesMethod::default())?,
            output(ValuesMethod::LeastSquares)?,
        );
    }
    Ok(())
}
