//! One item: the trajectory read once, the target behind every condition.

use std::time::Instant;

use candle_core::Tensor;
use lb_model::{KvCache, PrefillOptions, Worker};
use lb_session::Error as SessionError;
use lb_session::{BriefConfig, Briefing, Handoff, OpenSession, Prepared, TaskState, WorkerSession};

use super::plan::{RetainedPlan, Target};
use super::row::{Measured, RetainedRow};
use super::target::{Compared, Logits, behind, own, read};
use crate::logs::LogItem;
use crate::views::{Views, capture};
use crate::way::{Selected, Way};
use crate::{Error, Result};

/// Measures items of one plan, one after another.
pub(super) struct Reader<'a> {
    pub(super) worker: &'a Worker,
    pub(super) plan: &'a RetainedPlan,
    pub(super) ways: &'a [(String, Way)],
    /// Holds the trajectory of the last item. One that goes on where it ends is not read from its beginning.
    session: Option<WorkerSession>,
}

/// The full cache with the task behind it.
struct Full {
    queries: Vec<Tensor>,
    /// Milliseconds of the task's pass.
    ms: f64,
    logits: Logits,
}

impl<'a> Reader<'a> {
    pub(super) fn new(worker: &'a Worker, plan: &'a RetainedPlan, ways: &'a [(String, Way)]) -> Self {
        Self { worker, plan, ways, session: None }
    }

    /// The row of `item`; what does not fit the worker is a row with a failure.
    pub(super) fn measure(&mut self, item: &LogItem) -> RetainedRow {
        let blank = RetainedRow {
            item: item.id.clone(),
            document: item.document.clone(),
            target: self.plan.target,
            ..RetainedRow::default()
        };
        match self.measured(item, blank.clone()) {
            Ok(row) => row,
            Err(error) => {
                self.session = None;
                RetainedRow { failure: Some(crate::report::with_causes(&error)), ..blank }
            }
        }
    }

    fn measured(&mut self, item: &LogItem, mut row: RetainedRow) -> Result<RetainedRow> {
        let mut session = self.reading(item)?;
        let worker = self.worker;
        row.seq_len = session.seq_len();
        let task = session.task_tokens(item.task.as_str())?;
        let mut cache = session.cache().fork();
        let start = Instant::now();
        let captured = capture(&session, &task, &mut cache)?;
        let ms = start.elapsed().as_secs_f64() * 1e3;
        let target = self.target(item, &captured.logits, &mut cache.fork())?;
        let logits = behind(worker, &captured.logits, &mut cache, &target)?;
        let full = Full { queries: captured.queries, ms, logits };
        row.target_tokens = target.len();
        row.target_text = worker.tokenizer().decode(&target).map_err(SessionError::from)?;

        let of = Handed { worker, task: item.task.as_str(), target: &target, full: &full };
        row.full = of.measured("full-kv", &full.logits, 1.0, row.seq_len + task.len(), 0.0);
        row.none = of.handed(&mut session, "none", &Handoff::None)?;
        let mut briefings = self.briefings(&session, item)?.into_iter().peekable();
        let mut views = None;
        for (name, way) in self.ways {
            let measured = match way {
                Way::Handoff(handoff) => match handoff.as_ref() {
                    Handoff::FullKv => Measured { handoff: name.clone(), ..row.full.clone() },
                    Handoff::None => Measured { handoff: name.clone(), ..row.none.clone() },
                    handoff => match briefings.next_if(|(of, _)| *of == name) {
                        Some((_, briefing)) => {
                            of.prepared(name, session.ask(item.task.as_str()).over(&briefing).prepare()?)?
                        }
                        None => of.handed(&mut session, name, handoff)?,
                    },
                },
                Way::Selection(selected) => {
                    let views = match &mut views {
                        Some(views) => views,
                        none => none.insert(Views::of(&session)?),
                    };
                    of.selected(&session, views, name, selected)?
                }
            };
            row.conditions.push(measured);
        }
        self.session = Some(session);
        Ok(row)
    }

    /// Of every condition that is one, in their order, with its name.
    fn briefings(&self, session: &WorkerSession, item: &LogItem) -> Result<Vec<(&'a String, Briefing)>> {
        let config = |(name, way): &'a (String, Way)| match way {
            Way::Handoff(handoff) => match handoff.as_ref() {
                Handoff::LatentBriefing(config) => Some((name, config.as_ref().clone())),
                _ => None,
            },
            Way::Selection(_) => None,
        };
        let (names, configs): (Vec<_>, Vec<BriefConfig>) = self.ways.iter().filter_map(config).unzip();
        let briefings = session.brief_each(item.task.as_str(), &configs)?;
        Ok(names.into_iter().zip(briefings).collect())
    }

    /// The session, with the trajectory of `item` in its cache.
    fn reading(&mut self, item: &LogItem) -> Result<WorkerSession> {
        let goes_on = |session: &WorkerSession| item.trajectory.starts_with(session.trajectory().segments());
        let mut session = match self.session.take().filter(goes_on) {
            Some(session) => session,
            None => self.worker.session()?,
        };
        let rest = item.trajectory[session.trajectory().len()..].to_vec();
        session.extend_all(rest, &mut |_, _| {})?;
        Ok(session)
    }

    fn target(&self, item: &LogItem, first: &Tensor, cache: &mut KvCache) -> Result<Vec<u32>> {
        let (tokenizer, most) = (self.worker.tokenizer(), self.plan.target_tokens);
        if self.plan.target == Target::Own {
            return own(self.worker, first, cache, most);
        }
        let mut tokens = tokenizer.encode_text(&item.target).map_err(SessionError::from)?;
        if tokens.is_empty() {
            return Err(lb_session::Error::Empty { arg: "target" }.into());
        }
        // The end of an answer is a part of it.
        let end = tokenizer.special_tokens().get("eos_token").and_then(|token| tokenizer.token_id(token));
        tokens.extend(end.or(tokenizer.eos_ids().first().copied()));
        tokens.truncate(most);
        Ok(tokens)
    }
}

/// What all conditions of an item are compared by.
struct Handed<'a> {
    worker: &'a Worker,
    task: &'a str,
    target: &'a [u32],
    full: &'a Full,
}

impl Handed<'_> {
    fn measured(&self, name: &str, logits: &Logits, kept: f64, attended: usize, brief_ms: f64) -> Measured {
        let Compared { nll, agreement, kl } = logits.compare(&self.full.logits, self.target);
        let worker_tokens = attended + self.target.len();
        Measured { handoff: name.to_owned(), nll, agreement, kl, kept, worker_tokens, brief_ms }
    }

    fn handed(&self, session: &mut WorkerSession, name: &str, handoff: &Handoff) -> Result<Measured> {
        self.prepared(name, session.ask(self.task).via(handoff).prepare()?)
    }

    fn prepared(&self, name: &str, prepared: Prepared) -> Result<Measured> {
        let (kept, ms) = (prepared.keep_ratio, prepared.brief.as_secs_f64() * 1e3);
        let attended = prepared.tokens.worker_tokens();
        let logits = read(self.worker, prepared, self.target)?;
        Ok(self.measured(name, &logits, kept, attended, ms))
    }

    /// A selection, kept as it is.
    fn selected(
        &self,
        session: &WorkerSession,
        views: &mut Views,
        name: &str,
        selected: &Selected,
    ) -> Result<Measured> {
        let Selected { selection, size, state } = selected;
        if *state == TaskState::Reuse {
            let reason = "the task is read anew over every selection";
            return Err(Error::config("state", "reuse", reason));
        }
        let (start, seq_len) = (Instant::now(), session.seq_len());
        let small = views.cut(session, &self.full.queries, selection, size.resolve(seq_len)?)?;
        let cache = KvCache::from_compacted(&small, seq_len, self.worker.config());
        let mut cache = cache.map_err(SessionError::from)?;
        let pass = if selection.selector().needs().queries { self.full.ms } else { 0.0 };
        let ms = start.elapsed().as_secs_f64() * 1e3 + pass;
        let (slots, task) = (cache.mean_slots(), session.task_tokens(self.task)?);
        let first =
            self.worker.model().prefill(&task, &mut cache, &PrefillOptions::default(), &mut |_, _| {});
        let first = first.map_err(SessionError::from)?;
        let logits = behind(self.worker, &first, &mut cache, self.target)?;
        let kept = slots as f64 / seq_len.max(1) as f64;
        Ok(self.measured(name, &logits, kept, slots + task.len(), ms))
    }
}
