//! A whole file of questions, one run of the loop for each.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use lb_eval::questions::{self, QuestionItem, QuestionRow};
use lb_io::secrets;
use lb_model::Worker;
use lb_orchestrate::{Orchestrator, Rlm, RlmConfig};

use super::args::Args;
use super::open;
use crate::{Exit, Result, complain, say, write_file};

const ROWS: &str = "rows.jsonl";

/// Answers what has no row in the folder yet; the rows are there after every run.
pub(crate) fn run(
    args: &Args,
    data: &Path,
    worker: &Worker,
    orchestrator: &mut dyn Orchestrator,
    config: &RlmConfig,
) -> Result<Exit> {
    let items = questions::read_questions(data, args.limit)?;
    fs::create_dir_all(&args.out)?;
    let _held = questions::hold(&args.out)?;
    let path = args.out.join(ROWS);
    let mut rows = questions::read_rows(&path)?;
    // What a process left that was ended in the middle of a line goes.
    let whole: String = rows.iter().map(line).collect::<Result<_>>()?;
    write_file(&path, whole.as_bytes())?;
    let config = RlmConfig { log_dir: Some(args.out.join("logs")), ..config.clone() };
    for (number, item) in items.iter().enumerate() {
        if questions::done(&rows).contains(item.id.as_str()) {
            continue;
        }
        let row = answer(args, item, worker, orchestrator, &config)?;
        say!(
            "{} of {}, {}: {:?}, right {:?}: {} ({} turns, {} calls, {:.0} s; orchestrator {} in, {} cached, {} out)",
            number + 1,
            items.len(),
            row.id,
            row.answer.as_deref().or(row.stopped.as_deref()).unwrap_or_default(),
            row.answers.first().map_or("", String::as_str),
            row.outcome.name(),
            row.turns,
            row.calls,
            row.seconds,
            row.orchestrator.input,
            row.orchestrator.cached,
            row.orchestrator.output,
        );
        let mut file = OpenOptions::new().append(true).open(&path)?;
        file.write_all(line(&row)?.as_bytes())?;
        file.sync_data()?;
        rows.push(row);
        if config.cancel.is_cancelled() {
            break;
        }
    }
    say!("{}", questions::summary(&rows));
    args.json.end(&rows)?;
    if config.cancel.is_cancelled() {
        complain!("run: called off; the same command goes on");
        return Ok(Exit::Interrupted);
    }
    Ok(Exit::Done)
}

/// A row as it is written: without keys that an answer repeats.
fn line(row: &QuestionRow) -> Result<String> {
    Ok(secrets::masked(&serde_json::to_string(row)?).into_owned() + "\n")
}

fn answer(
    args: &Args,
    item: &QuestionItem,
    worker: &Worker,
    orchestrator: &mut dyn Orchestrator,
    config: &RlmConfig,
) -> Result<QuestionRow> {
    let mut rlm = Rlm::new(worker, open(args.sandbox), config.clone())?;
    rlm.add_context(&item.document)?;
    let ended = rlm.run(orchestrator, &item.question);
    Ok(QuestionRow::of(item, &ended)?)
}
