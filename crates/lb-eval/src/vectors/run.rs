//! Every text in every number of vectors, in a folder that a later run goes on with.

use std::path::Path;

use candle_core::DType;
use lb_model::{Differentiable, Worker};
use lb_session::{CancelToken, Error as SessionError};

use super::measure::Measure;
use super::plan::{Order, VectorsPlan};
use super::row::VectorsRow;
use super::text::{in_order, text_of};
use crate::Result;
use crate::error::with_causes;
use crate::logs::LogItem;
use crate::pipeline::{
    self, Context, Existing, Finished, PlanRecord, Protocol, Row, Settings, fingerprint, mixed,
};
use crate::stats::grouped;

/// One training.
pub(super) struct Cell<'a> {
    id: String,
    item: &'a LogItem,
    tokens: usize,
    order: Order,
    vectors: usize,
}

/// Crams a text of each document of `items` as `plan` says, the last item of a document standing for it. With a folder `dir`, each row is
/// on disk before the next training begins, and what has one there is passed over. `on_row` hears every row, those of the folder first;
/// `cancel` ends it between two steps of a training, which is begun anew by a later run.
///
/// # Errors
/// Those of [`VectorsPlan::validate`] and of [`pipeline::run`]; [`Error::Model`](crate::Error::Model) for a worker without gradients. A
/// training that fails is a row with its failure, which a later run tries again.
pub fn run(
    worker: &Worker,
    plan: &VectorsPlan,
    items: &[LogItem],
    dir: Option<&Path>,
    cancel: &CancelToken,
    on_row: &(dyn Fn(&VectorsRow) + Sync),
) -> Result<Finished<VectorsRow>> {
    plan.validate()?;
    let path = &Differentiable::of(worker.model(), DType::F32)?;
    let cells = cells(plan, items);
    let settings = Settings {
        dir,
        existing: Existing::Resume,
        shard: plan.shard,
        jobs: 1,
        cancel,
        on_row,
        hear_earlier: true,
    };
    pipeline::run(&Measure { worker, path, plan, cancel }, &cells, &settings)
}

/// How many rows a plan has for `items`.
pub fn trainings(plan: &VectorsPlan, items: &[LogItem]) -> usize {
    cells(plan, items).len()
}

fn cells<'a>(plan: &VectorsPlan, items: &'a [LogItem]) -> Vec<Cell<'a>> {
    let mut cells = Vec::new();
    for (document, items) in grouped(items, |item| item.document.as_str()) {
        let Some(item) = items.into_iter().last() else { continue };
        for &tokens in &plan.tokens {
            for &order in plan.orders() {
                for &vectors in &plan.vectors {
                    let named = if order == Order::Shuffled { "shuffled, " } else { "" };
                    let id = format!("{document}, {tokens} tokens, {named}{vectors} vectors");
                    cells.push(Cell { id, item, tokens, order, vectors });
                }
            }
        }
    }
    cells
}

impl<'a> Protocol for Measure<'a> {
    type Item = Cell<'a>;
    type Row = VectorsRow;

    fn record(&self, cells: &[Cell<'a>]) -> Result<Option<PlanRecord>> {
        let numbers = cells.iter().map(|cell| mixed(fingerprint(&cell.id)));
        PlanRecord::new(self.plan, self.worker.name(), "none", cells.len(), numbers).map(Some)
    }

    /// What failed is tried again.
    fn resume(&self, mut rows: Vec<VectorsRow>) -> Vec<VectorsRow> {
        rows.retain(|row| row.failure.is_none());
        rows
    }

    fn rows(&self, cell: &Cell<'a>, context: &Context<'_, VectorsRow>) -> Result<()> {
        if !context.done(&cell.id).is_empty() || context.cancelled() {
            return Ok(());
        }
        let blank = VectorsRow {
            item: cell.id.clone(),
            document: cell.item.document.clone(),
            order: cell.order,
            tokens: cell.tokens,
            vectors: cell.vectors,
            ..VectorsRow::default()
        };
        let made = text_of(cell.item, self.worker.tokenizer(), cell.tokens).and_then(|tokens| {
            if tokens.len() < cell.tokens {
                let (short, wanted) = (tokens.len(), cell.tokens);
                let reason = "the document is shorter";
                return Err(crate::Error::config("tokens", format!("{wanted} of {short}"), reason));
            }
            self.row(cell.item, &in_order(tokens, cell.order, self.plan.seed), blank.clone())
        });
        match made {
            Ok(Some(row)) => context.push(row),
            Ok(None) | Err(crate::Error::Session(SessionError::Cancelled)) => Ok(()),
            Err(error) => context.push(VectorsRow { failure: Some(with_causes(&error)), ..blank }),
        }
    }
}

impl Row for VectorsRow {
    fn item(&self) -> &str {
        &self.item
    }
}
