//! One run of the loop for each question, in a folder that a later call goes on with.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use lb_model::Worker;
use lb_orchestrate::{Orchestrator, Rlm, RlmConfig};

use super::{QuestionItem, QuestionRow};
use crate::Result;
use crate::pipeline::{self, Context, Existing, Finished, PlanRecord, Protocol, Settings, Shard};
use crate::runs::{LOGS, OpenRepl};

/// Who answers.
#[derive(Clone)]
pub struct Questions {
    /// The worker.
    pub worker: Worker,
    /// Where code runs.
    pub open: OpenRepl,
    /// How the loop is set up; the folder of the logs is the run's. Its token calls the whole off, behind the question in
    /// hand.
    pub config: RlmConfig,
}

/// Answers each of `items` that has no row in `dir` yet, one after another and all by the same orchestrator; of an id that is
/// there twice, the first. The runs' logs are in `logs` beside the rows. `on_row` hears every new row.
///
/// # Errors
/// Those of [`pipeline::run`], and what sandboxes and sessions cannot be opened with. A run that stops is a row like any
/// other. Rows until then stay.
pub fn run(
    questions: &Questions,
    orchestrator: &mut (dyn Orchestrator + Send),
    items: &[QuestionItem],
    dir: &Path,
    on_row: &(dyn Fn(&QuestionRow) + Sync),
) -> Result<Finished<QuestionRow>> {
    let mut seen = HashSet::new();
    let items: Vec<&QuestionItem> = items.iter().filter(|item| seen.insert(&item.id)).collect();
    let config = RlmConfig { log_dir: Some(dir.join(LOGS)), ..questions.config.clone() };
    let loops = Loops { questions, config, orchestrator: Mutex::new(orchestrator) };
    let cancel = &questions.config.cancel;
    let (dir, existing) = (Some(dir), Existing::Resume);
    pipeline::run(
        &loops,
        &items,
        &Settings { dir, existing, shard: Shard::default(), jobs: 1, cancel, on_row, hear_earlier: false },
    )
}

struct Loops<'a> {
    questions: &'a Questions,
    config: RlmConfig,
    orchestrator: Mutex<&'a mut (dyn Orchestrator + Send)>,
}

impl<'a> Protocol for Loops<'a> {
    type Item = &'a QuestionItem;
    type Row = QuestionRow;

    fn record(&self, _: &[&'a QuestionItem]) -> Result<Option<PlanRecord>> {
        Ok(None)
    }

    fn rows(&self, item: &&'a QuestionItem, context: &Context<'_, QuestionRow>) -> Result<()> {
        if !context.done(&item.id).is_empty() {
            return Ok(());
        }
        let open = Arc::clone(&self.questions.open);
        let mut rlm = Rlm::new(&self.questions.worker, move || open(), self.config.clone())?;
        rlm.add_context(&item.document)?;
        let mut orchestrator = self.orchestrator.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = rlm.run(&mut **orchestrator, &item.question);
        context.push(QuestionRow::of(item, &ended)?)
    }
}
