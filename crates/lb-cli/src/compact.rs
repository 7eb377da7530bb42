//! `compact`: a cache from a safetensors file, compacted for the queries beside it, no model involved.
//!
//! What the files hold is told in [`lb_eval::tensor_job`]. Whatever is not asked for is as in [`Compaction::default`].

use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use lb_am::{BetaMethod, Budget, Compaction, Protected, Selection, Spans, ValuesMethod};
use lb_eval::tensor_job::TensorJob;

use crate::exit::Usage;
use crate::output::{Json, is_json};
use crate::{Exit, Result, write_file};

/// Compact a KV cache that lies in a safetensors file, for the queries beside it
#[derive(clap::Args)]
pub(crate) struct Args {
    /// File with `keys`, `values`, `queries`, and where there are any `bias` and `held_out_queries`.
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// File for `keys`, `values`, `beta` and `indices`.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Any selection that reads no more than the queries beside the cache: shared, per-layer, per-head, omp, snapkv:pool=5.
    #[arg(long, default_value_t)]
    selection: Selection,
    /// Keep this share of the positions, in (0, 1].
    #[arg(long, group = "budget", allow_negative_numbers = true)]
    keep_ratio: Option<f64>,
    /// Keep this many positions.
    #[arg(long, group = "budget")]
    kept_len: Option<usize>,
    /// Keep what scores above median + TAU x MAD (0 to 1e6; higher keeps less), 32 at the least; 12 where no budget is given.
    #[arg(long, group = "budget", allow_negative_numbers = true)]
    tau: Option<f64>,
    /// Keep as few as hold the estimated relative error below this, in (0, 10); 32 at the least.
    #[arg(long, group = "budget", allow_negative_numbers = true)]
    error: Option<f64>,
    /// How attention is aggregated over queries.
    #[arg(long, default_value_t = usual_score(), value_parser = ["mean", "max", "rms"])]
    score: String,
    /// How key biases are fitted.
    #[arg(long, default_value = "nnls", value_parser = ["nnls", "zero"])]
    beta: String,
    /// How values are refitted; `direct` copies them.
    #[arg(long, default_value = "ridge-original",
          value_parser = ["ridge-original", "ridge-zero", "ridge-loo", "lstsq", "direct"])]
    values: String,
    /// Strength of `ridge-original` and `ridge-zero`, 1e-6 to 1e6, or 0 for the least squares next to the originals or to
    /// zero; 1 by default.
    #[arg(long, allow_negative_numbers = true)]
    lambda: Option<f64>,
    /// Exponent of the importance weights of `ridge-original`, 0 to 8; 1 by default.
    #[arg(long, allow_negative_numbers = true)]
    importance: Option<f64>,
    /// Width of a max-pool over scores, odd, 1 to 255; 1 turns it off. By default spans fade.
    #[arg(long)]
    pool: Option<usize>,
    /// First positions that always stay.
    #[arg(long, default_value_t = Protected::default().first)]
    sinks: usize,
    /// Query heads per KV head.
    #[arg(long, default_value_t = 1)]
    group_size: usize,
    /// Write settings, sizes, fits, times and errors as JSON.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    #[command(flatten)]
    json: Json,
}

/// The name of what the library aggregates by.
fn usual_score() -> String {
    let name = serde_json::to_value(Compaction::default().score);
    name.ok().and_then(|name| name.as_str().map(str::to_owned)).expect("a unit variant is its name")
}

impl Args {
    fn config(&self) -> Result<Compaction> {
        let budget = match (self.kept_len, self.tau, self.error) {
            (Some(len), _, _) => Budget::KeptLen(len),
            (_, Some(tau), _) => Compaction::mad(tau).budget,
            (_, _, Some(error)) => Compaction::error_below(error).budget,
            _ => self.keep_ratio.map_or(Compaction::default().budget, Budget::KeepRatio),
        };
        let selection = self.selection.clone();
        let values = self.values()?;
        let score = serde_json::from_value(self.score.as_str().into()).expect("one of the names above");
        let config = Compaction::with_budget(budget).with_selection(selection).with_score(score);
        let spans = self.pool.map_or(config.spans, |width| Spans::Max { width });
        let config = config.with_spans(spans).with_values(values);
        let config = config.with_protect(Protected { first: self.sinks, ..Protected::default() });
        Ok(if self.beta == "zero" { config.with_beta(BetaMethod::Zero) } else { config })
    }

    /// A setting that a method does not read is an error: whoever gave it would believe that it was followed.
    fn values(&self) -> Result<ValuesMethod> {
        let name = self.values.as_str();
        let refuse = |flag: &str, given: bool, read_by: &str| {
            let told = || format!("{flag} is the setting of {read_by}; --values {name} has none");
            if given { Err(Usage(told())) } else { Ok(()) }
        };
        let (ridge, original) = (name.starts_with("ridge-") && name != "ridge-loo", name == "ridge-original");
        refuse("--lambda", self.lambda.is_some() && !ridge, "ridge-original and ridge-zero")?;
        refuse("--importance", self.importance.is_some() && !original, "ridge-original")?;
        let (lambda, importance) = (self.lambda.unwrap_or(1.0), self.importance.unwrap_or(1.0));
        Ok(match name {
            "ridge-zero" => ValuesMethod::RidgeToZero { lambda },
            "ridge-loo" => ValuesMethod::RidgeLeaveOneOut,
            "lstsq" => ValuesMethod::LeastSquares,
            "direct" => ValuesMethod::Copy,
            _ => ValuesMethod::Ridge { lambda, importance },
        })
    }
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    args.json.begin();
    let outcome = TensorJob::read(&args.input)?.run(&args.config()?, args.group_size)?;
    // What was computed is shown whatever becomes of the files.
    if !is_json() {
        match writeln!(std::io::stdout(), "{}", outcome.report) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(error.into()),
            _ => {}
        }
    }
    outcome.write(&args.output)?;
    if let Some(path) = &args.report {
        write_file(path, format!("{}\n", serde_json::to_string_pretty(&outcome.report)?).as_bytes())?;
    }
    args.json.end(&outcome.report)?;
    Ok(Exit::Done)
}
