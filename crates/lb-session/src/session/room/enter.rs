//! Reading on where there is no room.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::CompactOldest;
use super::compact::compact_oldest;
use crate::context::{Context, FullCache};
use crate::session::entering::{Entered, Entering, GoOn};
use crate::{Error, Result};

/// The full cache with what does not fit read behind it, the oldest part compacted as often as it takes.
pub(in crate::session) fn enter(
    context: &Context,
    entering: &Entering,
    policy: CompactOldest,
    go_on: GoOn<'_>,
) -> Result<(FullCache, Entered)> {
    let (limit, head) = (context.worker().config().position_limit(), context.head().len());
    let (ceiling, piece) = (policy.ceiling(limit), policy.piece(limit, head));
    let (mut full, mut room, mut reading) = (context.full.fork(), Vec::new(), Duration::ZERO);
    let (total, mut done, mut segments) = (entering.tokens.len(), 0, entering.segments.iter().peekable());
    while done < total {
        let free = ceiling.saturating_sub(full.tokens.len());
        let rest = total - done;
        let next = if free >= rest.min(piece) { rest.min(free) } else { rest.min(piece) };
        if free < next {
            let mut go_on = |_, _| go_on(done, total);
            room.push(compact_oldest(context, &mut full, policy, next - free, &mut go_on)?);
        }
        let start = Instant::now();
        while let Some((at, _)) = segments.next_if(|(at, _)| *at < done + next) {
            let start = (full.tokens.len() + at - done) as u32;
            Arc::make_mut(&mut full.starts).push(start);
        }
        let tokens = &entering.tokens[done..done + next];
        let mut heard = |read: usize, _: usize| go_on(done + read, total);
        let (model, options) = (context.model(), &context.settings.prefill);
        let read = model.read_batch_while(&[tokens], &mut [&mut full.cache], options, &mut heard);
        read.map_err(Error::of_only_sequence)?;
        full.append(tokens);
        done += next;
        reading += start.elapsed();
        if done < total && !go_on(done, total) {
            return Err(Error::Cancelled);
        }
    }
    Ok((full, Entered { room, reading }))
}
