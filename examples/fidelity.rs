//! Methods compared on the worker's own caches: the error of the attention output on queries that no fit has seen, the
//! answers, and the time, from half of the positions down to a hundredth.
//!
//! `cargo run --release --example fidelity` writes fidelity.csv and fidelity.png.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use latent_briefing::am::{HeadBudgets, Selection};
use latent_briefing::eval::episodes::{Episode, EpisodeConfig};
use latent_briefing::eval::report::write_file;
use latent_briefing::eval::study::{Asked, Cell, HeadSensitivity, Method, Probe, figures, plot};
use latent_briefing::prelude::*;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Compare selections and fits on held-out episodes.
#[derive(Parser)]
struct Args {
    /// A checkpoint folder in the Hugging Face layout instead of the built-in worker.
    #[arg(long)]
    model: Option<PathBuf>,
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
            eprintln!("fidelity: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let worker = match &args.model {
        Some(folder) => Worker::load(folder)?,
        None => Worker::embedded()?,
    };
    if let Set::Heads = args.set {
        return measure_heads(args, &worker);
    }
    let mut methods = vec![Method::Full];
    let ours = match args.set {
        Set::Methods | Set::Heads => {
            let budgets = args.head_budgets.as_deref().map(read_budgets).transpose()?;
            let budgeted = budgets.map(|budgets| {
                let per_head = Compaction::keep_ratio(0.1).with_selection(Selection::PerHead);
                Method::new("per head, own budgets", per_head.with_head_budgets(budgets))
            });
            [Method::ours(), budgeted.into_iter().collect(), Method::baselines()].concat()
        }
        Set::Ablations => Method::ablations(),
        Set::Targets => args
            .epsilon
            .iter()
            .map(|epsilon| Method::new(&format!("error below {epsilon}"), Compaction::error_below(*epsilon)))
            .collect(),
    };
    methods.extend(ours);
    let cells = match &args.rebuild {
        Some(path) => read_cells(path)?,
        None => answer(args, &worker, &methods)?,
    };
    let figures = figures::figures(&cells);
    if let Set::Targets = args.set {
        println!("{}", figures::targets_table(&cells));
    } else {
        println!("{}\n", figures::table(&figures));
        for ratio in &args.keep_ratio {
            println!("{}\n", figures::kinds_table(&figures, *ratio));
        }
        plot::draw(&figures, &Method::ours(), &args.png)?;
        println!("picture: {}", args.png.display());
    }
    write_file(&args.csv, figures::csv(&figures).as_bytes())?;
    println!("figures: {}", args.csv.display());
    if let Some(path) = &args.cells {
        let lines: Vec<String> =
            cells.iter().map(serde_json::to_string).collect::<std::result::Result<_, _>>()?;
        write_file(path, (lines.join("\n") + "\n").as_bytes())?;
    }
    Ok(())
}

fn read_budgets(path: &Path) -> Result<HeadBudgets> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(HeadBudgets::from_json(&text).map_err(|error| format!("{}: {error}", path.display()))?)
}

fn read_cells(path: &Path) -> Result<Vec<Cell>> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let cell = |(number, line): (usize, &str)| {
        serde_json::from_str(line)
            .map_err(|error| format!("{}, line {}: {error}", path.display(), number + 1).into())
    };
    text.lines().enumerate().map(cell).collect()
}

fn measure_heads(args: &Args, worker: &Worker) -> Result<()> {
    let path = args.head_budgets.as_deref().ok_or("--set heads needs --head-budgets FILE")?;
    let mut sensitivity = HeadSensitivity::default();
    each_question(args, worker, &mut |probe, asked| Ok(sensitivity.add(probe, asked)?))?;
    let budgets = sensitivity.budgets()?;
    for (layer, shares) in budgets.shares.iter().enumerate() {
        let shares: Vec<String> = shares.iter().map(|share| format!("{share:.3}")).collect();
        println!("layer {layer}: {}", shares.join("  "));
    }
    write_file(path, (budgets.to_json() + "\n").as_bytes())?;
    println!("head budgets: {}", path.display());
    Ok(())
}

/// Every question by every method at every size.
fn answer(args: &Args, worker: &Worker, methods: &[Method]) -> Result<Vec<Cell>> {
    let mut cells = Vec::new();
    each_question(args, worker, &mut |probe, asked| {
        for method in methods {
            let sizes = if method.sizes_itself() { &args.keep_ratio[..1] } else { &args.keep_ratio };
            for ratio in sizes {
                cells.push(probe.run(asked, method, *ratio)?);
            }
        }
        Ok(())
    })?;
    Ok(cells)
}

fn each_question(
    args: &Args,
    worker: &Worker,
    look: &mut dyn FnMut(&mut Probe<'_>, &Asked) -> Result<()>,
) -> Result<()> {
    let config = EpisodeConfig::held_out((args.words[0], args.words[1]), args.questions);
    let bar = ProgressBar::new(args.episodes)
        .with_style(ProgressStyle::with_template("{bar:30} {pos}/{len} episodes, {eta} left")?);
    for i in 0..args.episodes {
        let episode = Episode::generate(args.seed + i, &config)?;
        let mut session = worker.session()?;
        session.extend_all(episode.lines.iter().map(Segment::from), &mut |_, _| {})?;
        let mut probe = Probe::new(worker, &episode, session)?;
        for number in 0..episode.questions.len() {
            let asked = probe.ask(number)?;
            look(&mut probe, &asked)?;
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(())
}
