//! Writes briefing episodes as JSON lines: training data, evaluation items, or LongBench v2 items.

use std::io::{BufWriter, ErrorKind, Write};

use clap::{Parser, ValueEnum};
use lb_eval::episodes::{Difficulty, Episode, EpisodeConfig, Kind, Split};

#[derive(Clone, Copy, ValueEnum)]
enum SplitArg {
    Train,
    HeldOut,
}

#[derive(Clone, Copy, ValueEnum)]
enum DifficultyArg {
    Easy,
    Hard,
}

#[derive(Clone, Copy, ValueEnum)]
enum KindArg {
    OneHop,
    TwoHop,
    Corrected,
    Count,
    Comparison,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// One episode a line: seed, lines, questions.
    Episodes,
    /// One question a line, in the fields of LongBench v2.
    LongbenchV2,
}

/// Write briefing episodes as JSON lines to standard output.
#[derive(Parser)]
struct Args {
    /// Names and sentence patterns.
    #[arg(long, value_enum, default_value = "held-out")]
    split: SplitArg,
    /// First seed; episode i has seed SEED + i.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Episodes to write.
    #[arg(long, default_value_t = 10)]
    count: u64,
    /// Shortest log, in words.
    #[arg(long, default_value_t = 40)]
    min_words: usize,
    /// Longest log, in words.
    #[arg(long, default_value_t = 2000)]
    max_words: usize,
    /// Questions an episode.
    #[arg(long, default_value_t = 5)]
    questions: usize,
    /// Easy or hard; both in equal parts without it.
    #[arg(long, value_enum)]
    difficulty: Option<DifficultyArg>,
    /// One sentence pattern a relation, no guesses, no noise: first lessons in training.
    #[arg(long)]
    plain: bool,
    /// Questions of one kind, over relations that give rise to it.
    #[arg(long, value_enum)]
    focus: Option<KindArg>,
    /// What to write.
    #[arg(long, value_enum, default_value = "episodes")]
    format: Format,
    /// Write the bundled set in LongBench v2's fields; every other option is without effect.
    #[arg(long)]
    bundle: bool,
}

fn write(args: &Args, out: &mut impl Write) -> Result<(), Box<dyn std::error::Error>> {
    if args.bundle {
        out.write_all(lb_eval::datasets::synthetic::render()?.as_bytes())?;
        return Ok(out.flush()?);
    }
    let config = EpisodeConfig {
        split: match args.split {
            SplitArg::Train => Split::Train,
            SplitArg::HeldOut => Split::HeldOut,
        },
        difficulty: args.difficulty.map(|d| match d {
            DifficultyArg::Easy => Difficulty::Easy,
            DifficultyArg::Hard => Difficulty::Hard,
        }),
        words: (args.min_words, args.max_words),
        questions: args.questions,
        plain: args.plain,
        focus: args.focus.map(|kind| match kind {
            KindArg::OneHop => Kind::OneHop,
            KindArg::TwoHop => Kind::TwoHop,
            KindArg::Corrected => Kind::Corrected,
            KindArg::Count => Kind::Count,
            KindArg::Comparison => Kind::Comparison,
        }),
    };
    for i in 0..args.count {
        let episode = Episode::generate(args.seed.wrapping_add(i), &config)?;
        match args.format {
            Format::Episodes => {
                serde_json::to_writer(&mut *out, &episode)?;
                writeln!(out)?;
            }
            Format::LongbenchV2 => {
                for item in episode.long_bench_items() {
                    serde_json::to_writer(&mut *out, &item)?;
                    writeln!(out)?;
                }
            }
        }
    }
    Ok(out.flush()?)
}

fn main() -> std::process::ExitCode {
    let result = write(&Args::parse(), &mut BufWriter::new(std::io::stdout().lock()));
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        // `lb-episodes | head` closes the pipe; that is not an error of ours.
        Err(e) if e.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == ErrorKind::BrokenPipe) => {
            std::process::ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("lb-episodes: {e}");
            std::process::ExitCode::FAILURE
        }
    }
}
