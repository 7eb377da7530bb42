//! What is about to enter the full cache.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::room::RoomReport;
use crate::context::FullCache;

/// Hears tokens read and tokens to read; false breaks off.
pub(super) type GoOn<'a> = &'a mut dyn FnMut(usize, usize) -> bool;

/// Tokens that are to enter, and where among them each segment begins, with its label.
#[derive(Default)]
pub(super) struct Entering {
    pub(super) tokens: Vec<u32>,
    pub(super) segments: Vec<(usize, Cow<'static, str>)>,
}

/// What it cost to let them in.
#[derive(Default)]
pub(super) struct Entered {
    pub(super) room: Vec<RoomReport>,
    /// Time to read them.
    pub(super) reading: Duration,
}

impl FullCache {
    /// Tokens that the cache has read.
    pub(super) fn append(&mut self, tokens: &[u32]) {
        Arc::make_mut(&mut self.tokens).extend(tokens);
    }
}
