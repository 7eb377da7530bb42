//! One log: every question under every condition.

use std::collections::HashSet;

use lb_model::{GenerateOptions, Worker};
use lb_session::{CallTokens, Handoff, Segment, TaskState};

use super::logs::{Log, session};
use super::{EpisodePlan, Logs};
use crate::Result;
use crate::bench::BenchRow;
use crate::bench::plan::part;
use crate::episodes::Difficulty;
use crate::study::{Asked, Probe};
use crate::way::{Selected, Way};

/// What all threads share.
pub(super) struct Asking<'a> {
    pub(super) worker: &'a Worker,
    pub(super) plan: &'a EpisodePlan,
    pub(super) ways: &'a [(String, Way)],
    pub(super) done: &'a HashSet<(String, String)>,
    pub(super) push: &'a (dyn Fn(BenchRow) -> Result<()> + Sync),
}

impl Asking<'_> {
    pub(super) fn log(&self, log: &Log) -> Result<()> {
        let missing = |item: &str| -> Vec<&(String, Way)> {
            let known = |name: &String| self.done.contains(&(item.to_owned(), name.clone()));
            self.ways.iter().filter(|(name, _)| !known(name)).collect()
        };
        let items: Vec<String> =
            (0..log.episode.questions.len()).map(|number| format!("{}-{number}", log.id)).collect();
        if items.iter().all(|item| missing(item).is_empty()) {
            return Ok(());
        }
        let mut session = session(self.worker, self.plan)?;
        session.extend_all(log.episode.lines.iter().map(Segment::from), &mut |_, _| {})?;
        let mut probe = Probe::new(self.worker, &log.episode, session)?;
        for (number, item) in items.into_iter().enumerate() {
            let missing = missing(&item);
            let blank = self.blank(log, number, item, probe.session().seq_len());
            let selects = missing.iter().any(|(_, way)| matches!(way, Way::Selection(..)));
            let asked = if selects { Some(probe.ask(number)?) } else { None };
            for (name, way) in missing {
                let mut row = BenchRow { condition: name.clone(), ..blank.clone() };
                match (way, &asked) {
                    (Way::Handoff(handoff), _) => by_handoff(&mut probe, handoff, number, &mut row)?,
                    (Way::Selection(selected), Some(asked)) => {
                        self.by_selection(&mut probe, asked, *selected, &mut row)?;
                    }
                    (Way::Selection(..), None) => {}
                }
                row.score = f64::from(row.answer == row.expected);
                (self.push)(row)?;
            }
        }
        Ok(())
    }

    fn blank(&self, log: &Log, number: usize, item: String, seq_len: usize) -> BenchRow {
        let question = &log.episode.questions[number];
        let (kind, length, difficulty) = match &log.logs {
            Logs::HeldOut { tokens: (low, high), .. } => {
                let third = (3 * (seq_len.saturating_sub(*low)) / (high - low + 1)).min(2);
                let length = ["short", "medium", "long"][third];
                let difficulty = match question.difficulty {
                    Difficulty::Easy => "easy",
                    Difficulty::Hard => "hard",
                };
                (question.kind.name(), length.to_owned(), Some(difficulty.to_owned()))
            }
            Logs::Native { task, tokens } => (task.name(), tokens.to_string(), None),
        };
        BenchRow {
            item,
            dataset: log.dataset.clone(),
            cluster: log.cluster,
            part: part(self.plan.seed, self.plan.validation_share, log.cluster),
            kind: kind.to_owned(),
            difficulty,
            length: Some(length),
            context_tokens: seq_len,
            seq_len,
            expected: question.answer.clone(),
            calls: 1,
            trajectory: seq_len,
            ..BenchRow::default()
        }
    }

    /// Answers over what a published selection keeps. Its time counts the pass of the task where it looks at the task's
    /// queries.
    fn by_selection(
        &self,
        probe: &mut Probe<'_>,
        asked: &Asked,
        selected: Selected,
        row: &mut BenchRow,
    ) -> Result<()> {
        let kept = selected.size.resolve(row.seq_len)?;
        let (mut cache, time) = probe.selected(asked, selected.baseline, kept)?;
        let (reused, task) = (cache.mean_slots(), asked.task_tokens());
        let options = GenerateOptions::greedy(self.plan.answer_tokens);
        let made = match selected.state {
            TaskState::Recompute => self.worker.generate(&mut cache, task, &options, &mut |_, _| true),
            TaskState::Reuse => {
                let (layers, logits) = asked.state();
                cache.append_layers(layers, task.len()).map_err(lb_session::Error::from)?;
                self.worker.generate_from_logits(&mut cache, logits, &options, &mut |_, _| true)
            }
        };
        let made = made.map_err(lb_session::Error::from)?;
        let passes = 1 + usize::from(selected.state == TaskState::Recompute);
        row.worker = CallTokens {
            attended: reused + task.len(),
            prefilled: passes * task.len(),
            reused,
            generated: made.tokens.len(),
            ..CallTokens::default()
        };
        made.text.trim().clone_into(&mut row.answer);
        row.keep_ratio = Some(reused as f64 / row.seq_len.max(1) as f64);
        row.brief_s = time.as_secs_f64();
        (row.prefill_s, row.decode_s) = (made.prefill.as_secs_f64(), made.decode.as_secs_f64());
        row.elapsed_s = row.brief_s + row.prefill_s + row.decode_s;
        Ok(())
    }
}

fn by_handoff(probe: &mut Probe<'_>, handoff: &Handoff, number: usize, row: &mut BenchRow) -> Result<()> {
    let task = probe.question(number).text.clone();
    let outcome = probe.session_mut().answer_via(handoff, task)?;
    let times = outcome.record.times;
    row.worker = outcome.record.tokens;
    row.keep_ratio = Some(outcome.keep_ratio);
    row.brief_s = times.brief.as_secs_f64();
    (row.prefill_s, row.decode_s) = (times.prefill.as_secs_f64(), times.decode.as_secs_f64());
    row.elapsed_s = times.total().as_secs_f64();
    row.answer = outcome.answer.text;
    Ok(())
}
