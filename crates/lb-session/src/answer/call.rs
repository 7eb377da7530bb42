//! From a task to all that is to be done for it.

use std::time::Duration;

use lb_model::KvCache;

use crate::briefing::{Briefer, Renewing};
use crate::context::Reader;
use crate::generate::Input;
use crate::handoff::{Memo, StandIn, hand_over};
use crate::ledger::CallTokens;
use crate::{Briefing, Error, Handoff, HandoffKind, Result, Squeezed, Task};

/// How the trajectory reaches the worker.
pub(super) enum Through<'a> {
    Handoff(Handoff),
    /// One for each task.
    Briefings(Vec<&'a Briefing>),
}

/// A call that only has to be generated.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) cache: KvCache,
    pub(super) input: Input,
    /// What it costs, but for the answer.
    pub(super) cost: CallTokens,
    pub(super) origin: Origin,
    /// Where the handoff made one.
    pub(super) briefing: Option<Briefing>,
    /// What the answer may begin with.
    pub(super) guess: Vec<u32>,
    /// What renews it while the answer is written.
    pub(super) renewing: Option<Renewing<'a>>,
}

/// What a call's cache and text were made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    pub(super) handoff: HandoffKind,
    pub(super) seq_len: usize,
    pub(super) kept_len: usize,
    pub(super) keep_ratio: f64,
    /// Time that it took.
    pub(super) brief: Duration,
    /// Which message it was, where it was one of several.
    pub(super) squeezed: Option<Squeezed>,
}

/// The calls for `tasks` through one handoff; what they have in common is made once.
pub(super) fn through<'a>(
    reader: Reader<'a>,
    memo: &Memo,
    handoff: &'a Handoff,
    tasks: &[&Task],
) -> Result<Vec<Call<'a>>> {
    if let Handoff::RenewedBriefing(renewal) = handoff {
        let call = |(index, task): (usize, &&Task)| -> Result<Call<'a>> {
            let begun = Renewing::begin(reader, task, renewal).map_err(|error| error.in_call(index));
            let (briefing, renewing) = begun?;
            let call = Call::over(reader, &briefing, task).map_err(|error| error.in_call(index))?;
            let origin = Origin { handoff: handoff.kind(), ..call.origin };
            Ok(Call { origin, briefing: Some(briefing), renewing: Some(renewing), ..call })
        };
        return tasks.iter().enumerate().map(call).collect();
    }
    if let Handoff::LatentBriefing(config) = handoff {
        let briefer = Briefer::new(reader);
        let briefings = match tasks {
            [only] => vec![briefer.brief(only, config)?],
            _ => briefer.brief_batch(tasks, config)?,
        };
        let call = |(index, (briefing, task)): (usize, (Briefing, &&Task))| {
            let call = Call::over(reader, &briefing, task).map_err(|error| error.in_call(index))?;
            Ok(Call { briefing: Some(briefing), ..call })
        };
        return briefings.into_iter().zip(tasks).enumerate().map(call).collect();
    }
    let tokens = reader.tokens_of(tasks)?;
    let handed = hand_over(reader, memo, handoff, tasks)?;
    let call = |(handed, task): (StandIn, &Vec<u32>)| Call::with(handed, handoff.kind(), task);
    Ok(handed.into_iter().zip(&tokens).map(call).collect())
}

impl Call<'_> {
    /// A call with something in the trajectory's place.
    fn with(handed: StandIn, handoff: HandoffKind, task: &[u32]) -> Self {
        let StandIn { cache, text, seq_len, kept_len, brief, cost, squeezed } = handed;
        let cost = CallTokens { reused: cache.mean_slots(), ..cost };
        let keep_ratio = kept_len as f64 / seq_len.max(1) as f64;
        let origin = Origin { handoff, seq_len, kept_len, keep_ratio, brief, squeezed };
        Self::reading(cache, [&text, task].concat(), cost, origin)
    }

    /// A call over a briefing.
    pub(super) fn over(reader: Reader<'_>, briefing: &Briefing, task: &Task) -> Result<Self> {
        let mut cache = briefing.cache.fork();
        let kept = cache.mean_slots();
        let origin = Origin {
            handoff: HandoffKind::LatentBriefing,
            seq_len: briefing.seq_len(),
            kept_len: briefing.kept_len,
            keep_ratio: briefing.keep_ratio(),
            brief: briefing.timing.total(),
            squeezed: None,
        };
        // The passes that yielded the queries belong to this call.
        let cost = CallTokens { prefilled: briefing.prefilled, reused: kept, ..CallTokens::default() };
        let Some(reused) = &briefing.reused else {
            let guess = if *task == briefing.task { briefing.draft.clone() } else { Vec::new() };
            return Ok(Self { guess, ..Self::reading(cache, reader.task_tokens(task)?, cost, origin) });
        };
        if *task != briefing.task {
            let (made_for, asked) = (briefing.task.question.clone(), task.question.clone());
            return Err(Error::TaskMismatch { made_for, asked });
        }
        cache.append_layers(&reused.layers, reused.len())?;
        let cost = CallTokens { attended: cache.mean_slots(), ..cost };
        let input = Input::InCache(reused.logits.clone());
        let guess = briefing.draft.clone();
        Ok(Self { cache, input, cost, origin, briefing: None, guess, renewing: None })
    }

    /// A call that reads `tokens` behind `cache`, on top of what `cost` says of the cache itself.
    fn reading(cache: KvCache, tokens: Vec<u32>, cost: CallTokens, origin: Origin) -> Self {
        let attended = cache.mean_slots() + tokens.len();
        let cost = CallTokens { attended, prefilled: cost.prefilled + tokens.len(), ..cost };
        let input = Input::Tokens(tokens);
        Self { cache, input, cost, origin, briefing: None, guess: Vec::new(), renewing: None }
    }
}
