//! Policies that change what a worker reads or computes: the same turns, once more.

use std::path::Path;

use lb_model::Worker;
use lb_orchestrate::{AnswerMemo, ManagerConfig, MemoConfig, PriceTable, RlmConfig, RunLedger, RunRecord};
use lb_session::{BoundaryPolicy, Handoff};

use super::PolicyRow;
use crate::Result;
use crate::runs::OpenRepl;
use crate::runs::replay::{Replayed, replay_as};

/// What is replayed.
pub struct ReplayPolicies<'a> {
    /// The worker.
    pub worker: &'a Worker,
    /// Opens a sandbox for each replay.
    pub open: &'a OpenRepl,
    /// What enters the worker's cache.
    pub policy: BoundaryPolicy,
    /// Prices.
    pub prices: &'a PriceTable,
    /// How the history is managed; budgets are those of `shares`.
    pub context: ManagerConfig,
    /// Budgets of the trajectory, as shares of its tokens in each run.
    pub shares: Vec<f64>,
    /// A folder for answers that are remembered; it should be empty.
    pub memo: &'a Path,
}

impl ReplayPolicies<'_> {
    fn replay(
        &self,
        record: &RunRecord,
        handoff: &Handoff,
        change: &dyn Fn(RlmConfig) -> RlmConfig,
    ) -> Result<Replayed> {
        replay_as(self.worker, self.open, record, handoff, self.policy.clone(), change)
    }

    fn cost(&self, ledger: &RunLedger) -> f64 {
        let Some(price) = self.prices.worker(self.worker.name()) else { return 0.0 };
        let worker = &ledger.worker;
        let mut tokens = worker.tokens;
        tokens.prefilled += worker.trajectory_prefilled;
        price.of(&tokens, worker.seconds())
    }

    fn add(&self, row: &mut PolicyRow, before: &Replayed, after: &Replayed) {
        row.runs += 1;
        row.tokens_before += computed(&before.ledger);
        row.tokens += computed(&after.ledger);
        row.cost_before += self.cost(&before.ledger);
        row.cost += self.cost(&after.ledger);
        row.seconds_before += before.ledger.worker.seconds();
        row.seconds += after.ledger.worker.seconds();
        let changed = usize::from(before.answer != after.answer);
        row.answers_changed = Some(row.answers_changed.unwrap_or(0) + changed);
        let (mut other, mut all) = row.replies_changed.unwrap_or((0, 0));
        let longer = before.replies.len().max(after.replies.len());
        other += (0..longer).filter(|at| before.replies.get(*at) != after.replies.get(*at)).count();
        all += longer;
        row.replies_changed = Some((other, all));
    }
}

/// Tokens that the worker computed, the trajectory counted in.
fn computed(ledger: &RunLedger) -> usize {
    let (worker, tokens) = (&ledger.worker, &ledger.worker.tokens);
    worker.trajectory_prefilled + tokens.prefilled + tokens.drafted + tokens.generated
}

fn row(policy: String, note: &str) -> PolicyRow {
    PolicyRow { policy, tokens_of: "computed".to_owned(), note: note.to_owned(), ..PolicyRow::default() }
}

/// Replays each of `records` without policies, and then with one at a time: the prefix in the cache (against reading it anew for
/// each call), the context manager at each share, remembered answers. `heard` is called after each run.
///
/// # Errors
/// [`crate::Error::Run`] where documents are not there, a session cannot be opened, or the folder for answers cannot be used.
pub fn replayed(
    of: &ReplayPolicies<'_>,
    records: &[RunRecord],
    heard: &mut dyn FnMut(),
) -> Result<Vec<PolicyRow>> {
    let mut prefix = row("prefix reuse".to_owned(), "full-kv against text-replay");
    let mut managed: Vec<PolicyRow> = of
        .shares
        .iter()
        .map(|share| row(format!("context manager, trajectory at {:.0} %", 100.0 * share), ""))
        .collect();
    let mut first = row("answers remembered, first run".to_owned(), "repeats within a run");
    let mut memo = row("answers remembered, second run".to_owned(), "the same run again");
    let answers = AnswerMemo::open(MemoConfig::at(of.memo))?;
    for record in records {
        let handoff = record.metadata.latent_briefing.handoff.clone();
        let plain = of.replay(record, &handoff, &|config| config)?;
        let anew = of.replay(record, &Handoff::TextReplay, &|config| config)?;
        let kept = of.replay(record, &Handoff::FullKv, &|config| config)?;
        of.add(&mut prefix, &anew, &kept);
        for (share, row) in of.shares.iter().zip(&mut managed) {
            let budget = (plain.ledger.worker.trajectory_prefilled as f64 * share) as usize;
            let context = ManagerConfig { trajectory_tokens: Some(budget.max(64)), ..of.context.clone() };
            let made =
                of.replay(record, &handoff, &|config| RlmConfig { context: context.clone(), ..config })?;
            of.add(row, &plain, &made);
        }
        let with_memo = |config: RlmConfig| RlmConfig { memo: Some(answers.clone()), ..config };
        let fills = of.replay(record, &handoff, &with_memo)?;
        of.add(&mut first, &plain, &fills);
        let again = of.replay(record, &handoff, &with_memo)?;
        of.add(&mut memo, &plain, &again);
        heard();
    }
    let stats = answers.stats();
    memo.note =
        format!("{}; {} hits, {} misses, {} bypassed", memo.note, stats.hits, stats.misses, stats.bypassed);
    let mut rows = vec![prefix];
    rows.extend(managed);
    rows.extend([first, memo]);
    Ok(rows)
}
