//! A local worker answers questions about an orchestrator's trajectory that reached it as a compacted KV cache.
//!
//! `cargo run --release --example quickstart` needs no argument and no network.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use latent_briefing::eval::episodes::{Episode, EpisodeConfig};
use latent_briefing::eval::report::{kinds_table, table, write_file};
use latent_briefing::eval::summary::{HandoffSummary, summarise};
use latent_briefing::eval::trial::{Condition, Grading, Trial};
use latent_briefing::orchestrate::{PromptFormat, explain};
use latent_briefing::prelude::*;
use latent_briefing::programs;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Answer questions about an orchestrator's trajectory through six handoffs and compare them.
#[derive(Parser)]
struct Args {
    /// A checkpoint folder, a GGUF file, or `org/name` on the Hugging Face hub, instead of the built-in worker.
    #[arg(long)]
    model: Option<PathBuf>,
    /// Refuse a model that would be accepted with a warning.
    #[arg(long)]
    strict: bool,
    /// Keep what scores above median + TAU x MAD (0 to 1e6; higher keeps less).
    #[arg(long, conflicts_with = "keep_ratio", allow_negative_numbers = true)]
    tau: Option<f64>,
    /// Keep this share of the positions, in (0, 1].
    #[arg(long, default_value_t = 0.1, allow_negative_numbers = true)]
    keep_ratio: f64,
    /// Held-out episodes to answer, five questions each; 12 by default, 2 shorter ones of a model of your own.
    #[arg(long)]
    episodes: Option<u64>,
    /// Seed of the first episode and of the random positions.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write the heat map of the first briefing as a self-contained page.
    #[arg(long)]
    html: Option<PathBuf>,
    /// Write the figures as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quickstart: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let compaction = args.tau.map_or(Compaction::keep_ratio(args.keep_ratio), Compaction::mad);
    compaction.validate()?;
    let worker = programs::worker(args.model.as_ref(), args.strict)?;
    let own = args.model.is_some();
    // 512 to 2,048 tokens of the built-in worker.
    let config = EpisodeConfig::held_out((285, if own { 400 } else { 1080 }), 5);
    let episodes = args.episodes.unwrap_or(if own { 2 } else { 12 });
    let trial = Trial::new(&worker, compaction.clone(), Condition::main_table(compaction.clone(), args.seed));
    let trial = if own { trial.asking(in_words(), Grading::Names) } else { trial };
    let first = Episode::generate(args.seed, &config)?;
    show_one(&trial, &worker, &first, &compaction, args.html.as_deref())?;

    let bar = ProgressBar::new(episodes)
        .with_style(ProgressStyle::with_template("{bar:30} {pos}/{len} episodes, {eta} left")?);
    let mut rows = Vec::new();
    for i in 0..episodes {
        rows.extend(trial.run(&Episode::generate(args.seed + i, &config)?, &mut |_, _| {})?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let summaries = summarise(&rows);
    anstream::println!("{}\n\n{}\n\n{}", table(&summaries), kinds_table(&summaries), meaning(&summaries));
    if own {
        println!(
            "\nThe notes are made up, so that nobody can have learnt them. An answer is right where it names the right one. \
             {} questions say little about {}: more with --episodes; recorded logs are measured by --example logs.",
            rows.len() / summaries.len().max(1),
            worker.name(),
        );
    }
    if let Some(path) = &args.json {
        let json = serde_json::json!({
            "episodes": episodes, "seed": args.seed, "model": worker.name(), "handoffs": summaries,
        });
        write_file(path, format!("{json:#}\n").as_bytes())?;
        println!("figures: {}", path.display());
    }
    Ok(())
}

/// How a model is asked that has learnt to talk, not to answer with a name alone.
fn in_words() -> SessionConfig {
    let format = PromptFormat {
        task_prefix: "Answer from the notes above, in a few words. Question: ".to_owned(),
        ..PromptFormat::default()
    };
    SessionConfig { format, generate: GenerateOptions::greedy(32), ..SessionConfig::default() }
}

/// One episode as a person would want to see it: the task, what was kept, the answer.
fn show_one(
    trial: &Trial<'_>,
    worker: &Worker,
    episode: &Episode,
    compaction: &Compaction,
    html: Option<&Path>,
) -> Result<()> {
    let mut session = trial.session(episode)?;
    let question = &episode.questions[0];
    let briefing = session.brief(question.text.as_str(), compaction)?;
    let answer = session.answer(&briefing, question.text.as_str())?;
    let bold = anstyle::Style::new().bold();
    anstream::println!(
        "An orchestrator wrote {} lines of notes: {} tokens in the KV cache of the worker ({}).\n\n{bold}Task{bold:#}      {}\n\
         {bold}Briefing{bold:#}  {} of {} positions, coloured by the attention the task pays them:\n\n{}\n\n\
         {bold}Answer{bold:#}    {answer}  (right: {}; made in {:.0} ms, answered in {:.0} ms)\n",
        episode.lines.len(),
        session.seq_len(),
        worker.name(),
        question.text,
        briefing.kept_len(),
        briefing.seq_len(),
        explain::excerpt(&briefing.explain(worker)),
        question.answer,
        briefing.timing().total().as_secs_f64() * 1e3,
        answer.elapsed.as_secs_f64() * 1e3,
    );
    if let Some(path) = html {
        write_file(path, explain::heat_map(&briefing, worker, &answer.text)?.as_bytes())?;
        println!("heat map: {}\n", path.display());
    }
    Ok(())
}

/// What the numbers mean, in two sentences.
fn meaning(summaries: &[HandoffSummary]) -> String {
    let find = |name: &str| summaries.iter().find(|s| s.name == name);
    let (Some(briefing), Some(full), Some(recent), Some(random)) =
        (find("latent-briefing"), find("full-kv"), find("recent"), find("random"))
    else {
        return String::new();
    };
    let against = briefing.against_full.unwrap_or_default().map(|d| 100.0 * d);
    format!(
        "The worker answered {:.1} % of the questions from a briefing of {:.1} % of the positions, against {:.1} % from \
         the full cache (difference {:+.1} points, 95 % interval {:+.1} to {:+.1}), with {:.0} % fewer worker tokens than \
         replaying the notes as text. Cut to the same size without looking at the task, the cache answers {:.1} % (most \
         recent positions) and {:.1} % (random positions).",
        100.0 * briefing.accuracy,
        100.0 * briefing.keep_ratio,
        100.0 * full.accuracy,
        against[0],
        against[1],
        against[2],
        100.0 * briefing.saved.unwrap_or_default(),
        100.0 * recent.accuracy,
        100.0 * random.accuracy,
    )
}
