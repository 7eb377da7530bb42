//! One item and repeat: the orchestrator runs once, and the other conditions replay its turns.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use lb_model::GenerateOptions;
use lb_orchestrate::{Event, Orchestrator, Replay, Rlm, RlmConfig, RunLedger, RunRecord, SharedWork};
use lb_session::{Handoff, HandoffKind};

use super::BenchRow;
use super::direct::direct;
use super::letters::letters;
use super::plan::{Condition, fingerprint};
use super::run::Job;
use super::store::LOGS;
use super::turns::Turns;
use crate::datasets::ruler::TOKENS;
use crate::datasets::{Dataset, Item, ItemKind};
use crate::episodes::{DOMAIN, Difficulty};
use crate::report::with_causes;
use crate::{Error, Result};

/// Answers the item under every condition that it has no row of.
pub(super) fn answer(job: &Job<'_>, item: &Item, repeat: usize) -> Result<()> {
    let none = Vec::new();
    let done = job.done.get(&(item.id.clone(), repeat)).unwrap_or(&none);
    let missing = |condition: &Condition| !done.iter().any(|row| row.condition == condition.name);
    if !job.conditions.iter().any(missing) {
        return Ok(());
    }
    let blank = blank(job, item, repeat)?;
    // The conditions read the same trajectory and ask the same unbriefed questions until one of them answers otherwise.
    let common = SharedWork::new();
    let mut turns = Turns::None;
    if let Some(recorded) = &job.bench.turns {
        turns = recorded.of(&item.id, repeat)?;
    } else if let Some(live) = job.live {
        turns = match done.iter().find(|row| row.condition == live.name) {
            Some(row) => recorded(job, row)?,
            None => match run_live(job, (item, &common), live, &blank)? {
                Some(turns) => turns,
                None => return Ok(()),
            },
        };
    }
    for condition in job.conditions.iter().filter(|condition| missing(condition)) {
        if job.live == Some(condition) {
            continue;
        }
        let mut row = BenchRow { condition: condition.name.clone(), ..blank.clone() };
        let start = Instant::now();
        let answered = match (&condition.handoff, &turns) {
            (None, _) => direct(job.bench, job.plan, item, &mut row).map_err(|error| with_causes(&error)),
            (Some(handoff), Turns::Of(record)) => {
                let mut orchestrator = Replay::new(record);
                // What a briefing kept is worth looking at.
                let folder = folder(item, &row, condition);
                let briefs = job.plan.briefing_logs && handoff.kind() == HandoffKind::LatentBriefing;
                let logs = briefs.then(|| job.dir.join(&folder));
                let (answered, log) = play(job, (item, &common), handoff, &mut orchestrator, logs, &mut row)?;
                row.log = name(&folder, log.as_deref());
                answered
            }
            (Some(_), Turns::Failed(failure)) => Err(failure.clone()),
            (Some(_), Turns::None) => Err("no turns to replay".to_owned()),
        };
        row.elapsed_s = start.elapsed().as_secs_f64();
        if job.bench.config.cancel.is_cancelled() {
            return Ok(());
        }
        (job.push)(scored(job, item, row, answered)?)?;
    }
    Ok(())
}

fn recorded(job: &Job<'_>, row: &BenchRow) -> Result<Turns> {
    Ok(match (&row.log, &row.failure) {
        (Some(log), _) => Turns::Of(Box::new(RunRecord::open(job.dir.join(log))?)),
        (None, failure) => Turns::Failed(failure.clone().unwrap_or_default()),
    })
}

/// Runs the orchestrator itself; `None` where it was called off.
fn run_live(
    job: &Job<'_>,
    (item, common): (&Item, &SharedWork),
    live: &Condition,
    blank: &BenchRow,
) -> Result<Option<Turns>> {
    let Some(handoff) = &live.handoff else { return Ok(Some(Turns::None)) };
    let mut row = BenchRow { condition: live.name.clone(), ..blank.clone() };
    let folder = folder(item, &row, live);
    let mut orchestrator = (job.bench.orchestrator)(item, row.repeat)?;
    let start = Instant::now();
    let logs = Some(job.dir.join(&folder));
    let (answered, log) = play(job, (item, common), handoff, orchestrator.as_mut(), logs, &mut row)?;
    row.elapsed_s = start.elapsed().as_secs_f64();
    if job.bench.config.cancel.is_cancelled() {
        return Ok(None);
    }
    row.log = name(&folder, log.as_deref());
    let turns = match (&log, &answered) {
        (Some(log), _) => Turns::Of(Box::new(RunRecord::open(log)?)),
        (None, Err(failure)) => Turns::Failed(failure.clone()),
        (None, Ok(_)) => return Err(Error::Run(lb_orchestrate::Error::Empty { arg: "log" })),
    };
    (job.push)(scored(job, item, row, answered)?)?;
    Ok(Some(turns))
}

/// Where the logs of a condition's runs of an item go, in the folder of the rows.
fn folder(item: &Item, row: &BenchRow, condition: &Condition) -> PathBuf {
    let (item, condition) = (fingerprint(&item.id), fingerprint(&condition.name));
    Path::new(LOGS).join(format!("{item:016x}-{}-{:08x}", row.repeat, condition >> 32))
}

/// A log's name in the folder of the rows, with `/` on every system.
fn name(folder: &Path, log: Option<&Path>) -> Option<String> {
    let path = folder.join(log?.file_name()?);
    Some(path.to_string_lossy().replace('\\', "/"))
}

type Played = (std::result::Result<String, String>, Option<PathBuf>);

/// A run under `handoff`; its costs go to `row`.
fn play(
    job: &Job<'_>,
    (item, common): (&Item, &SharedWork),
    handoff: &Handoff,
    orchestrator: &mut dyn Orchestrator,
    log_dir: Option<PathBuf>,
    row: &mut BenchRow,
) -> Result<Played> {
    let mut config = RlmConfig {
        handoff: handoff.clone(),
        limits: job.plan.limits.clone(),
        log_dir,
        choices: letters(item, job.plan.scoring),
        ..job.bench.config.clone()
    };
    let generate = config.session.generate.clone();
    config = config.sharing(common);
    config.session.generate = GenerateOptions { max_new_tokens: job.plan.answer_tokens, ..generate };
    let open = Arc::clone(&job.bench.open);
    let mut rlm = Rlm::new(&job.bench.worker, move || open(), config)?;
    if let Err(error) = rlm.add_context(&item.context) {
        return Ok((Err(with_causes(&error)), None));
    }
    let (mut seq_len, mut ratios, mut failed) = (rlm.session().head_len(), Vec::new(), None);
    let mut hear = |event: &Event<'_>| match event {
        Event::Entered(entered) => seq_len += entered.pieces.len(),
        Event::CallEnded(call) => {
            row.seq_len = seq_len;
            // Calls without a briefing have nothing of the trajectory in any condition.
            ratios.extend(call.keep_ratio.filter(|_| call.query.brief));
            if call.chances.is_some() {
                row.letters.clone_from(&call.chances);
            }
            failed = call.error.is_some().then(|| call.response.clone());
        }
        _ => {}
    };
    let ended = rlm.run_with(orchestrator, &job.plan.scoring.question(item), &mut hear);
    row.keep_ratio = (!ratios.is_empty()).then(|| ratios.iter().sum::<f64>() / ratios.len() as f64);
    let (answered, ledger, log) = match ended {
        // An orchestrator that passes on what a failed call returned has no answer.
        Ok(run) if failed.as_ref().is_some_and(|reply| *reply == run.answer) => {
            (Err(run.answer), run.ledger, run.log)
        }
        Ok(run) => (Ok(run.answer), run.ledger, run.log),
        Err(stopped) => (Err(with_causes(&*stopped)), stopped.ledger, stopped.log),
    };
    costs(row, &ledger);
    Ok((answered, log))
}

fn costs(row: &mut BenchRow, ledger: &RunLedger) {
    let worker = &ledger.worker;
    row.calls = worker.calls;
    row.worker = worker.tokens;
    row.trajectory = worker.trajectory_prefilled;
    row.orchestrator = ledger.orchestrator.usage;
    (row.brief_s, row.prefill_s, row.decode_s) = (worker.brief_s, worker.prefill_s, worker.decode_s);
}

fn blank(job: &Job<'_>, item: &Item, repeat: usize) -> Result<BenchRow> {
    let cluster = fingerprint(&item.context);
    let kind = match (&item.meta.sub_domain, &item.kind) {
        (Some(name), _) => name.clone(),
        (None, _) if matches!(item.dataset, Dataset::Ruler(_) | Dataset::LongBench(_)) => item.dataset.name(),
        (None, ItemKind::Choices { .. }) => "choices".to_owned(),
        (None, ItemKind::Free { .. }) => "free".to_owned(),
    };
    let difficulty = item.difficulty.map(|difficulty| match difficulty {
        Difficulty::Easy => "easy".to_owned(),
        Difficulty::Hard => "hard".to_owned(),
    });
    Ok(BenchRow {
        item: item.id.clone(),
        dataset: match item.meta.domain.as_deref() {
            Some(DOMAIN) => format!("{}, synthetic", item.dataset.name()),
            _ => item.dataset.name(),
        },
        repeat,
        cluster,
        part: job.plan.part(cluster),
        kind,
        domain: item.meta.domain.clone(),
        difficulty,
        length: match item.length_class {
            Some(class) => Some(class.name().to_owned()),
            // Of generated tasks the length that was asked for.
            None => item.meta.extra.get(TOKENS).cloned(),
        },
        context_tokens: job.bench.worker.tokenizer().encode_text(&item.context)?.len(),
        expected: job.plan.scoring.expected(item),
        ..BenchRow::default()
    })
}

fn scored(
    job: &Job<'_>,
    item: &Item,
    mut row: BenchRow,
    answered: std::result::Result<String, String>,
) -> Result<BenchRow> {
    match answered {
        Ok(answer) => {
            row.score = job.plan.scoring.score(item, &answer)?;
            row.answer = answer;
        }
        Err(failure) => row.failure = Some(failure),
    }
    Ok(row)
}
