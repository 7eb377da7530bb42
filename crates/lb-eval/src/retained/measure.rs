//! One item: the trajectory read once, the target behind every condition.

use std::time::{Duration, Instant};

use candle_core::Tensor;
use lb_model::{KvCache, PrefillOptions, Worker};
use lb_session::Error as SessionError;
use lb_session::{BriefConfig, Briefing, Chances, Choices, Forced, Handoff, OpenSession, WorkerSession};

use super::plan::{RetainedPlan, Target};
use super::rank::rank_of;
use super::row::{Measured, Rank, RetainedRow};
use super::target::{Compared, Logits, behind, own};
use crate::Result;
use crate::condition::{Condition, Way};
use crate::error::with_causes;
use crate::logs::{Decision, LogItem};
use crate::views::{TaskPass, Views};

/// Measures items under the conditions of one plan.
pub(super) struct Measure<'a> {
    pub(super) worker: &'a Worker,
    /// The model that writes what `by=orchestrator` names.
    pub(super) orchestrator: Option<&'a Worker>,
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

        let choices: Vec<Choices> = item.decisions.iter().map(Decision::choices).collect();
        row.chosen = item.decisions.iter().map(Decision::chosen_number).collect();
        let of = Compare { worker, task: &item.task, target: &target, full: &full, choices: &choices };
        row.full = of.measured("full-kv", &full, 1.0, (row.seq_len, task.tokens.len()), Duration::ZERO);
        row.full.prefill_ms = task.time.as_secs_f64() * 1e3;
        row.full.decided = of.decided(&task.cache)?;
        row.full.rank = self.rank(session.cache())?;
        row.none = of.handed(session, "none", &Handoff::None)?;
        let mut briefings = self.briefings(session, item)?.into_iter().peekable();
        let (mut views, mut orchestrator) = (None, None);
        for Condition { name, way } in self.conditions {
            let same = |measured: &Measured| Measured { handoff: name.clone(), ..measured.clone() };
            let measured = match way {
                Way::Handoff(handoff) => match handoff.as_ref() {
                    Handoff::FullKv => same(&row.full),
                    Handoff::None => same(&row.none),
                    handoff => match briefings.next_if(|(of, _)| *of == name) {
                        Some((_, briefing)) => {
                            let rank = self.rank(briefing.cache())?;
                            let asked = session.ask(item.task.as_str()).over(&briefing);
                            let forced = asked.forced_weighing(&target, &choices)?;
                            Measured { rank, ..of.forced(name, &forced)? }
                        }
                        None => of.handed(session, name, handoff)?,
                    },
                },
                Way::Selection(selected) => {
                    let views = Views::once(&mut views, session)?;
                    let (cache, brief) = views.selected(session, &task, selected)?;
                    let rank = self.rank(&cache)?;
                    Measured { rank, ..of.over(session, cache, &task, name, brief)? }
                }
                Way::Hierarchical(hierarchy) => {
                    let views = Views::once(&mut views, session)?;
                    let (cache, brief) = views.hierarchical(session, &task, hierarchy)?;
                    let rank = self.rank(&cache)?;
                    Measured { rank, ..of.over(session, cache, &task, name, brief)? }
                }
                Way::Chain(chain) => {
                    let writer = match &mut orchestrator {
                        _ if !chain.by_orchestrator => &mut *session,
                        Some(other) => other,
                        none => none.insert(self.orchestrators(item)?),
                    };
                    let mut read = chain.reread(writer, &item.task, worker.session()?)?;
                    let measured = of.handed(&mut read.session, name, &chain.then)?;
                    Measured {
                        kept: measured.kept * read.session.seq_len() as f64 / row.seq_len.max(1) as f64,
                        brief_ms: measured.brief_ms + read.time.as_secs_f64() * 1e3,
                        prefilled: measured.prefilled + read.tokens,
                        made_tokens: measured.made_tokens + read.tokens,
                        ..measured
                    }
                }
                Way::Direct | Way::SameSize { .. } => continue,
            };
            row.conditions.push(measured);
        }
        Ok(row)
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

    /// The orchestrator with the trajectory of `item` in its cache. It has read it already as it worked, so that this counts for nothing.
    fn orchestrators(&self, item: &LogItem) -> Result<WorkerSession> {
        let Some(model) = self.orchestrator else {
            return Err(crate::Error::config("orchestrator", "none", "want one for by=orchestrator"));
        };
        let mut session = model.session()?;
        session.extend_all(item.trajectory.iter().cloned(), &mut |_, _| {})?;
        Ok(session)
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
    choices: &'a [Choices],
}

impl Compare<'_> {
    /// `reused` positions were there, `prefilled` tokens were read behind them.
    fn measured(
        &self,
        name: &str,
        logits: &Logits,
        kept: f64,
        (reused, prefilled): (usize, usize),
        brief: Duration,
    ) -> Measured {
        let Compared { nll, agreement, kl } = logits.compare(self.full, self.target);
        Measured {
            handoff: name.to_owned(),
            nll,
            agreement,
            kl,
            kept,
            worker_tokens: reused + prefilled + self.target.len(),
            brief_ms: brief.as_secs_f64() * 1e3,
            reused,
            prefilled,
            ..Measured::default()
        }
    }

    /// What is likeliest of each decision behind a task.
    fn decided(&self, cache: &KvCache) -> Result<Vec<Option<usize>>> {
        let weigh = |choices: &Choices| Ok(likeliest(choices.over(self.worker, cache)?.as_ref()));
        self.choices.iter().map(weigh).collect()
    }

    fn handed(&self, session: &mut WorkerSession, name: &str, handoff: &Handoff) -> Result<Measured> {
        let asked = session.ask(self.task).via(handoff);
        self.forced(name, &asked.forced_weighing(self.target, self.choices)?)
    }

    fn forced(&self, name: &str, forced: &Forced) -> Result<Measured> {
        let (logits, tokens) = (Logits::of(&forced.logits)?, forced.tokens);
        let measured =
            self.measured(name, &logits, forced.keep_ratio, (tokens.reused, tokens.prefilled), forced.brief);
        // The text or the task that is read behind what was made is no part of making it.
        let read = tokens.attended.saturating_sub(tokens.reused);
        Ok(Measured {
            worker_tokens: tokens.worker_tokens() + self.target.len(),
            made_tokens: tokens.prefilled.saturating_sub(read) + tokens.drafted,
            prefill_ms: forced.prefill.as_secs_f64() * 1e3,
            renewal_ms: forced.renewals.as_secs_f64() * 1e3,
            decided: forced.chances.iter().map(|chances| likeliest(chances.as_ref())).collect(),
            squeezed: forced.squeezed,
            ..measured
        })
    }

    /// A cache that took `brief` to make; the task is read anew over it.
    fn over(
        &self,
        session: &WorkerSession,
        mut cache: KvCache,
        task: &TaskPass,
        name: &str,
        brief: Duration,
    ) -> Result<Measured> {
        let slots = cache.mean_slots();
        let (model, options) = (self.worker.model(), PrefillOptions::default());
        let start = Instant::now();
        let first = model.prefill(&task.tokens, &mut cache, &options, &mut |_, _| {});
        let first = first.map_err(SessionError::from)?;
        let prefill_ms = start.elapsed().as_secs_f64() * 1e3;
        let decided = self.decided(&cache)?;
        let logits = behind(self.worker, &first, &mut cache, self.target)?;
        let kept = slots as f64 / session.seq_len().max(1) as f64;
        let measured = self.measured(name, &logits, kept, (slots, task.tokens.len()), brief);
        Ok(Measured { prefill_ms, decided, ..measured })
    }
}

fn likeliest(chances: Option<&Chances>) -> Option<usize> {
    chances.and_then(Chances::likeliest)
}
