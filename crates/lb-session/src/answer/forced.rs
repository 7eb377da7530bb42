//! An answer that is given: what the worker thinks of it, token by token.

use std::time::{Duration, Instant};

use candle_core::Tensor;

use super::ask::Ask;
use super::call::{Call, Origin};
use crate::context::Reader;
use crate::generate::Input;
use crate::ledger::CallTokens;
use crate::{Chances, Choices, Error, Result, Squeezed};

/// A given answer, read behind what a handoff gives; see [`Ask::forced`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Forced {
    /// Logits in front of each token of the answer, `[tokens, vocab]`, f32.
    pub logits: Tensor,
    /// Positions that the handoff had to choose from, template head counted in.
    pub seq_len: usize,
    /// Positions in their place that the worker can attend to, as [`Outcome::kept_len`](crate::Outcome::kept_len).
    pub kept_len: usize,
    /// The same over all positions of the trajectory.
    pub keep_ratio: f64,
    /// Time to make the selection, the summary or the briefing; renewals are not counted in.
    pub brief: Duration,
    /// Time to read the task, and what text stands in the trajectory's place.
    pub prefill: Duration,
    /// Time that renewals took.
    pub renewals: Duration,
    /// Chances of the choices that were to be weighed behind the task ([`Ask::forced_weighing`]), in their order; `None` where the
    /// tokenizer does not tell them apart.
    pub chances: Vec<Option<Chances>>,
    /// What it costs, but for the answer.
    pub tokens: CallTokens,
    /// Which message it was, where it was one of several.
    pub squeezed: Option<Squeezed>,
}

impl Ask<'_> {
    /// Reads `answer` instead of writing one (teacher forcing): every token is read as it stands, and the logits in front of it
    /// say how likely it was. A renewed briefing is renewed on the way, as if the worker had written the answer. Nothing is
    /// recorded.
    ///
    /// # Errors
    /// Those of [`run`](Self::run), [`Error::Empty`] for an empty answer.
    pub fn forced(self, answer: &[u32]) -> Result<Forced> {
        self.forced_weighing(answer, &[])
    }

    /// [`forced`](Self::forced), and the chances of choices behind the task in the answer's place, each for itself.
    ///
    /// # Errors
    /// Those of [`forced`](Self::forced).
    pub fn forced_weighing(self, answer: &[u32], choices: &[Choices]) -> Result<Forced> {
        if answer.is_empty() {
            return Err(Error::Empty { arg: "answer" });
        }
        let Ask { asked, plan } = self.alone();
        let guard = plan.guard();
        let answerer = plan.answerer(&guard, &asked);
        let read = answerer.check().and_then(|()| answerer.calls(&[0]));
        let read = read.and_then(|mut calls| forced(answerer.reader, calls.remove(0), answer, choices));
        read.map_err(|error| guard.explain(error).of_only_call())
    }
}

fn forced(reader: Reader<'_>, call: Call<'_>, answer: &[u32], choices: &[Choices]) -> Result<Forced> {
    let Call { mut cache, input, cost: tokens, origin, mut renewing, .. } = call;
    let (model, start) = (reader.context.model(), Instant::now());
    let first = match input {
        Input::InCache(logits) => logits,
        Input::Tokens(tokens) => reader.prefill(&tokens, &mut cache)?,
    };
    let prefill = start.elapsed();
    let chances = choices.iter().map(|choices| choices.over(reader.context.worker(), &cache));
    let chances = chances.collect::<Result<Vec<_>>>()?;
    let mut rows = vec![first.unsqueeze(0).map_err(lb_model::Error::from)?];
    // The last token is judged and not read.
    let mut rest = &answer[..answer.len() - 1];
    let mut renewals = Duration::ZERO;
    while !rest.is_empty() {
        reader.guard.check()?;
        let Some(renewing) = &mut renewing else {
            rows.push(model.forward_all(rest, &mut cache)?);
            break;
        };
        let (now, later) = rest.split_at(renewing.room().min(rest.len()));
        let read = model.forward_all_capturing(now, &mut cache)?;
        rows.push(read.logits);
        rest = later;
        if !rest.is_empty() {
            let start = Instant::now();
            renewing.heard(read.queries, &mut cache)?;
            renewals += start.elapsed();
        }
    }
    let logits = Tensor::cat(&rows, 0).map_err(lb_model::Error::from)?;
    let Origin { seq_len, kept_len, keep_ratio, brief, squeezed, .. } = origin;
    Ok(Forced { logits, seq_len, kept_len, keep_ratio, brief, prefill, renewals, chances, tokens, squeezed })
}
