//! Methods compared on the worker's own caches: the error of the attention output on queries that no fit has seen, the
//! answers, and the time, from half of the positions down to a hundredth.
//!
//! `cargo run --release -p lb-perf --example fidelity` writes fidelity.csv and fidelity.png.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use lb_cli::{bar, complain, say};
use lb_eval::study::{Cell, Method, Study, figures, plot, read_cells, read_head_budgets, write_cells};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Compare selections and fits on held-out episodes.
#[derive(Parser)]
struct Args {
    /// A checkpoint folder in the Hugging Face layout instead of the built-in worker.
    #[arg(long, alias = "model")]
    worker: Option<PathBuf>,
    /// What is compared.
    #[arg(long, value_enum, default_value_t = Set::Methods)]
    set: Set,
    /// Keep ratios, each in (0, 1].
    #[arg(long, value_delimiter = ',', default_values_t = [0.5, 0.2, 0.1, 0.05, 0.02, 0.01])]
    keep_ratio: Vec<f64>,
    /// Error targets, for `--set targets`.
    #[arg(long, value_delimiter = ',', default_values_t = [0.4, 0.3, 0.2, 0.1])]
    epsilon: Vec<f64>,
    /// Held-out episodes.
    #[arg(long, default_value_t = 8)]
    episodes: u64,
    /// Questions an episode.
    #[arg(long, default_value_t = 5)]
    questions: usize,
    /// Shortest and longest log in words; the default is about 512 to 2,048 tokens of the built-in worker.
    #[arg(long, num_args = 2, default_values_t = [285, 1080])]
    words: Vec<usize>,
    /// Seed of the first episode.
    #[arg(long, default_value_t = 20_000)]
    seed: u64,
    /// Where the figures go.
    #[arg(long, default_value = "fidelity.csv")]
    csv: PathBuf,
    /// Where the picture goes.
    #[arg(long, default_value = "fidelity.png")]
    png: PathBuf,
    /// Head budgets: written by `--set heads`, and read by `--set methods` for one more method.
    #[arg(long)]
    head_budgets: Option<PathBuf>,
    /// Every single answer, as JSON lines.
    #[arg(long)]
    cells: Option<PathBuf>,
    /// Answer nothing, and rebuild tables and picture from these JSON lines.
    #[arg(long)]
    rebuild: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Set {
    /// Our selections and the published ones.
    Methods,
    /// One choice of the default changed at a time.
    Ablations,
    /// Error targets: what was asked for, estimated and measured.
    Targets,
    /// Measure how much the size of each head matters, and write head budgets to `--head-budgets`.
    Heads,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain!("fidelity: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let worker = lb_cli::worker(args.worker.as_ref())?;
    let words = (args.words[0], args.words[1]);
    let study = Study { seed: args.seed, episodes: args.episodes, questions: args.questions, words };
    let bar = bar(args.episodes, "episodes");
    let mut progress = |done| bar.set_position(done);
    let mut methods = vec![Method::Full];
    match args.set {
        Set::Methods => {
            methods.extend(Method::ours());
            if let Some(path) = &args.head_budgets {
                methods.push(Method::with_head_budgets(read_head_budgets(path)?));
            }
            methods.extend(Method::baselines());
        }
        Set::Ablations => methods.extend(Method::ablations()),
        Set::Targets => methods.extend(Method::error_targets(&args.epsilon)),
        Set::Heads => {
            let path = args.head_budgets.as_deref().ok_or("--set heads needs --head-budgets FILE")?;
            let budgets = study.head_sensitivity(&worker, &mut progress)?.budgets()?;
            say!("{}\nhead budgets: {}", figures::head_budgets_table(&budgets), path.display());
            lb_cli::write_file(path, (budgets.to_json() + "\n").as_bytes())?;
            return Ok(());
        }
    }
    let cells = match &args.rebuild {
        Some(path) => read_cells(path)?,
        None => study.run(&worker, &methods, &args.keep_ratio, &mut progress)?,
    };
    bar.finish_and_clear();
    show(args, &cells)
}

fn show(args: &Args, cells: &[Cell]) -> Result<()> {
    let figures = figures::figures(cells);
    if let Set::Targets = args.set {
        say!("{}\n", figures::targets_table(cells));
    } else {
        say!("{}\n", figures::table(&figures));
        for ratio in &args.keep_ratio {
            say!("{}\n", figures::kinds_table(&figures, *ratio));
        }
        plot::draw(&figures, &Method::ours(), &args.png)?;
        say!("picture: {}", args.png.display());
    }
    lb_cli::write_file(&args.csv, figures::csv(&figures).as_bytes())?;
    say!("figures: {}", args.csv.display());
    if let Some(path) = &args.cells {
        write_cells(path, cells)?;
    }
    Ok(())
}
