//! Question sets under several conditions, paired item by item: each item's orchestrator runs once a repeat, the other
//! conditions replay its turns.

mod direct;
mod item;
mod letters;
mod plan;
mod score;
mod turns;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use lb_model::Worker;
use lb_orchestrate::{Orchestrator, RlmConfig};

pub use plan::BenchPlan;
pub use score::Scoring;
pub use turns::RecordedTurns;

use super::{LOGS, OpenRepl};
use crate::answers::AnswerRow;
use crate::condition::Condition;
use crate::datasets::{Item, ItemFault, Loaded};
use crate::files::write_file;
use crate::pipeline::{
    self, Context, Existing, Finished, PlanRecord, Protocol, Settings, fingerprint, mixed,
};
use crate::{Error, Result};

/// Malformed items, one a line, beside the rows.
pub const FAULTS: &str = "faults.jsonl";

/// Makes the orchestrator of an item and repeat.
pub type NewOrchestrator =
    Arc<dyn Fn(&Item, usize) -> lb_orchestrate::Result<Box<dyn Orchestrator>> + Send + Sync>;

/// Who answers.
#[derive(Clone)]
pub struct Bench {
    /// The worker; all runs share its weights.
    pub worker: Worker,
    /// Where code runs.
    pub open: OpenRepl,
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

/// Answers every item of `loaded` under every condition of `plan`, in the folder `dir`. `on_row` hears every new row. A run
/// that stops is a row with its failure; malformed items are listed in `faults.jsonl`.
///
/// # Errors
/// [`Error::Config`] for a plan out of range; those of [`pipeline::run`]; what orchestrators and sandboxes cannot be opened
/// with. Rows until then stay.
pub fn run(
    bench: &Bench,
    plan: &BenchPlan,
    loaded: &Loaded,
    dir: &Path,
    existing: Existing,
    on_row: &(dyn Fn(&AnswerRow) + Sync),
) -> Result<Finished<AnswerRow>> {
    plan.validate()?;
    let conditions = plan.expanded()?;
    let live = BenchPlan::live(&conditions).filter(|_| bench.turns.is_none());
    let items = Items { bench, plan, conditions: &conditions, live, dir, faults: &loaded.faults };
    let repeats = |item| (0..plan.repeats).map(move |repeat| Repeat { item, repeat });
    let repeats: Vec<Repeat<'_>> = loaded.items.iter().flat_map(repeats).collect();
    let cancel = &bench.config.cancel;
    let dir = Some(dir);
    let settings =
        Settings { dir, existing, shard: plan.shard, jobs: plan.jobs, cancel, on_row, hear_earlier: false };
    pipeline::run(&items, &repeats, &settings)
}

/// An item's run number `repeat`.
#[derive(Clone, Copy)]
struct Repeat<'a> {
    item: &'a Item,
    repeat: usize,
}

/// What all threads share.
struct Items<'a> {
    bench: &'a Bench,
    plan: &'a BenchPlan,
    conditions: &'a [Condition],
    /// The condition under which the orchestrator itself runs, where it does.
    live: Option<&'a Condition>,
    dir: &'a Path,
    faults: &'a [ItemFault],
}

impl<'a> Protocol for Items<'a> {
    type Item = Repeat<'a>;
    type Row = AnswerRow;

    fn record(&self, repeats: &[Repeat<'a>]) -> Result<Option<PlanRecord>> {
        let items: Vec<&Item> = repeats.iter().filter(|r| r.repeat == 0).map(|r| r.item).collect();
        let number = |item: &&Item| mixed(fingerprint(&item.id) ^ mixed(fingerprint(&item.context)));
        let (worker, numbers) = (self.bench.worker.name(), items.iter().map(number));
        PlanRecord::new(self.plan, worker, &self.bench.orchestrator_name, items.len(), numbers).map(Some)
    }

    /// Without the live condition the turns of an item and repeat are not known: its rows are made again.
    fn resume(&self, mut rows: Vec<AnswerRow>) -> Vec<AnswerRow> {
        if let Some(live) = self.live {
            let key = |row: &AnswerRow| (row.item.clone(), row.repeat);
            let begun: HashSet<_> = rows.iter().filter(|row| row.condition == live.name).map(key).collect();
            rows.retain(|row| begun.contains(&key(row)));
        }
        rows
    }

    fn prepare(&self, dir: &Path) -> Result<()> {
        let logs = dir.join(LOGS);
        std::fs::create_dir_all(&logs).map_err(|source| Error::Io { path: logs, source })?;
        let path = dir.join(FAULTS);
        let mut text = Vec::new();
        for fault in self.faults {
            let json = |source| Error::Json { path: path.clone(), line_number: 1, source };
            serde_json::to_writer(&mut text, fault).map_err(json)?;
            text.push(b'\n');
        }
        write_file(&path, &text)
    }

    fn rows(&self, repeat: &Repeat<'a>, context: &Context<'_, AnswerRow>) -> Result<()> {
        item::answer(self, *repeat, context)
    }
}
