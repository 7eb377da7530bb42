//! A trajectory that grows.

use std::borrow::Cow;
use std::time::Instant;

use crate::prompt::Prompt;
use crate::session::{WorkerSession, alone};
use crate::{Error, Result, RoomPolicy, RoomReport, Segment};

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

/// Tokens that are to enter, and where among them each segment begins, with its label.
#[derive(Default)]
pub(crate) struct Entering {
    pub(crate) tokens: Vec<u32>,
    pub(crate) segments: Vec<(usize, Cow<'static, str>)>,
}

/// About what a token of English is long.
const BYTES_PER_TOKEN: usize = 4;

fn called_off(error: Error) -> Error {
    match error {
        Error::Model(lb_model::Error::Interrupted) => Error::Cancelled,
        other => other,
    }
}

/// Hears tokens read and tokens to read; false breaks off.
pub(crate) type GoOn<'a> = &'a mut dyn FnMut(usize, usize) -> bool;

impl WorkerSession {
    /// Appends a segment; the result says how many of its tokens entered the cache and how many were left out.
    ///
    /// # Errors
    /// [`Error::Empty`] for a segment without text; [`Error::NoRoom`] where the trajectory would pass the model's
    /// position limit and the [`RoomPolicy`] refuses that. Trajectory and cache are unchanged then.
    pub fn extend(&mut self, segment: Segment) -> Result<Extended> {
        self.extend_while([segment], &mut |_, _| true)
    }

    /// Like [`extend`](Self::extend); `progress` hears tokens read and tokens to read.
    ///
    /// # Errors
    /// Those of [`extend`](Self::extend).
    pub fn extend_with(
        &mut self,
        segment: Segment,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Extended> {
        self.extend_all([segment], progress)
    }

    /// Appends many segments; their tokens are read in as few passes as the chunk size allows.
    ///
    /// # Errors
    /// Those of [`extend`](Self::extend); nothing is appended then.
    pub fn extend_all(
        &mut self,
        segments: impl IntoIterator<Item = Segment>,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Extended> {
        self.extend_while(segments, &mut |done, all| {
            progress(done, all);
            true
        })
    }

    /// Like [`extend_all`](Self::extend_all); where `go_on` returns false, nothing is appended. It is asked after every pass,
    /// and every few milliseconds while long texts become tokens, their number guessed from their bytes.
    ///
    /// # Errors
    /// Those of [`extend`](Self::extend), [`Error::Cancelled`] where `go_on` said so before the last pass.
    pub fn extend_while(
        &mut self,
        segments: impl IntoIterator<Item = Segment>,
        go_on: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<Extended> {
        let segments: Vec<Segment> = segments.into_iter().collect();
        let (entering, mut extended) = self.encode(&segments, go_on).map_err(called_off)?;
        if !entering.tokens.is_empty() {
            extended.room = self.enter(&entering, go_on).map_err(called_off)?;
            self.rooms.extend(&extended.room);
            self.text.append(&entering);
        }
        for segment in segments {
            self.trajectory.push(segment);
        }
        Ok(extended)
    }

    /// The tokens of `segments`, as far as there is room for them.
    fn encode(&self, segments: &[Segment], go_on: GoOn<'_>) -> Result<(Entering, Extended)> {
        let (mut entering, mut extended) = (Entering::default(), Extended::default());
        let (policy, limit) = (&self.config.policy, self.worker.config().position_limit());
        let likely = segments.iter().map(|segment| segment.text.len()).sum::<usize>() / BYTES_PER_TOKEN;
        let mut goes_on = || go_on(0, likely);
        for segment in segments {
            if segment.text.trim().is_empty() {
                return Err(Error::Empty { arg: "segment text" });
            }
            if !policy.admits(segment.source) {
                let left_out = Prompt::count(&self.worker, &segment.text, &mut goes_on)?;
                extended.segments.push(SegmentEntered { entered: 0, left_out });
                continue;
            }
            let taken = self.held.tokens.len() + entering.tokens.len();
            // Where the oldest is compacted there is room for everything.
            let refuses = matches!(self.config.room, RoomPolicy::Refuse);
            let most = if refuses { limit.saturating_sub(taken) } else { usize::MAX };
            let cap = policy.cap(segment.source);
            let line = Prompt::segment(&self.worker, segment, cap, most, &mut goes_on);
            let (tokens, left_out) = line.map_err(|error| match error {
                Error::Model(lb_model::Error::TooManyTokens { .. }) => {
                    Error::NoRoom { positions: taken + most + 1, limit, policy: self.config.room.name() }
                }
                other => other,
            })?;
            extended.segments.push(SegmentEntered { entered: tokens.len(), left_out });
            entering.segments.push((entering.tokens.len(), segment.label()));
            entering.tokens.extend(tokens);
        }
        Ok((entering, extended))
    }

    fn enter(&mut self, entering: &Entering, go_on: GoOn<'_>) -> Result<Vec<RoomReport>> {
        let (start, limit) = (self.held.tokens.len(), self.worker.config().position_limit());
        let positions = start + entering.tokens.len();
        match self.config.room {
            RoomPolicy::Refuse if positions > limit => {
                Err(Error::NoRoom { positions, limit, policy: self.config.room.name() })
            }
            RoomPolicy::CompactOldest(policy) if positions > policy.ceiling(limit) => {
                self.enter_making_room(entering, policy, go_on)
            }
            _ => {
                self.read(&entering.tokens, go_on)?;
                self.held.starts.extend(entering.segments.iter().map(|(at, _)| (start + at) as u32));
                Ok(Vec::new())
            }
        }
    }

    /// Reads `tokens` behind the full cache, in place.
    pub(crate) fn read(&mut self, tokens: &[u32], go_on: GoOn<'_>) -> Result<()> {
        let start = Instant::now();
        // A compacted cache is not what its tokens alone would make.
        let whole = matches!(self.config.room, RoomPolicy::Refuse);
        let shared = self.config.shared.clone().filter(|_| whole);
        if let Some(shared) = &shared {
            let whole = [&self.held.tokens, tokens].concat();
            if let Some(cache) = shared.get(&whole) {
                (self.held.cache, self.held.tokens) = (cache, whole);
                self.ledger.extend(tokens.len(), start.elapsed());
                return Ok(());
            }
        }
        let (model, options) = (self.worker.model(), &self.config.prefill);
        model.read_batch_while(&[tokens], &mut [&mut self.held.cache], options, go_on).map_err(alone)?;
        self.held.tokens.extend(tokens);
        if let Some(shared) = &shared {
            self.held.cache = shared.keep(&self.held.tokens, &self.held.cache);
        }
        self.ledger.extend(tokens.len(), start.elapsed());
        Ok(())
    }
}

impl crate::session::Text {
    fn append(&mut self, entering: &Entering) {
        let start = self.tokens.len();
        let moved = |(at, label): &(usize, Cow<'static, str>)| ((start + at) as u32, label.clone());
        self.segments.extend(entering.segments.iter().map(moved));
        self.tokens.extend(&entering.tokens);
    }
}
