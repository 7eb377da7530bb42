//! `bench coordination`: episodes of several agents: what they were sent twice, and what each condition keeps of their next messages and
//! decisions for how many tokens.

use std::collections::BTreeSet;
use std::path::PathBuf;

use lb_eval::condition::{at_each_size, split_conditions};
use lb_eval::coordination::{self, TokenPrice, fidelity, traffic};
use lb_eval::logs::LogItem;
use lb_eval::pipeline::Shard;
use lb_eval::retained::{RetainedPlan, Target, summarise};
use lb_eval::stats::bootstrap::Bootstrap;
use serde_json::json;

use super::retained::{beside, measure};
use crate::output::JsonTo;
use crate::worker::WorkerArgs;
use crate::{Exit, Result, complain, say};

/// Recorded episodes of several agents: tokens sent twice, then token budget against decision fidelity under every condition
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Episodes: one a line, one turn a line or row (JSON Lines, Parquet), or logs of runs in any form that `bench logs` reads
    /// (docs/coordination.md).
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    #[command(flatten)]
    worker: WorkerArgs,
    /// A second model, which writes what a condition with by=orchestrator hands over, as in summary:200,by=orchestrator.
    #[arg(long, value_name = "MODEL")]
    orchestrator: Option<PathBuf>,
    /// Conditions: handoffs, published selections such as snapkv:keep=0.1, and hierarchical:keep=0.1,held=0.3.
    #[arg(
        long,
        value_name = "A,B,..",
        default_value = "full-kv,none,text-replay,latent-briefing:keep=0.1,hierarchical:keep=0.1,bm25:0.1"
    )]
    handoff: String,
    /// Sizes; every condition with `keep=*` is measured at each.
    #[arg(long, value_delimiter = ',')]
    keep: Vec<f64>,
    /// Turns of these agents alone.
    #[arg(long, value_delimiter = ',', value_name = "NAME,..")]
    agents: Vec<String>,
    /// Turns of an episode that are measured at most, at even distances; 0 for none, tokens alone.
    #[arg(long, default_value_t = 4)]
    turns: usize,
    /// What a million tokens cost: input, input that was there already, output.
    #[arg(long, value_name = "IN,CACHED,OUT", default_value_t)]
    price: TokenPrice,
    /// What is read behind a handoff: the recorded message (reference), or the worker's over the full cache (own).
    #[arg(long, default_value = "reference")]
    target: Target,
    /// Tokens of it.
    #[arg(long, default_value_t = 96)]
    target_tokens: usize,
    /// Effective ranks of the caches that conditions leave as well.
    #[arg(long)]
    rank: bool,
    /// The first episodes of the file alone.
    #[arg(long)]
    limit: Option<usize>,
    /// Work on every n-th episode alone, from the i-th: one run on several machines, put together by `bench merge`.
    #[arg(long, value_name = "I/N", default_value_t)]
    shard: Shard,
    /// A folder for the rows, one JSON line a turn; a run that was stopped goes on there.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    json: JsonTo,
}

pub(super) fn run(args: &Args) -> Result<Exit> {
    args.json.begin();
    let plan = RetainedPlan {
        conditions: at_each_size(split_conditions(&args.handoff), &args.keep)?,
        target: args.target,
        target_tokens: args.target_tokens,
        rank: args.rank,
        shard: args.shard,
    };
    plan.validate()?;
    let mut loaded = coordination::load(&args.data)?;
    loaded.episodes.truncate(args.limit.unwrap_or(usize::MAX));
    for fault in &loaded.faults {
        complain!("coordination: left out: {fault}");
    }
    for note in &loaded.notes {
        complain!("coordination: {note}");
    }
    if !loaded.ignored.is_empty() {
        let fields: Vec<&str> = loaded.ignored.iter().map(String::as_str).collect();
        complain!("coordination: fields that are not known, left out: {}", fields.join(", "));
    }
    let worker = args.worker.open()?;
    let tokens = |text: &str| Ok(worker.tokenizer().encode_text(text).map_err(lb_session::Error::from)?);
    let sent = traffic(&loaded.episodes, &tokens)?;
    say!("{}", sent.table());
    say!(
        "{} episodes. Sent before: in passages of {} tokens and more that the same agent had been sent, or had written, in the same episode.",
        sent.episodes,
        coordination::PASSAGE
    );
    let agents: BTreeSet<String> = args.agents.iter().cloned().collect();
    let items = spread(&coordination::items(&loaded.episodes, &agents), args.turns);
    if items.is_empty() {
        args.json.end(&json!({ "traffic": sent }))?;
        return Ok(if args.turns == 0 { Exit::Done } else { Exit::Failed });
    }
    let orchestrator = beside(&args.worker, args.orchestrator.as_ref())?;
    let finished = measure(
        ("coordination", "turn"),
        (&worker, orchestrator.as_ref()),
        &plan,
        &items,
        args.out.as_deref(),
    )?;
    let data = args.data.display().to_string();
    let summary = summarise(worker.name(), &data, &finished.rows, &Bootstrap::default())?;
    let figures = fidelity(&finished.rows, &summary, &args.price, &Bootstrap::default())?;
    say!("{}", coordination::fidelity::table(&figures));
    say!("{}", summary.meaning());
    say!("Prices of a million tokens read, there already and written: {}.", args.price);
    args.json.end(&json!({ "traffic": sent, "retained": summary, "conditions": figures }))?;
    if finished.cancelled {
        complain!("coordination: called off; the same command with --out goes on");
        return Ok(Exit::Interrupted);
    }
    Ok(if summary.items == 0 { Exit::Failed } else { Exit::Done })
}

/// At most `most` items of each document, at even distances, the last one among them.
fn spread(items: &[LogItem], most: usize) -> Vec<LogItem> {
    let mut kept = Vec::new();
    for document in items.chunk_by(|one, other| one.document == other.document) {
        let (count, of) = (document.len(), most.min(document.len()));
        kept.extend((1..=of).map(|number| document[number * count / of - 1].clone()));
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_spread_over_an_episode() {
        let item = |document: &str, number: usize| LogItem {
            id: format!("{document}#{number}"),
            document: document.to_owned(),
            trajectory: Vec::new(),
            task: String::new(),
            target: String::new(),
            answers: Vec::new(),
            decisions: Vec::new(),
        };
        let all: Vec<LogItem> = (0..9).map(|n| item("a", n)).chain((0..2).map(|n| item("b", n))).collect();
        let ids = |most| spread(&all, most).into_iter().map(|item| item.id).collect::<Vec<_>>();
        assert_eq!(ids(3), ["a#2", "a#5", "a#8", "b#0", "b#1"]);
        assert!(ids(0).is_empty());
        assert_eq!(ids(100).len(), 11);
    }
}
