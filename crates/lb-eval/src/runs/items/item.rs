//! One item and repeat: the orchestrator runs once, and the other conditions replay its turns.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use lb_model::GenerateOptions;
use lb_orchestrate::{Event, Orchestrator, Replay, Rlm, RlmConfig, RunLedger, RunRecord, SharedWork};
use lb_session::Handoff;

use super::direct::direct;
use super::letters::letters;
use super::turns::Turns;
use super::{Items, Repeat};
use crate::answers::AnswerRow;
use crate::condition::Condition;
use crate::datasets::ruler::TOKENS;
use crate::datasets::{Dataset, Item, ItemKind};
use crate::episodes::DOMAIN;
use crate::error::with_causes;
use crate::pipeline::{Context, fingerprint};
use crate::runs::{LOGS, mean_ratio};
use crate::{Error, Result};

/// Answers the item under every condition that it has no row of.
pub(super) fn answer(job: &Items<'_>, asked: Repeat<'_>, context: &Context<'_, AnswerRow>) -> Result<()> {
    let Repeat { item, repeat } = asked;
    let done = context.done(&item.id).iter().filter(|row| row.repeat == repeat);
    let done = |condition: &Condition| done.clone().find(|row| row.condition == condition.name);
    let missing: Vec<&Condition> =
        job.conditions.iter().filter(|condition| done(condition).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let blank = blank(job, asked)?;
    // The conditions read the same trajectory and ask the same unbriefed questions until one of them answers otherwise.
    let common = SharedWork::new();
    let mut turns = Turns::None;
    if let Some(recorded) = &job.bench.turns {
        turns = recorded.of(&item.id, repeat)?;
    } else if let Some(live) = job.live {
        turns = match done(live) {
            Some(row) => recorded(job, row)?,
            None => match run_live(job, (item, &common), live, &blank, context)? {
                Some(turns) => turns,
                None => return Ok(()),
            },
        };
    }
    for condition in missing.into_iter().filter(|condition| job.live != Some(condition)) {
        let mut row = AnswerRow { condition: condition.name.clone(), ..blank.clone() };
        let start = Instant::now();
        let answered = match (condition.as_handoff(), &turns) {
            (None, _) => direct(job.bench, job.plan, item, &mut row).map_err(|error| with_causes(&error)),
            (Some(handoff), Turns::Of(record)) => {
                let mut orchestrator = Replay::new(record);
                // What a briefing kept is worth looking at.
                let folder = folder(item, &row, condition);
                let briefs = job.plan.briefing_logs && handoff.kind().is_briefing();
                let logs = briefs.then(|| job.dir.join(&folder));
                let (answered, log) = play(job, (item, &common), handoff, &mut orchestrator, logs, &mut row)?;
                row.log = name(&folder, log.as_deref());
                answered
            }
            (Some(_), Turns::Failed(failure)) => Err(failure.clone()),
            (Some(_), Turns::None) => Err("no turns to replay".to_owned()),
        };
        row.elapsed_s = start.elapsed().as_secs_f64();
        if context.cancelled() {
            return Ok(());
        }
        context.push(scored(job, item, row, answered)?)?;
    }
    Ok(())
}

fn recorded(job: &Items<'_>, row: &AnswerRow) -> Result<Turns> {
    Ok(match (&row.log, &row.failure) {
        (Some(log), _) => Turns::Of(Box::new(RunRecord::open(job.dir.join(log))?)),
        (None, failure) => Turns::Failed(failure.clone().unwrap_or_default()),
    })
}

/// Runs the orchestrator itself; `None` where it was called off.
fn run_live(
    job: &Items<'_>,
    (item, common): (&Item, &SharedWork),
    live: &Condition,
    blank: &AnswerRow,
    context: &Context<'_, AnswerRow>,
) -> Result<Option<Turns>> {
    let Some(handoff) = live.as_handoff() else { return Ok(Some(Turns::None)) };
    let mut row = AnswerRow { condition: live.name.clone(), ..blank.clone() };
    let folder = folder(item, &row, live);
    let mut orchestrator = (job.bench.orchestrator)(item, row.repeat)?;
    let start = Instant::now();
    let logs = Some(job.dir.join(&folder));
    let (answered, log) = play(job, (item, common), handoff, orchestrator.as_mut(), logs, &mut row)?;
    row.elapsed_s = start.elapsed().as_secs_f64();
    if context.cancelled() {
        return Ok(None);
    }
    row.log = name(&folder, log.as_deref());
    let turns = match (&log, &answered) {
        (Some(log), _) => Turns::Of(Box::new(RunRecord::open(log)?)),
        (None, Err(failure)) => Turns::Failed(failure.clone()),
        (None, Ok(_)) => return Err(Error::Run(lb_orchestrate::Error::Empty { arg: "log" })),
    };
    context.push(scored(job, item, row, answered)?)?;
    Ok(Some(turns))
}

/// Where the logs of a condition's runs of an item go, in the folder of the rows.
fn folder(item: &Item, row: &AnswerRow, condition: &Condition) -> PathBuf {
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
    job: &Items<'_>,
    (item, common): (&Item, &SharedWork),
    handoff: &Handoff,
    orchestrator: &mut dyn Orchestrator,
    log_dir: Option<PathBuf>,
    row: &mut AnswerRow,
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
    row.keep_ratio = mean_ratio(ratios);
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

fn costs(row: &mut AnswerRow, ledger: &RunLedger) {
    let worker = &ledger.worker;
    row.calls = worker.calls;
    row.worker = worker.tokens;
    row.trajectory = worker.trajectory_prefilled;
    row.orchestrator = ledger.orchestrator.usage.into();
    (row.brief_s, row.prefill_s, row.decode_s) = (worker.brief_s, worker.prefill_s, worker.decode_s);
}

fn blank(job: &Items<'_>, Repeat { item, repeat }: Repeat<'_>) -> Result<AnswerRow> {
    let cluster = fingerprint(&item.context);
    let kind = match (&item.meta.sub_domain, &item.kind) {
        (Some(name), _) => name.clone(),
        (None, _) if matches!(item.dataset, Dataset::Ruler(_) | Dataset::LongBench(_)) => item.dataset.name(),
        (None, ItemKind::Choices { .. }) => "choices".to_owned(),
        (None, ItemKind::Free { .. }) => "free".to_owned(),
    };
    let difficulty = item.difficulty.map(|difficulty| difficulty.name().to_owned());
    Ok(AnswerRow {
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
        ..AnswerRow::default()
    })
}

fn scored(
    job: &Items<'_>,
    item: &Item,
    mut row: AnswerRow,
    answered: std::result::Result<String, String>,
) -> Result<AnswerRow> {
    match answered {
        Ok(answer) => {
            row.score = job.plan.scoring.score(item, &answer)?;
            row.answer = answer;
        }
        Err(failure) => row.failure = Some(failure),
    }
    Ok(row)
}
