//! One trajectory: lessons made up, briefings trained, targets read behind them.

use std::time::Instant;

use candle_core::Tensor;
use lb_model::{Differentiable, KvCache, PrefillOptions, Worker};
use lb_session::{BriefConfig, CancelToken, Error as SessionError, OpenSession, Snapshot};
use lb_train::{Aim, Lesson, TrainedBriefing, loss};

use super::plan::{PROMPTS, TrainedPlan};
use super::row::{Stage, TrainedRow};
use crate::Result;
use crate::logs::LogItem;

/// Trains and measures with one worker.
pub(super) struct Measure<'a> {
    pub(super) worker: &'a Worker,
    pub(super) path: &'a Differentiable<'a>,
    pub(super) plan: &'a TrainedPlan,
    pub(super) configs: &'a [BriefConfig],
    pub(super) cancel: &'a CancelToken,
}

/// A task and its target, as tokens.
struct Asked {
    task: Vec<u32>,
    target: Vec<u32>,
}

impl Measure<'_> {
    /// The row of items about one trajectory, the first of which briefings are cut for; `None` where it was called off.
    pub(super) fn row(&self, items: &[&LogItem], blank: TrainedRow) -> Result<Option<TrainedRow>> {
        let Some(first) = items.first() else { return Ok(None) };
        let mut session = self.worker.session()?;
        session.extend_all(first.trajectory.clone(), &mut |_, _| {})?;
        let snapshot = session.snapshot();
        let asked = items.iter().map(|item| self.asked(&snapshot, item)).collect::<Result<Vec<_>>>()?;
        // Without the trajectory there is the template's head alone.
        let mut nothing = snapshot.cache().fork();
        nothing.truncate(snapshot.head_len()).map_err(SessionError::from)?;
        let (full, none) = (self.nlls(&asked, snapshot.cache())?, self.nlls(&asked, &nothing)?);
        let begin = Instant::now();
        let lessons = (0..self.plan.lessons)
            .map(|number| {
                let prompt = PROMPTS[number % PROMPTS.len()];
                let seed = self.plan.seed.wrapping_add(number as u64);
                Ok(Lesson::made_up(&snapshot, prompt, self.plan.lesson_tokens, seed)?)
            })
            .collect::<Result<Vec<_>>>()?;
        let lessons_ms = begin.elapsed().as_secs_f64() * 1e3;
        let mut row = TrainedRow {
            seq_len: snapshot.seq_len(),
            others: asked.len() - 1,
            own: [full[0], none[0]],
            other: [mean(&full[1..]), mean(&none[1..])],
            ..blank
        };
        for config in self.configs {
            let stage = Stage { lessons_ms, ..Stage::default() };
            match self.stages(&snapshot, first, config, &asked, &lessons, stage)? {
                Some(stages) => row.briefings.push(stages),
                None => return Ok(None),
            }
        }
        Ok(Some(row))
    }

    fn stages(
        &self,
        snapshot: &Snapshot,
        item: &LogItem,
        config: &BriefConfig,
        asked: &[Asked],
        lessons: &[Lesson],
        blank: Stage,
    ) -> Result<Option<Vec<Stage>>> {
        let start = snapshot.brief(item.task.as_str(), config.clone())?;
        let mut training = TrainedBriefing::new(self.path, &start, self.plan.learning())?;
        let (mut stages, mut train_ms) = (Vec::new(), 0.0);
        for &steps in &self.plan.steps {
            let begin = Instant::now();
            while training.steps() < steps {
                if self.cancel.is_cancelled() {
                    return Ok(None);
                }
                training.step(lessons)?;
            }
            train_ms += begin.elapsed().as_secs_f64() * 1e3;
            let briefing = training.briefing()?;
            let nlls = self.nlls(asked, briefing.cache())?;
            stages.push(Stage {
                steps,
                own: nlls[0],
                other: mean(&nlls[1..]),
                lessons: training.loss(lessons)?,
                kept: briefing.keep_ratio(),
                train_ms,
                brief_ms: start.timing().total().as_secs_f64() * 1e3,
                ..blank
            });
        }
        Ok(Some(stages))
    }

    fn asked(&self, snapshot: &Snapshot, item: &LogItem) -> Result<Asked> {
        let tokenizer = self.worker.tokenizer();
        let mut target = tokenizer.encode_text(&item.target).map_err(SessionError::from)?;
        if target.is_empty() {
            return Err(SessionError::Empty { arg: "target" }.into());
        }
        // The end of an answer is a part of it.
        let end = tokenizer.special_tokens().get("eos_token").and_then(|token| tokenizer.token_id(token));
        target.extend(end.or(tokenizer.eos_ids().first().copied()));
        target.truncate(self.plan.target_tokens);
        Ok(Asked { task: snapshot.task_tokens(item.task.as_str())?, target })
    }

    /// Nats a token of each target behind `cache`, the task read anew.
    fn nlls(&self, asked: &[Asked], cache: &KvCache) -> Result<Vec<f64>> {
        let model = self.worker.model();
        let nll = |Asked { task, target }: &Asked| -> Result<f64> {
            let mut cache = cache.fork();
            let options = PrefillOptions::default();
            let first = model.prefill(task, &mut cache, &options, &mut |_, _| {});
            let mut logits = vec![first.map_err(SessionError::from)?.unsqueeze(0)?];
            let before = &target[..target.len() - 1];
            if !before.is_empty() {
                logits.push(model.forward_all(before, &mut cache).map_err(SessionError::from)?);
            }
            Ok(f64::from(loss(&Tensor::cat(&logits, 0)?, Aim::Tokens(target))?.to_scalar::<f32>()?))
        };
        asked.iter().map(nll).collect()
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}
