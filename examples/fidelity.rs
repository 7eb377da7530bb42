//! Methods compared on the worker's own caches: the error of the attention output on queries that no fit has seen, the
//! answers, and the time, from half of the positions down to a hundredth.
//!
//! `cargo run --release --example fidelity` writes fidelity.csv and fidelity.png.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use latent_briefing::eval::episodes::{Episode, EpisodeConfig};
use latent_briefing::eval::report::write_file;
use latent_briefing::eval::study::{Cell, Method, Probe, figures, plot};
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
    /// Every single answer, as JSON lines.
    #[arg(long)]
    cells: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Set {
    /// Our selections and the published ones.
    Methods,
    /// One choice of the default changed at a time.
    Ablations,
    /// Error targets: what was asked for, estimated and measured.
    Targets,
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
    let mut methods = vec![Method::Full];
    let ours = match args.set {
        Set::Methods => [Method::ours(), Method::baselines()].concat(),
        Set::Ablations => Method::ablations(),
        Set::Targets => args
            .epsilon
            .iter()
            .map(|epsilon| Method::new(&format!("error below {epsilon}"), Compaction::error_below(*epsilon)))
            .collect(),
    };
    methods.extend(ours);
    let cells = answer(args, &worker, &methods)?;
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

/// Every question by every method at every size.
fn answer(args: &Args, worker: &Worker, methods: &[Method]) -> Result<Vec<Cell>> {
    let config = EpisodeConfig::held_out((args.words[0], args.words[1]), args.questions);
    let bar = ProgressBar::new(args.episodes)
        .with_style(ProgressStyle::with_template("{bar:30} {pos}/{len} episodes, {eta} left")?);
    let mut cells = Vec::new();
    for i in 0..args.episodes {
        let episode = Episode::generate(args.seed + i, &config)?;
        let mut session = worker.session()?;
        session.extend_all(episode.lines.iter().map(Segment::from), &mut |_, _| {})?;
        let mut probe = Probe::new(worker, &episode, session)?;
        for number in 0..episode.questions.len() {
            let asked = probe.ask(number)?;
            for method in methods {
                let sizes = if method.sizes_itself() { &args.keep_ratio[..1] } else { &args.keep_ratio };
                for ratio in sizes {
                    cells.push(probe.run(&asked, method, *ratio)?);
                }
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(cells)
}
