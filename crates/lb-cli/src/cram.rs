//! `cram` and `uncram`: a text as vectors of a worker, and back.

use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use lb_session::read_text;
use lb_train::{CrammedText, Cramming};
use serde_json::json;

use crate::output::Json;
use crate::worker::WorkerArgs;
use crate::{Exit, Result, complain, output, say, spinner};

/// Store a text as vectors that a worker writes it back from
///
/// The vectors are trained by gradient until the worker writes the text behind them, token for token; tokens that they do not hold when
/// the steps are used up are stored beside them, so that the text always comes back as it was. The file is bound to the worker.
#[derive(clap::Args)]
pub(crate) struct CramArgs {
    /// The text, a file in UTF-8.
    #[arg(value_name = "TEXTFILE")]
    text: PathBuf,
    #[command(flatten)]
    worker: WorkerArgs,
    /// Vectors, 1 to 256; the text and its vectors must fit the worker's positions.
    #[arg(long, default_value_t = Cramming::default().vectors)]
    vectors: usize,
    /// Steps at most.
    #[arg(long, default_value_t = Cramming::default().steps)]
    steps: usize,
    /// Learning rate of AdamW.
    #[arg(long, default_value_t = Cramming::default().learning_rate)]
    learning_rate: f64,
    /// Of the first vectors.
    #[arg(long, default_value_t = Cramming::default().seed)]
    seed: u64,
    /// The file to write, in safetensors.
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    json: Json,
}

/// Write back a text that cram has stored
#[derive(clap::Args)]
pub(crate) struct UncramArgs {
    /// A file that cram has written.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    worker: WorkerArgs,
    /// A file for the text; without it, the text is printed.
    #[arg(short, long, value_name = "TEXTFILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    json: Json,
}

pub(crate) fn cram(args: &CramArgs) -> Result<Exit> {
    args.json.begin();
    let cramming = Cramming {
        vectors: args.vectors,
        steps: args.steps,
        learning_rate: args.learning_rate,
        seed: args.seed,
    };
    cramming.validate()?;
    let text = read_text(&args.text)?;
    let worker = args.worker.load()?;
    let line = spinner();
    let crammed = cramming.run(&worker, &text, &mut |now| {
        line.set_message(format!(
            "step {}: {} of {} tokens, {:.3} nats a token",
            now.step, now.right, now.tokens, now.loss
        ));
        true
    })?;
    line.finish_and_clear();
    let stored = &crammed.text;
    stored.save(&worker, &args.out)?;
    let (tokens, beside) = (stored.tokens(), stored.exceptions());
    if beside > 0 {
        complain!(
            "cram: after {} steps the vectors hold {} of {tokens} tokens; the others are stored beside them; more vectors or steps may hold all",
            crammed.steps,
            tokens - beside
        );
    }
    say!(
        "{}: {tokens} tokens in {} vectors, {} bytes for {} bytes of text, {} steps",
        args.out.display(),
        stored.vectors().count(),
        stored.bytes(),
        text.len(),
        crammed.steps
    );
    args.json.end(&json!({
        "file": args.out,
        "tokens": tokens,
        "vectors": stored.vectors().count(),
        "exact": stored.is_exact(),
        "beside": beside,
        "bytes": stored.bytes(),
        "text_bytes": text.len(),
        "steps": crammed.steps,
        "loss": crammed.best.loss,
    }))?;
    Ok(Exit::Done)
}

pub(crate) fn uncram(args: &UncramArgs) -> Result<Exit> {
    args.json.begin();
    let worker = args.worker.load()?;
    let text = CrammedText::load(&worker, &args.file)?.text(&worker)?;
    if let Some(out) = &args.out {
        output::write_file(out, text.as_bytes())?;
        say!("{}: {} bytes", out.display(), text.len());
        args.json.end(&json!({ "file": out, "bytes": text.len() }))?;
        return Ok(Exit::Done);
    }
    if output::is_json() {
        args.json.end(&json!({ "text": text }))?;
        return Ok(Exit::Done);
    }
    // As it was, but for what would act on a terminal.
    let shown = lb_io::shown::visible(&text);
    match std::io::stdout().write_all(shown.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(Exit::Done),
    }
}
