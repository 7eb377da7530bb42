//! One log: every question under every condition.

use std::time::Duration;

use lb_am::Compaction;
use lb_model::{GenerateOptions, KvCache, Worker};
use lb_session::{CallTokens, Handoff, Segment, SelectionSize, TaskState, WorkerSession};

use super::logs::{self, Log};
use super::{EpisodePlan, Logs};
use crate::Result;
use crate::answers::AnswerRow;
use crate::condition::{Condition, Selected, Way};
use crate::pipeline::{Context, PlanRecord, Protocol, part};
use crate::views::{TaskPass, Views};

/// One call of the worker for a question and a condition.
pub(super) struct Calls<'a> {
    pub(super) worker: &'a Worker,
    pub(super) plan: &'a EpisodePlan,
    pub(super) conditions: &'a [Condition],
}

impl Protocol for Calls<'_> {
    type Item = Log;
    type Row = AnswerRow;

    fn record(&self, logs: &[Log]) -> Result<Option<PlanRecord>> {
        let questions = logs.iter().map(|log| log.episode.questions.len()).sum();
        let numbers = logs.iter().map(|log| log.cluster);
        PlanRecord::new(self.plan, self.worker.name(), "none", questions, numbers).map(Some)
    }

    fn rows(&self, log: &Log, context: &Context<'_, AnswerRow>) -> Result<()> {
        let missing = self.missing(log, context);
        if missing.is_empty() {
            return Ok(());
        }
        let mut session = logs::session(self.worker, self.plan)?;
        session.extend_all(log.episode.lines.iter().map(Segment::from), &mut |_, _| {})?;
        let mut views = None;
        let mut missing = missing.into_iter().peekable();
        while let Some((number, item, first)) = missing.next() {
            let blank = self.blank(log, number, item, session.seq_len());
            let lot = log.episode.seed.wrapping_mul(1009).wrapping_add(number as u64);
            let text = log.episode.questions[number].text.as_str();
            let mut question = Question { text, lot, task: None, kept: None };
            let others = std::iter::from_fn(|| missing.next_if(|(of, _, _)| *of == number));
            for condition in std::iter::once(first).chain(others.map(|(_, _, condition)| condition)) {
                let mut row = AnswerRow { condition: condition.name.clone(), ..blank.clone() };
                match &condition.way {
                    Way::Handoff(handoff) => by_handoff(&mut session, handoff, text, &mut row)?,
                    Way::SameSize { briefing, seed } => {
                        let handoff = question.same_size(&session, briefing, *seed)?;
                        by_handoff(&mut session, &handoff, text, &mut row)?;
                    }
                    Way::Selection(selected) => {
                        let views = Views::once(&mut views, &session)?;
                        self.by_selection(&session, views, question.task(&session)?, selected, &mut row)?;
                    }
                    Way::Hierarchical(hierarchy) => {
                        let views = Views::once(&mut views, &session)?;
                        let task = question.task(&session)?;
                        let (mut cache, time) = views.hierarchical(&session, task, hierarchy)?;
                        self.over(&mut cache, None, &task.tokens, time, &mut row)?;
                    }
                    Way::Chain(chain) => {
                        let blank = logs::session(self.worker, self.plan)?;
                        let mut read = chain.reread(&mut session, text, blank)?;
                        by_handoff(&mut read.session, &chain.then, text, &mut row)?;
                        let share = read.session.seq_len() as f64 / row.seq_len.max(1) as f64;
                        row.keep_ratio = row.keep_ratio.map(|kept| kept * share);
                        row.worker.prefilled += read.tokens;
                        row.brief_s += read.time.as_secs_f64();
                        row.elapsed_s += read.time.as_secs_f64();
                    }
                    Way::Direct => continue,
                }
                row.score = f64::from(row.answer == row.expected);
                context.push(row)?;
            }
        }
        Ok(())
    }
}

impl<'a> Calls<'a> {
    /// What has no row yet: number and item of a question, and the condition; question by question.
    pub(super) fn missing(
        &self,
        log: &Log,
        context: &Context<'_, AnswerRow>,
    ) -> Vec<(usize, String, &'a Condition)> {
        let of = |number: usize| {
            let item = format!("{}-{number}", log.id);
            let done = context.done(&item);
            let is_missing = |condition: &&Condition| !done.iter().any(|row| row.condition == condition.name);
            let missing: Vec<_> = self.conditions.iter().filter(is_missing).collect();
            missing.into_iter().map(move |condition| (number, item.clone(), condition))
        };
        (0..log.episode.questions.len()).flat_map(of).collect()
    }

    pub(super) fn blank(&self, log: &Log, number: usize, item: String, seq_len: usize) -> AnswerRow {
        let question = &log.episode.questions[number];
        let (kind, difficulty) = (question.kind.name(), Some(question.difficulty.name().to_owned()));
        let (kind, length, difficulty) = match &log.logs {
            Some(Logs::HeldOut { tokens: (low, high), .. }) => {
                let third = (3 * (seq_len.saturating_sub(*low)) / (high - low + 1)).min(2);
                (kind, Some(["short", "medium", "long"][third].to_owned()), difficulty)
            }
            Some(Logs::Native { task, tokens }) => (task.name(), Some(tokens.to_string()), None),
            None => (kind, None, difficulty),
        };
        AnswerRow {
            item,
            dataset: log.dataset.clone(),
            cluster: log.cluster,
            part: part(self.plan.seed, self.plan.validation_share, log.cluster),
            kind: kind.to_owned(),
            difficulty,
            length,
            context_tokens: seq_len,
            seq_len,
            expected: question.answer.clone(),
            calls: 1,
            trajectory: seq_len,
            ..AnswerRow::default()
        }
    }

    /// Answers over what a selection keeps. Its time counts the pass of the task where it looks at the task's
    /// queries.
    fn by_selection(
        &self,
        session: &WorkerSession,
        views: &mut Views,
        pass: &TaskPass,
        selected: &Selected,
        row: &mut AnswerRow,
    ) -> Result<()> {
        let (mut cache, time) = views.selected(session, pass, selected)?;
        let state = (selected.state == TaskState::Reuse).then_some((session, pass));
        self.over(&mut cache, state, &pass.tokens, time, row)
    }

    /// Answers over a cache that took `brief` to make, behind the task that is read anew, or behind its state in a pass over the full cache.
    fn over(
        &self,
        cache: &mut KvCache,
        pass: Option<(&WorkerSession, &TaskPass)>,
        task: &[u32],
        brief: Duration,
        row: &mut AnswerRow,
    ) -> Result<()> {
        let (reused, passes) = (cache.mean_slots(), 1 + usize::from(pass.is_none()));
        let options = GenerateOptions::greedy(self.plan.answer_tokens);
        let made = match pass {
            None => self.worker.generate(cache, task, &options, &mut |_, _| true),
            Some((session, pass)) => {
                let layers = pass.state(session)?;
                cache.append_layers(&layers, task.len()).map_err(lb_session::Error::from)?;
                self.worker.generate_from_logits(cache, &pass.logits, &options, &mut |_, _| true)
            }
        };
        let made = made.map_err(lb_session::Error::from)?;
        row.worker = CallTokens {
            attended: reused + task.len(),
            prefilled: passes * task.len(),
            reused,
            generated: made.tokens.len(),
            ..CallTokens::default()
        };
        made.text.trim().clone_into(&mut row.answer);
        row.keep_ratio = Some(reused as f64 / row.seq_len.max(1) as f64);
        row.brief_s = brief.as_secs_f64();
        (row.prefill_s, row.decode_s) = (made.prefill.as_secs_f64(), made.decode.as_secs_f64());
        row.elapsed_s = row.brief_s + row.prefill_s + row.decode_s;
        Ok(())
    }
}

/// A question, and what several conditions have of it in common.
struct Question<'a> {
    text: &'a str,
    lot: u64,
    task: Option<TaskPass>,
    kept: Option<(&'a Compaction, usize)>,
}

impl<'a> Question<'a> {
    fn task(&mut self, session: &WorkerSession) -> Result<&TaskPass> {
        Ok(match &mut self.task {
            Some(task) => task,
            none => none.insert(TaskPass::read(session, self.text)?),
        })
    }

    /// The most recent positions, or with a seed some by lot, as many as `briefing` keeps.
    fn same_size(
        &mut self,
        session: &WorkerSession,
        briefing: &'a Compaction,
        seed: Option<u64>,
    ) -> Result<Handoff> {
        let kept_len = match self.kept {
            Some((other, kept_len)) if other == briefing => kept_len,
            _ => session.brief(self.text, briefing)?.kept_len(),
        };
        self.kept = Some((briefing, kept_len));
        let size = SelectionSize::KeptLen(kept_len);
        Ok(match seed {
            None => Handoff::Recent(size),
            Some(seed) => Handoff::Random { size, seed: seed.wrapping_mul(1_000_003).wrapping_add(self.lot) },
        })
    }
}

fn by_handoff(session: &mut WorkerSession, handoff: &Handoff, task: &str, row: &mut AnswerRow) -> Result<()> {
    let outcome = session.ask(task).via(handoff).run()?;
    let times = outcome.record.times;
    row.worker = outcome.record.tokens;
    row.keep_ratio = Some(outcome.keep_ratio);
    row.brief_s = times.brief.as_secs_f64();
    (row.prefill_s, row.decode_s) = (times.prefill.as_secs_f64(), times.decode.as_secs_f64());
    row.elapsed_s = times.total().as_secs_f64();
    row.answer = outcome.answer.text;
    Ok(())
}
