//! One item: the trajectory read once, the target behind every condition.

use std::time::{Duration, Instant};

use candle_core::Tensor;
use lb_model::{KvCache, PrefillOptions, Worker};
use lb_session::Error as SessionError;
use lb_session::{BriefConfig, Briefing, Forced, Handoff, OpenSession, WorkerSession};

use super::plan::{RetainedPlan, Target};
use super::rank::rank_of;
use super::row::{Measured, Rank, RetainedRow};
use super::target::{Compared, Logits, behind, own};
use crate::Result;
use crate::condition::{Condition, Selected, Way};
use crate::error::with_causes;
use crate::logs::LogItem;
use crate::views::{TaskPass, Views};

/// Measures items under the conditions of one plan.
pub(super) struct Measure<'a> {
    pub(super) worker: &'a Worker,
    pub(super) plan: &'a RetainedPlan,
    pub(super) conditions: &'a [Condition],
}

impl Measure<'_> {
    /// The row of `item`; what does not fit the worker is a row with a failure. `session` has what was read last, and has
    /// the item's trajectory then.
    pub(super) fn row(&self, item: &LogItem, session: &mut Option<WorkerSession>) -> RetainedRow {
        let mut blank = RetainedRow {
            item: item.id.clone(),
            document: item.document.clone(),
            target: self.plan.target,
            ..RetainedRow::default()
        };
        let measured = self.reading(item, session.take()).and_then(|(mut reading, tokens, time)| {
            (blank.read_tokens, blank.read_ms) = (tokens, time.as_secs_f64() * 1e3);
            let row = self.measured(item, &mut reading, blank.clone())?;
            *session = Some(reading);
            Ok(row)
        });
        measured.unwrap_or_else(|error| RetainedRow { failure: Some(with_causes(&error)), ..blank })
    }

    fn measured(
        &self,
        item: &LogItem,
        session: &mut WorkerSession,
        mut row: RetainedRow,
    ) -> Result<RetainedRow> {
        let worker = self.worker;
        row.seq_len = session.seq_len();
        let task = TaskPass::read(session, &item.task)?;
        let target = self.target(item, &task.logits, &mut task.cache.fork())?;
        let full = behind(worker, &task.logits, &mut task.cache.fork(), &target)?;
        row.target_tokens = target.len();
        row.target_text = worker.tokenizer().decode(&target).map_err(SessionError::from)?;

        let of = Compare { worker, task: &item.task, target: &target, full: &full };
        row.full = of.measured("full-kv", &full, 1.0, row.seq_len + task.tokens.len(), Duration::ZERO);
        row.full.rank = self.rank(session.cache())?;
        row.none = of.handed(session, "none", &Handoff::None)?;
        let mut briefings = self.briefings(session, item)?.into_iter().peekable();
        let mut views = None;
        for Condition { name, way } in self.conditions {
            let same = |measured: &Measured| Measured { handoff: name.clone(), ..measured.clone() };
            let measured = match way {
                Way::Handoff(handoff) => match handoff.as_ref() {
                    Handoff::FullKv => same(&row.full),
                    Handoff::None => same(&row.none),
                    handoff => match briefings.next_if(|(of, _)| *of == name) {
                        Some((_, briefing)) => {
                            let rank = self.rank(briefing.cache())?;
                            let forced = session.ask(item.task.as_str()).over(&briefing).forced(&target)?;
                            Measured { rank, ..of.forced(name, &forced)? }
                        }
                        None => of.handed(session, name, handoff)?,
                    },
                },
                Way::Selection(selected) => {
                    let views = match &mut views {
                        Some(views) => views,
                        none => none.insert(Views::of(session)?),
                    };
                    self.selected(&of, session, views, &task, (name, selected))?
                }
                Way::Direct | Way::SameSize { .. } => continue,
            };
            row.conditions.push(measured);
        }
        Ok(row)
    }

    /// A selection, kept as it is; the task is read anew over it.
    fn selected(
        &self,
        of: &Compare<'_>,
        session: &WorkerSession,
        views: &mut Views,
        task: &TaskPass,
        (name, selected): (&str, &Selected),
    ) -> Result<Measured> {
        let (mut cache, brief) = views.selected(session, task, selected)?;
        let (slots, rank) = (cache.mean_slots(), self.rank(&cache)?);
        let (model, options) = (self.worker.model(), PrefillOptions::default());
        let first = model.prefill(&task.tokens, &mut cache, &options, &mut |_, _| {});
        let logits = behind(self.worker, &first.map_err(SessionError::from)?, &mut cache, of.target)?;
        let kept = slots as f64 / session.seq_len().max(1) as f64;
        Ok(Measured { rank, ..of.measured(name, &logits, kept, slots + task.tokens.len(), brief) })
    }

    /// Where it is asked for.
    fn rank(&self, cache: &KvCache) -> Result<Option<Rank>> {
        self.plan.rank.then(|| rank_of(cache)).transpose()
    }

    /// Of every condition that is one, in their order, with its name.
    fn briefings(&self, session: &WorkerSession, item: &LogItem) -> Result<Vec<(&String, Briefing)>> {
        let config = |condition: &Condition| match condition.as_handoff() {
            Some(Handoff::LatentBriefing(config)) => Some(config.as_ref().clone()),
            _ => None,
        };
        let (names, configs): (Vec<&String>, Vec<BriefConfig>) =
            self.conditions.iter().filter_map(|c| Some((&c.name, config(c)?))).unzip();
        let briefings = session.brief_each(item.task.as_str(), &configs)?;
        Ok(names.into_iter().zip(briefings).collect())
    }

    /// A session with the trajectory of `item` in its cache; `last` may have the beginning of it. With it, how many tokens had to be
    /// read, and how long that took.
    fn reading(
        &self,
        item: &LogItem,
        last: Option<WorkerSession>,
    ) -> Result<(WorkerSession, usize, Duration)> {
        let goes_on = |session: &WorkerSession| item.trajectory.starts_with(session.trajectory().segments());
        let mut session = match last.filter(goes_on) {
            Some(session) => session,
            None => self.worker.session()?,
        };
        let rest = item.trajectory[session.trajectory().len()..].to_vec();
        let (known, start) = (session.seq_len(), Instant::now());
        session.extend_all(rest, &mut |_, _| {})?;
        let read = session.seq_len() - known;
        Ok((session, read, start.elapsed()))
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
struct Compare<'a> {
    worker: &'a Worker,
    task: &'a str,
    target: &'a [u32],
    full: &'a Logits,
}

impl Compare<'_> {
    fn measured(&self, name: &str, logits: &Logits, kept: f64, attended: usize, brief: Duration) -> Measured {
        let Compared { nll, agreement, kl } = logits.compare(self.full, self.target);
        let worker_tokens = attended + self.target.len();
        let brief_ms = brief.as_secs_f64() * 1e3;
        Measured {
            handoff: name.to_owned(),
            nll,
            agreement,
            kl,
            kept,
            worker_tokens,
            brief_ms,
            rank: None,
            renewal_ms: 0.0,
        }
    }

    fn handed(&self, session: &mut WorkerSession, name: &str, handoff: &Handoff) -> Result<Measured> {
        self.forced(name, &session.ask(self.task).via(handoff).forced(self.target)?)
    }

    fn forced(&self, name: &str, forced: &Forced) -> Result<Measured> {
        let logits = Logits::of(&forced.logits)?;
        let attended = forced.tokens.worker_tokens();
        let measured = self.measured(name, &logits, forced.keep_ratio, attended, forced.brief);
        Ok(Measured { renewal_ms: forced.renewals.as_secs_f64() * 1e3, ..measured })
    }
}
