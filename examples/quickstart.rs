//! A local worker answers questions about an orchestrator's trajectory that reached it as a compacted KV cache.
//!
//! `cargo run --release --example quickstart` needs no argument and no network.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use latent_briefing::eval::answers::by_handoff::{HandoffSummary, kinds_table, summarise, table};
use latent_briefing::eval::condition::Condition;
use latent_briefing::eval::episodes::{Episode, EpisodeConfig};
use latent_briefing::eval::logs::{GENERATED_WORDS, generated};
use latent_briefing::eval::retained::{self, RetainedPlan, Target};
use latent_briefing::eval::stats::bootstrap::Bootstrap;
use latent_briefing::eval::{calls, write_file};
use latent_briefing::explain;
use latent_briefing::prelude::*;
use latent_briefing::programs;
use latent_briefing::session::CancelToken;
use latent_briefing::{complain, say};

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
            complain!("quickstart: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let compaction = args.tau.map_or(Compaction::keep_ratio(args.keep_ratio), Compaction::mad);
    compaction.validate()?;
    let worker = programs::worker(args.model.as_ref(), args.strict)?;
    if args.model.is_some() {
        return with_own_model(args, &worker, &compaction);
    }
    // 512 to 2,048 tokens of the built-in worker.
    let config = EpisodeConfig::held_out((285, 1080), 5);
    let episodes = args.episodes.unwrap_or(12);
    show_one(&worker, &Episode::generate(args.seed, &config)?, &compaction, args.html.as_deref())?;

    let conditions = Condition::main_table(&compaction, args.seed);
    let bar = ProgressBar::new(episodes)
        .with_style(ProgressStyle::with_template("{bar:30} {pos}/{len} episodes, {eta} left")?);
    let mut rows = Vec::new();
    for i in 0..episodes {
        rows.extend(calls::ask(&worker, &conditions, &Episode::generate(args.seed + i, &config)?)?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let summaries = summarise(&rows);
    anstream::println!("{}\n\n{}\n\n{}", table(&summaries), kinds_table(&summaries), meaning(&summaries));
    if let Some(path) = &args.json {
        let json = serde_json::json!({
            "episodes": episodes, "seed": args.seed, "model": worker.name(), "handoffs": summaries,
        });
        write_file(path, format!("{json:#}\n").as_bytes())?;
        say!("figures: {}", path.display());
    }
    Ok(())
}

/// A model that nobody taught the language of the notes answers in its own words, and a small one mostly wrong. So what is
/// told is how much of its own answers over the full cache is left over less.
fn with_own_model(args: &Args, worker: &Worker, compaction: &Compaction) -> Result<()> {
    let episodes = args.episodes.unwrap_or(2);
    let items = generated(args.seed, episodes as usize, 5)?;
    let first = Episode::generate(args.seed, &EpisodeConfig::held_out(GENERATED_WORDS, 5))?;
    show_one(worker, &first, compaction, args.html.as_deref())?;

    let size = match args.tau {
        Some(tau) => format!("tau={tau}"),
        None => format!("keep={}", args.keep_ratio),
    };
    let conditions = vec![
        "full-kv".to_owned(),
        format!("latent-briefing:{size}"),
        format!("recent:{}", args.keep_ratio),
        format!("random:{},seed={}", args.keep_ratio, args.seed),
        "none".to_owned(),
    ];
    let plan = RetainedPlan { conditions, target: Target::Own, target_tokens: 32 };
    let bar = ProgressBar::new(items.len() as u64)
        .with_style(ProgressStyle::with_template("{bar:30} {pos}/{len} questions, {eta} left")?);
    let cancel = CancelToken::new();
    let rows = retained::run(worker, &plan, &items, None, &cancel, &|_| bar.inc(1))?.rows;
    bar.finish_and_clear();
    let summary = retained::summarise(worker.name(), "generated", &rows, &Bootstrap::default())?;
    say!(
        "{}\n\n{}\n\nThe notes are made up, so that nobody can have learnt them, and {} questions say little: \
         `--example logs` measures recorded logs of your own, more of them, in the same way.",
        retained::table(&summary),
        summary.meaning(),
        summary.items,
    );
    if let Some(path) = &args.json {
        write_file(path, format!("{:#}\n", serde_json::to_value(&summary)?).as_bytes())?;
        say!("figures: {}", path.display());
    }
    Ok(())
}

/// One episode as a person would want to see it: the task, what was kept, the answer.
fn show_one(worker: &Worker, episode: &Episode, compaction: &Compaction, html: Option<&Path>) -> Result<()> {
    let mut session = worker.session()?;
    session.extend_all(episode.lines.iter().map(Segment::from), &mut |_, _| {})?;
    let question = &episode.questions[0];
    let briefing = session.brief(question.text.as_str(), compaction)?;
    let answer = session.ask(question.text.as_str()).over(&briefing).run()?.answer;
    let full = session.ask(question.text.as_str()).via(Handoff::FullKv).run()?.answer;
    let bold = anstyle::Style::new().bold();
    anstream::println!(
        "An orchestrator wrote {} lines of notes: {} tokens in the KV cache of the worker ({}).\n\n{bold}Task{bold:#}      {}\n\
         {bold}Briefing{bold:#}  {} of {} positions, coloured by the attention the task pays them:\n\n{}\n\n\
         {bold}Answer{bold:#}    {}  (made in {:.0} ms, answered in {:.0} ms)\n\
         {bold}Beside it{bold:#} {}  (over the whole cache; right is: {})\n",
        episode.lines.len(),
        session.seq_len(),
        worker.name(),
        question.text,
        briefing.kept_len(),
        briefing.seq_len(),
        explain::excerpt(&briefing.explain(worker)),
        in_a_line(&answer.text),
        briefing.timing().total().as_secs_f64() * 1e3,
        answer.elapsed.as_secs_f64() * 1e3,
        in_a_line(&full.text),
        question.answer,
    );
    if let Some(path) = html {
        write_file(path, explain::heat_map(&briefing, worker, &answer.text)?.as_bytes())?;
        say!("heat map: {}\n", path.display());
    }
    Ok(())
}

/// The beginning of an answer, for those of models that never end.
fn in_a_line(text: &str) -> String {
    const LONGEST: usize = 160;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
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
