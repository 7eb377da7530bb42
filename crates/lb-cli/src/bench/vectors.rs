//! `bench vectors`: texts in few vectors of a frozen worker, against how many there are and how surprising the text is.

use std::path::PathBuf;

use lb_eval::logs::{LoadOptions, LogItem, generated, load};
use lb_eval::pipeline::Shard;
use lb_eval::vectors::{self, VectorsPlan, table, trainings};
use lb_session::CancelToken;

use crate::output::JsonTo;
use crate::progress::at;
use crate::worker::WorkerArgs;
use crate::{Exit, Result, bar, complain, interrupt, say};

/// How many tokens of a text come back from vectors that are trained to hold it; without --data, generated logs
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Recorded logs, a file or a folder, as of bench logs: a text of each document is taken, of the message that has a right answer in it,
    /// else of the last one that is long enough. Generated ones by default.
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    #[command(flatten)]
    worker: WorkerArgs,
    /// Numbers of vectors.
    #[arg(long, value_delimiter = ',', default_values_t = VectorsPlan::default().vectors)]
    vectors: Vec<usize>,
    /// Lengths of texts in tokens; the first tokens of a text are taken.
    #[arg(long, value_delimiter = ',', default_values_t = VectorsPlan::default().tokens)]
    tokens: Vec<usize>,
    /// Steps of a training at most; it ends before where the text comes back.
    #[arg(long, default_value_t = VectorsPlan::default().steps)]
    steps: usize,
    /// Learning rate of AdamW.
    #[arg(long, default_value_t = VectorsPlan::default().learning_rate)]
    learning_rate: f64,
    /// Of the first vectors and of shuffled texts.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Cram each text with its tokens in a random order as well: the same length, far more surprise.
    #[arg(long)]
    shuffled: bool,
    /// Tokens of the item's target that are read behind the vectors in the place of the text, at most; 0 for none.
    #[arg(long, default_value_t = VectorsPlan::default().target_tokens)]
    target_tokens: usize,
    /// The first documents alone.
    #[arg(long)]
    limit: Option<usize>,
    /// Work on every n-th training alone, from the i-th.
    #[arg(long, value_name = "I/N", default_value_t)]
    shard: Shard,
    /// A folder for the rows, one JSON line a training; a run that was stopped goes on there.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    json: JsonTo,
}

fn items(args: &Args) -> Result<Vec<LogItem>> {
    let mut items = match &args.data {
        None => generated(50_000, args.limit.unwrap_or(4).min(1000), 1)?,
        Some(path) => {
            let loaded = load(path, &LoadOptions::default())?;
            for fault in &loaded.faults {
                complain!("vectors: left out: {fault}");
            }
            loaded.items
        }
    };
    let mut documents: Vec<String> = Vec::new();
    for item in &items {
        if !documents.contains(&item.document) {
            documents.push(item.document.clone());
        }
    }
    documents.truncate(args.limit.unwrap_or(usize::MAX));
    items.retain(|item| documents.contains(&item.document));
    Ok(items)
}

pub(super) fn run(args: &Args) -> Result<Exit> {
    args.json.begin();
    let plan = VectorsPlan {
        vectors: args.vectors.clone(),
        tokens: args.tokens.clone(),
        steps: args.steps,
        learning_rate: args.learning_rate,
        seed: args.seed,
        shuffled: args.shuffled,
        target_tokens: args.target_tokens,
        shard: args.shard,
    };
    plan.validate()?;
    let items = items(args)?;
    if items.is_empty() {
        return Err("there is no text to cram".into());
    }
    let worker = args.worker.open()?;
    let cancel = CancelToken::new();
    interrupt::heed(&cancel)?;
    let progress = bar(trainings(&plan, &items) as u64, "trainings");
    let finished = vectors::run(&worker, &plan, &items, args.out.as_deref(), &cancel, &|row| {
        progress.inc(1);
        at(&progress, &row.item);
        if let Some(failure) = &row.failure {
            progress.suspend(|| complain!("vectors: {}: {failure}", row.item));
        }
    })?;
    progress.finish_and_clear();
    say!("{}", table(&finished.rows));
    let failed = finished.rows.iter().filter(|row| row.failure.is_some()).count();
    let failed = if failed == 0 { String::new() } else { format!(" {failed} trainings failed.") };
    say!(
        "{}: surprise and gain are of a text from its second token on, summed; bytes are of vectors in f32 and of the tokens that they do \
         not hold; retained unread is what vectors in the place of the text are worth for the target, 1 the text itself, 0 nothing.{failed}",
        worker.name()
    );
    args.json.end(&finished.rows)?;
    if finished.cancelled {
        complain!("vectors: called off; the same command with --out goes on");
        return Ok(Exit::Interrupted);
    }
    Ok(if finished.rows.iter().all(|row| row.failure.is_some()) { Exit::Failed } else { Exit::Done })
}
