//! A run as one self-contained page.
//!
//! The page holds each trajectory's tokens once, and of every briefing two bytes a position in base64, which a script
//! draws when the reader opens the call. Without the script the beginning of what was kept is there as text.

use lb_am::Budget;
use lb_orchestrate::{Iteration, RunLedger, RunRecord, RunSettings, RunTables, TableRow};
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde::Serialize;

use super::figures::{bytes, count, moment, seconds};
use super::turn_view::{Page, RunView, Time, median_kept};
use super::visible::{clip, short};
use crate::{Error, PALETTE, Result};

const PAGE: &str = include_str!("run_page.html.jinja");
const TURNS: &str = include_str!("run_turns.html.jinja");
const CALL: &str = include_str!("run_call.html.jinja");
const STYLE: &str = include_str!("run_page.css");
const SCRIPT: &str = include_str!("run_page.js");

/// Positions, summed over all briefings, whose maps a page has room for: 32 MB of base64. Later briefings have a strip
/// and an excerpt.
const ROOM: usize = 12_000_000;
/// Briefings in the overview; of more, as many are picked at equal distances.
const ROWS: usize = 72;

/// A page that explains a run: its turns, their code and calls, and for each briefing which tokens of the trajectory it
/// kept. All text is escaped, what would act in it is shown by name, and the page loads nothing.
///
/// Its size grows by 8/3 bytes for a position of a briefing, up to 12 million of them, by the text of the trajectory
/// once, and by what turns and calls say, of which long texts are cut with a line that says so.
///
/// # Errors
/// [`Error::Page`] should the page's template fail, which would be a bug of ours.
pub fn run_page(record: &RunRecord) -> Result<String> {
    let templates = templates().map_err(|e| Error::Page(Box::new(e)))?;
    let mut page = Page { templates, room: ROOM, calls: 0, trajectories: Vec::new(), ratios: Vec::new() };
    let mut run = page.run(&record.metadata, &record.iterations, "")?;
    let (timeline, sum) = timeline(&run);
    let overview = overview(&mut run);
    let tokens = RunTables::of(record, None);
    let view = View {
        title: short(&record.metadata.latent_briefing.question, 80),
        questions: questions(record),
        cut_off: (record.torn > 0).then(|| bytes(record.torn)),
        setting: setting(record),
        totals: totals(record, &page, &sum),
        timeline,
        overview,
        tables: tables(&tokens),
        tables_note: tables_note(&tokens),
        run,
        trajectories: std::mem::take(&mut page.trajectories),
    };
    page.render("page", Serde(&view))
}

fn templates() -> std::result::Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.add_template("page", PAGE)?;
    environment.add_template("turns", TURNS)?;
    environment.add_template("call", CALL)?;
    environment.add_template("style", STYLE)?;
    environment.add_template("script", SCRIPT)?;
    environment.add_template("palette", PALETTE)?;
    Ok(environment)
}

#[derive(Serialize)]
struct View {
    title: String,
    questions: Vec<Question>,
    /// What is left of a torn last line.
    cut_off: Option<String>,
    setting: Vec<(&'static str, String)>,
    totals: Vec<Group>,
    timeline: Timeline,
    overview: Option<Overview>,
    tables: Vec<TokenTable>,
    tables_note: String,
    run: RunView,
    trajectories: Vec<String>,
}

/// A question, and how it ended.
#[derive(Serialize)]
struct Question {
    text: String,
    answer: Option<String>,
    partial: Option<String>,
    ending: String,
}

/// Totals under one heading.
#[derive(Serialize)]
struct Group {
    name: &'static str,
    figures: Vec<(String, &'static str)>,
}

#[derive(Serialize)]
struct Timeline {
    slots: Vec<Slot>,
    legend: Vec<(&'static str, String)>,
}

/// A turn in the bar of turns.
#[derive(Serialize)]
struct Slot {
    id: String,
    mark: String,
    what: String,
    share: String,
    parts: Vec<(&'static str, String)>,
    trouble: bool,
}

/// What every briefing kept, one row each.
#[derive(Serialize)]
struct Overview {
    rows: Vec<OverviewRow>,
    all: String,
    positions: String,
    picked: bool,
}

#[derive(Serialize)]
struct OverviewRow {
    row: super::turn_view::Row,
    width: String,
}

/// Tokens by phase, by agent, by decision.
#[derive(Serialize)]
struct TokenTable {
    head: &'static str,
    rows: Vec<TokenRow>,
}

#[derive(Serialize)]
struct TokenRow {
    name: String,
    cells: Vec<String>,
}

fn tables(of: &RunTables) -> Vec<TokenTable> {
    let row = |row: &TableRow| TokenRow {
        name: short(&row.name, 80),
        cells: [row.calls, row.input, row.cached, row.output]
            .into_iter()
            .map(count)
            .chain([seconds(row.seconds)])
            .collect(),
    };
    [("phase", &of.phases), ("agent", &of.agents), ("decision", &of.decisions)]
        .into_iter()
        .filter(|(_, rows)| !rows.is_empty())
        .map(|(head, rows)| TokenTable { head, rows: rows.iter().map(row).collect() })
        .collect()
}

fn tables_note(of: &RunTables) -> String {
    format!(
        "{} findings; {} worker tokens answered from memory; {} tokens left out by the context manager.",
        count(of.findings),
        count(of.remembered),
        count(of.left_out)
    )
}

fn questions(record: &RunRecord) -> Vec<Question> {
    let mut groups: Vec<(&str, Vec<&Iteration>)> = Vec::new();
    for iteration in &record.iterations {
        let last = groups.last_mut().filter(|(text, turns)| {
            *text == iteration.question && turns.last().is_none_or(|turn| turn.final_answer.is_none())
        });
        match last {
            Some((_, turns)) => turns.push(iteration),
            None => groups.push((&iteration.question, vec![iteration])),
        }
    }
    if groups.is_empty() {
        groups.push((&record.metadata.latent_briefing.question, Vec::new()));
    }
    groups.into_iter().map(|(text, turns)| question(text, &turns)).collect()
}

fn question(text: &str, turns: &[&Iteration]) -> Question {
    let last = turns.last();
    let answer = last.and_then(|turn| turn.final_answer.as_deref());
    let partial = last.and_then(|turn| turn.partial_answer.as_deref());
    let ending = match last {
        None => "The log ends before the first turn.".to_owned(),
        Some(turn) if answer.is_some() && turn.turn == 0 => {
            "The turns were used up; the last completion gave the answer.".to_owned()
        }
        Some(turn) if answer.is_some() => format!("Answered in turn {}.", count(turn.turn)),
        Some(Iteration { stopped: Some(why), turn, .. }) => {
            format!("Stopped in turn {}: {}", count(*turn), short(why, 300))
        }
        Some(turn) => format!("The log ends after turn {}, without an answer.", count(turn.turn)),
    };
    let text_of = |text: &str| clip(text, 6_000);
    Question { text: text_of(text), answer: answer.map(text_of), partial: partial.map(text_of), ending }
}

fn setting(record: &RunRecord) -> Vec<(&'static str, String)> {
    let (metadata, ours) = (&record.metadata, &record.metadata.latent_briefing);
    let later = record.iterations.iter().flat_map(|iteration| &iteration.contexts);
    let documents: Vec<String> = ours
        .contexts
        .iter()
        .chain(later)
        .take(8)
        .map(|context| format!("{} ({} characters)", short(&context.name, 40), count(context.chars)))
        .collect();
    let mut setting = vec![
        ("orchestrator", format!("{} ({})", short(&metadata.root_model, 80), short(&metadata.backend, 40))),
        ("worker", short(&ours.worker, 80)),
        ("handoff", handoff(ours)),
        ("sandbox", short(&metadata.environment_type, 40)),
        ("begun", moment(&metadata.timestamp)),
    ];
    if !documents.is_empty() {
        setting.push(("documents", documents.join(", ")));
    }
    setting
}

/// The handoff, and how large its briefings are to be.
fn handoff(settings: &RunSettings) -> String {
    let name = settings.handoff.name();
    let Some(config) = settings.handoff.brief_config() else { return name.to_owned() };
    match config.compaction.budget {
        Budget::Mad { tau, .. } => format!("{name}, MAD rule with τ = {tau}"),
        Budget::KeepRatio(ratio) => format!("{name}, {} kept", super::figures::percent(ratio)),
        Budget::Coverage { share, .. } => {
            format!("{name}, {} of the scores kept", super::figures::percent(share))
        }
        Budget::KeptLen(len) => format!("{name}, {} positions kept", count(len)),
        Budget::ErrorBelow { epsilon, .. } => format!("{name}, error below {epsilon}"),
        _ => name.to_owned(),
    }
}

fn totals(record: &RunRecord, page: &Page, time: &Time) -> Vec<Group> {
    let ledger = RunLedger::of(record);
    let (asked, worker) = (&ledger.orchestrator, &ledger.worker);
    let turns = record.turns().count();
    let nested = asked.turns.saturating_sub(record.iterations.len());
    let mut run = vec![(count(turns), if turns == 1 { "turn" } else { "turns" })];
    if nested > 0 {
        run.push((count(nested), if nested == 1 { "nested turn" } else { "nested turns" }));
    }
    run.push((count(worker.calls), if worker.calls == 1 { "worker call" } else { "worker calls" }));
    if worker.failed > 0 {
        run.push((count(worker.failed), "failed"));
    }
    if let Some(median) = median_kept(&page.ratios) {
        run.push((median, "kept (median)"));
    }
    let mut orchestrator = vec![(count(asked.usage.input), "in")];
    if asked.usage.cached > 0 {
        orchestrator.push((count(asked.usage.cached), "of it cached"));
    }
    orchestrator.push((count(asked.usage.output), "out"));
    let tokens = &worker.tokens;
    let mut worked = vec![
        (count(worker.trajectory_prefilled), "of the trajectory, read once"),
        (count(tokens.attended), "attended"),
        (count(tokens.prefilled), "prefilled"),
        (count(tokens.reused), "reused"),
        (count(tokens.generated), "generated"),
    ];
    if worker.peak_cache_bytes > 0 {
        worked.push((bytes(worker.peak_cache_bytes), "largest cache"));
    }
    let mut times = vec![(seconds(time.whole), "in all")];
    let phases = [
        (asked.seconds, "orchestrator"),
        (time.code, "code"),
        (worker.trajectory_s, "reading the trajectory"),
        (worker.prefill_s, "reading prompts"),
        (worker.brief_s, "briefing"),
        (worker.decode_s, "answering"),
    ];
    times.extend(phases.into_iter().filter(|(s, _)| *s > 0.0).map(|(s, name)| (seconds(s), name)));
    vec![
        Group { name: "Run", figures: run },
        Group { name: "Orchestrator's tokens", figures: orchestrator },
        Group { name: "Worker's tokens", figures: worked },
        Group { name: "Time", figures: times },
    ]
}

/// Where the time went, turn by turn.
fn timeline(run: &RunView) -> (Timeline, Time) {
    let mut sum = Time::default();
    let slots = run.turns.iter().map(|turn| {
        let time = turn.time;
        sum += time;
        let parts = [("orchestrator", time.orchestrator), ("code", time.code), ("worker", time.worker)];
        let whole = parts.iter().map(|(_, s)| s).sum::<f64>().max(1e-9);
        let told: Vec<String> = parts.iter().map(|(name, s)| format!("{name} {}", seconds(*s))).collect();
        Slot {
            id: turn.id.clone(),
            mark: if turn.name.starts_with("Turn") { turn.name[5..].to_owned() } else { "last".to_owned() },
            what: format!("{}: {} ({})", turn.name, turn.seconds, told.join(", ")),
            share: format!("{:.4}", time.whole.max(1e-3)),
            parts: parts.iter().map(|(name, s)| (*name, format!("{:.2}", 100.0 * s / whole))).collect(),
            trouble: turn.troubled(),
        }
    });
    let slots = slots.collect();
    let legend = [("orchestrator", sum.orchestrator), ("code", sum.code), ("worker", sum.worker)]
        .map(|(n, s)| (n, seconds(s)));
    (Timeline { slots, legend: legend.into() }, sum)
}

fn overview(run: &mut RunView) -> Option<Overview> {
    let rows = std::mem::take(&mut run.rows);
    let longest = rows.iter().map(|row| row.positions).max().filter(|longest| *longest > 0)?;
    let (all, picked) = (rows.len(), rows.len() > ROWS);
    let rows = rows.into_iter().enumerate().filter(|(number, _)| {
        // The last one, with the longest trajectory as a rule, is among them.
        !picked || number * ROWS / all != (number + 1) * ROWS / all
    });
    let wide = |row: super::turn_view::Row| OverviewRow {
        width: format!("{:.2}", 100.0 * row.positions as f64 / longest as f64),
        row,
    };
    let rows = rows.map(|(_, row)| wide(row)).collect();
    Some(Overview { rows, all: count(all), positions: count(longest), picked })
}
