//! Items under conditions, several items at a time.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use lb_model::Worker;
use lb_orchestrate::{Orchestrator, RlmConfig};
use lb_sandbox::Repl;

use super::jobs::in_parallel;
use super::plan::{Condition, fingerprint, mixed};
use super::store::{PlanRecord, Store, write_faults};
use super::{BenchPlan, BenchRow, Existing, LOGS, RecordedTurns, item, read_rows};
use crate::datasets::{Item, Loaded};
use crate::{Error, Result};

/// Opens a sandbox; every run has its own.
pub type OpenSandbox = Arc<dyn Fn() -> lb_sandbox::Result<Box<dyn Repl>> + Send + Sync>;
/// Makes the orchestrator of an item and repeat.
pub type NewOrchestrator =
    Arc<dyn Fn(&Item, usize) -> lb_orchestrate::Result<Box<dyn Orchestrator>> + Send + Sync>;

/// Who answers.
#[derive(Clone)]
pub struct Bench {
    /// The worker; all runs share its weights.
    pub worker: Worker,
    /// Where code runs.
    pub open: OpenSandbox,
    /// Who orchestrates.
    pub orchestrator: NewOrchestrator,
    /// Its name in `plan.json`.
    pub orchestrator_name: String,
    /// Turns to replay in the place of an orchestrator's; it is not asked then.
    pub turns: Option<Arc<RecordedTurns>>,
    /// How the loop is set up; handoff, limits, folder of the logs and length of answers are the plan's. Its token calls
    /// the benchmark off.
    pub config: RlmConfig,
}

/// How a benchmark ended.
#[derive(Clone, Debug, Default)]
pub struct Finished {
    /// All rows, those of an earlier part counted in.
    pub rows: Vec<BenchRow>,
    /// How many of them were there before.
    pub resumed: usize,
    /// Whether it was called off; it can be resumed.
    pub cancelled: bool,
}

/// Answers every item of `loaded` under every condition of `plan`, in the folder `dir`. Each item's orchestrator runs once a repeat, the
/// other conditions replay its turns. `on_row` hears every new row. A run that stops is a row with its failure;
/// malformed items are listed in `faults.jsonl`.
///
/// # Errors
/// [`Error::Config`](crate::Error::Config) for a plan out of range or a folder in use,
/// [`Error::PlanChanged`](crate::Error::PlanChanged) where the folder's plan is another;
/// [`Error::Io`](crate::Error::Io), [`Error::Json`](crate::Error::Json) for its files; what orchestrators and sandboxes
/// cannot be opened with. Rows until then stay.
pub fn run(
    bench: &Bench,
    plan: &BenchPlan,
    loaded: &Loaded,
    dir: &Path,
    existing: Existing,
    on_row: &(dyn Fn(&BenchRow) + Sync),
) -> Result<Finished> {
    plan.validate()?;
    let (conditions, items) = (plan.expanded()?, &loaded.items);
    let live = BenchPlan::live(&conditions).filter(|_| bench.turns.is_none());
    let hash = |item: &Item| mixed(fingerprint(&item.id) ^ mixed(fingerprint(&item.context)));
    let record = PlanRecord {
        plan: PlanRecord::fields(plan)?,
        worker: bench.worker.name().to_owned(),
        orchestrator: bench.orchestrator_name.clone(),
        items: items.len(),
        items_hash: items.iter().map(hash).fold(0, u64::wrapping_add),
    };
    let (store, rows) = Store::open(dir, &record, existing, |dir| {
        let rows = read_rows(dir)?.rows;
        Ok(match live {
            Some(live) => begun(rows, &live.name),
            None => rows,
        })
    })?;
    let logs = dir.join(LOGS);
    std::fs::create_dir_all(&logs).map_err(|source| Error::Io { path: logs.clone(), source })?;
    write_faults(dir, &loaded.faults)?;
    let mut done: HashMap<(String, usize), Vec<BenchRow>> = HashMap::new();
    let resumed = rows.len();
    for row in &rows {
        done.entry((row.item.clone(), row.repeat)).or_default().push(row.clone());
    }
    let push = |row: BenchRow| store.push(row, on_row);
    let job = Job { bench, plan, conditions: &conditions, live, dir, done: &done, push: &push };
    let total = items.len() * plan.repeats;
    in_parallel(total, plan.jobs, &bench.config.cancel, &|number| {
        item::answer(&job, &items[number / plan.repeats], number % plan.repeats)
    })?;
    Ok(Finished { rows: store.rows(), resumed, cancelled: bench.config.cancel.is_cancelled() })
}

/// Rows of an item and repeat that lack the condition `live` are dropped: their turns are not known.
fn begun(mut rows: Vec<BenchRow>, live: &str) -> Vec<BenchRow> {
    let known = |row: &BenchRow| (row.item.clone(), row.repeat);
    let begun: HashSet<_> = rows.iter().filter(|row| row.condition == live).map(known).collect();
    rows.retain(|row| begun.contains(&known(row)));
    rows
}

/// What all threads share.
pub(super) struct Job<'a> {
    pub(super) bench: &'a Bench,
    pub(super) plan: &'a BenchPlan,
    pub(super) conditions: &'a [Condition],
    pub(super) live: Option<&'a Condition>,
    pub(super) dir: &'a Path,
    pub(super) done: &'a HashMap<(String, usize), Vec<BenchRow>>,
    pub(super) push: &'a (dyn Fn(BenchRow) -> Result<()> + Sync),
}
