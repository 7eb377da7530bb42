//! Reading on where there is no room.

use std::time::{Duration, Instant};

use super::{CompactOldest, RoomReport};
use crate::extend::{Entering, GoOn};
use crate::session::{WorkerSession, alone};
use crate::{Error, Result};

impl WorkerSession {
    /// Reads what does not fit, compacting the oldest part as often as it takes. On an error the session is as before.
    pub(crate) fn enter_making_room(
        &mut self,
        entering: &Entering,
        policy: CompactOldest,
        go_on: GoOn<'_>,
    ) -> Result<Vec<RoomReport>> {
        let (limit, head) = (self.worker.config().position_limit(), self.prompt.head.len());
        let (ceiling, piece) = (policy.ceiling(limit), policy.piece(limit, head));
        let (mut held, mut reports, mut reading) = (self.held.fork(), Vec::new(), Duration::ZERO);
        let (total, mut done, mut segments) = (entering.tokens.len(), 0, entering.segments.iter().peekable());
        while done < total {
            let room = ceiling.saturating_sub(held.tokens.len());
            let rest = total - done;
            let next = if room >= rest.min(piece) { rest.min(room) } else { rest.min(piece) };
            if room < next {
                let report =
                    self.compact_oldest(&mut held, policy, next - room, &mut |_, _| go_on(done, total))?;
                reports.push(report);
            }
            let start = Instant::now();
            while let Some((at, _)) = segments.next_if(|(at, _)| *at < done + next) {
                held.starts.push((held.tokens.len() + at - done) as u32);
            }
            let tokens = &entering.tokens[done..done + next];
            let mut heard = |read: usize, _: usize| go_on(done + read, total);
            let (model, options) = (self.worker.model(), &self.config.prefill);
            model.read_batch_while(&[tokens], &mut [&mut held.cache], options, &mut heard).map_err(alone)?;
            held.tokens.extend(tokens);
            done += next;
            reading += start.elapsed();
            if done < total && !go_on(done, total) {
                return Err(Error::Cancelled);
            }
        }
        self.held = held;
        self.ledger.extend(total, reading);
        for report in &reports {
            self.ledger.make_room(report.read, report.elapsed);
        }
        Ok(reports)
    }
}
