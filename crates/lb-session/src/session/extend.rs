//! Segments that become tokens and enter the full cache.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::config::SessionConfig;
use super::entering::{Entered, Entering, GoOn};
use super::room::{self, RoomPolicy, RoomReport};
use crate::context::{Context, Text};
use crate::{Error, Result, Segment, prompt};

/// How much of a segment entered the worker's cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentEntered {
    /// Tokens that entered, tag and line end counted in; 0 where the policy keeps the segment out.
    pub entered: usize,
    /// Tokens of its text that the policy left out: behind a limit, or all of them.
    pub left_out: usize,
}

/// What appending segments did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extended {
    /// One entry for each segment.
    pub segments: Vec<SegmentEntered>,
    /// Compactions of the oldest part that it took, see [`RoomPolicy`].
    pub room: Vec<RoomReport>,
}

impl Extended {
    /// Tokens that entered the cache.
    pub fn entered(&self) -> usize {
        self.segments.iter().map(|segment| segment.entered).sum()
    }

    /// Tokens of the segments' text that the policy left out.
    pub fn left_out(&self) -> usize {
        self.segments.iter().map(|segment| segment.left_out).sum()
    }
}

/// About what a token of English is long.
const BYTES_PER_TOKEN: usize = 4;

/// The tokens of `segments`, as far as there is room for them.
pub(super) fn encode(
    context: &Context,
    config: &SessionConfig,
    segments: &[Segment],
    go_on: GoOn<'_>,
) -> Result<(Entering, Vec<SegmentEntered>)> {
    let (mut entering, mut entered) = (Entering::default(), Vec::with_capacity(segments.len()));
    let (policy, worker) = (&config.policy, context.worker());
    let limit = worker.config().position_limit();
    let likely = segments.iter().map(|segment| segment.text.len()).sum::<usize>() / BYTES_PER_TOKEN;
    let mut goes_on = || go_on(0, likely);
    for segment in segments {
        if segment.text.trim().is_empty() {
            return Err(Error::Empty { arg: "segment text" });
        }
        if !policy.admits(segment.source) {
            let left_out = prompt::count(worker, &segment.text, &mut goes_on)?;
            entered.push(SegmentEntered { entered: 0, left_out });
            continue;
        }
        let taken = context.seq_len() + entering.tokens.len();
        // Where the oldest is compacted there is room for everything.
        let refuses = matches!(config.room, RoomPolicy::Refuse);
        let most = if refuses { limit.saturating_sub(taken) } else { usize::MAX };
        let cap = policy.cap(segment.source);
        let line = prompt::line(worker, segment, cap, most, &mut goes_on);
        let (tokens, left_out) = line.map_err(|error| match error {
            Error::Model(lb_model::Error::TooManyTokens { .. }) => {
                Error::NoRoom { positions: taken + most + 1, limit, policy: config.room.name() }
            }
            other => other,
        })?;
        entered.push(SegmentEntered { entered: tokens.len(), left_out });
        entering.segments.push((entering.tokens.len(), segment.label()));
        entering.tokens.extend(tokens);
    }
    Ok((entering, entered))
}

/// Reads what is to enter behind the full cache, and makes room where the policy says so. On an error the context is as
/// before.
pub(super) fn enter(
    context: &mut Context,
    config: &SessionConfig,
    entering: &Entering,
    go_on: GoOn<'_>,
) -> Result<Entered> {
    let (start, limit) = (context.seq_len(), context.worker().config().position_limit());
    let positions = start + entering.tokens.len();
    let entered = match config.room {
        RoomPolicy::Refuse if positions > limit => {
            return Err(Error::NoRoom { positions, limit, policy: config.room.name() });
        }
        RoomPolicy::CompactOldest(policy) if positions > policy.ceiling(limit) => {
            let (full, entered) = room::enter(context, entering, policy, go_on)?;
            context.full = full;
            entered
        }
        _ => {
            let reading = read(context, config, &entering.tokens, go_on)?;
            let starts = entering.segments.iter().map(|(at, _)| (start + at) as u32);
            Arc::make_mut(&mut context.full.starts).extend(starts);
            Entered { room: Vec::new(), reading }
        }
    };
    Arc::make_mut(&mut context.text).append(entering);
    Ok(entered)
}

/// Reads `tokens` behind the full cache, in place, or takes over what another session has read; how long it took.
pub(super) fn read(
    context: &mut Context,
    config: &SessionConfig,
    tokens: &[u32],
    go_on: GoOn<'_>,
) -> Result<Duration> {
    let start = Instant::now();
    // A compacted cache is not what its tokens alone would make.
    let whole = matches!(config.room, RoomPolicy::Refuse);
    let shared = config.shared.as_ref().filter(|_| whole);
    if let Some(shared) = shared {
        let whole = [&context.full.tokens, tokens].concat();
        if let Some(cache) = shared.get(&whole) {
            context.full.replace(cache, Arc::new(whole));
            return Ok(start.elapsed());
        }
    }
    let Context { settings, full, .. } = context;
    let model = settings.worker.model();
    let read = model.read_batch_while(&[tokens], &mut [&mut full.cache], &settings.prefill, go_on);
    read.map_err(Error::of_only_sequence)?;
    full.append(tokens);
    if let Some(shared) = shared {
        let kept = shared.keep(&full.tokens, &full.cache);
        full.replace(kept, full.tokens.clone());
    }
    Ok(start.elapsed())
}

impl Text {
    fn append(&mut self, entering: &Entering) {
        let start = self.tokens.len();
        let moved = |(at, label): &(usize, Cow<'static, str>)| ((start + at) as u32, label.clone());
        self.segments.extend(entering.segments.iter().map(moved));
        self.tokens.extend(&entering.tokens);
    }
}
