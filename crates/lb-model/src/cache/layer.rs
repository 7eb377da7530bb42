//! One layer of the cache: frozen chunks, then a writable tail.

use candle_core::Tensor;
use lb_kernels::PackedBits;

use super::chunk::{Chunk, not_that_long};
use super::tail::{SlotKind, Tail};
use crate::Result;

/// Slots of a new tail when nothing was reserved.
const FIRST_CAPACITY: usize = 64;

/// What one attention reads of a layer.
#[derive(Debug)]
pub(crate) struct Views {
    /// Runs of slots; with more than one new token these are the last one.
    pub(crate) chunks: Vec<Chunk>,
    /// By new token, how many of the first slots its window does not reach; `None` where every token sees all.
    pub(crate) hidden: Option<Vec<usize>>,
}

/// Keys, values and biases of one layer.
#[derive(Debug)]
pub(crate) struct LayerCache {
    pub(super) frozen: Vec<Chunk>,
    pub(super) tail: Option<Tail>,
    kind: SlotKind,
}

impl LayerCache {
    pub(crate) fn new(kind: SlotKind) -> Self {
        Self { frozen: Vec::new(), tail: None, kind }
    }

    /// What its slots are made of.
    pub(super) fn kind_of(&self) -> SlotKind {
        self.kind.clone()
    }

    pub(crate) fn slots(&self) -> usize {
        self.frozen.iter().map(Chunk::slots).sum::<usize>() + self.tail_len()
    }

    /// Frozen chunks and the tail.
    pub(crate) fn runs(&self) -> usize {
        self.frozen.len() + usize::from(self.tail_len() > 0)
    }

    /// Rows of all heads together.
    pub(crate) fn rows(&self) -> usize {
        self.frozen.iter().map(Chunk::rows).sum::<usize>() + self.kind.heads * self.tail_len()
    }

    /// Bytes of all slots that are filled.
    pub(crate) fn bytes(&self) -> usize {
        let tail = 2 * self.kind.heads * self.kind.dim * self.kind.dtype.size_in_bytes() * self.tail_len();
        self.frozen.iter().map(Chunk::bytes).sum::<usize>() + tail
    }

    fn tail_len(&self) -> usize {
        self.tail.as_ref().map_or(0, Tail::len)
    }

    /// Appends one forward pass's keys and values, `[1, kv_heads, tokens, head_dim]`.
    pub(crate) fn append(&mut self, keys: &Tensor, values: &Tensor) -> Result<()> {
        self.tail_for(keys.dim(2)?)?.write(keys, values)
    }

    /// Makes room for `tokens` slots, and where there is too little, for `more` behind them.
    pub(crate) fn reserve(&mut self, tokens: usize, more: usize) -> Result<()> {
        if !self.tail.as_ref().is_some_and(|tail| tail.has_room(tokens)) {
            self.tail_for(tokens + more)?;
        }
        Ok(())
    }

    /// The tail, with room for `more` slots.
    pub(crate) fn tail_for(&mut self, more: usize) -> Result<&mut Tail> {
        let tail = match self.tail.take() {
            Some(mut tail) => match tail.reserve(&self.kind, more) {
                Ok(()) => tail,
                Err(error) => {
                    self.tail = Some(tail);
                    return Err(error);
                }
            },
            None => Tail::new(&self.kind, more.max(FIRST_CAPACITY))?,
        };
        Ok(self.tail.insert(tail))
    }

    /// Appends slots with a bias, or slots that stand for more positions than they are.
    pub(crate) fn push(&mut self, chunk: Chunk) {
        self.frozen.extend(self.tail_chunk());
        self.tail = None;
        self.frozen.push(chunk);
    }

    /// The same slots in few bits; what is appended to it is not.
    pub(super) fn packed(&self, bits: PackedBits) -> Result<Self> {
        let Self { frozen, kind, .. } = self.fork();
        let frozen = frozen.iter().map(|chunk| chunk.packed(bits, kind.dtype)).collect::<Result<_>>()?;
        Ok(Self { frozen, tail: None, kind })
    }

    /// Has nothing but these slots from now on.
    pub(super) fn replace(&mut self, chunk: Chunk) {
        (self.frozen, self.tail) = (vec![chunk], None);
    }

    fn tail_chunk(&self) -> Option<Chunk> {
        self.tail.as_ref().filter(|t| t.len() > 0).map(|t| t.frozen(t.len()))
    }

    /// The same slots, shared; neither side's later writes reach the other.
    pub(crate) fn fork(&self) -> Self {
        let mut frozen = self.frozen.clone();
        frozen.extend(self.tail_chunk());
        Self { frozen, tail: None, kind: self.kind.clone() }
    }

    /// Views for one attention of the last `new_tokens`, each of which sees the last `window` positions, its own included,
    /// or all. Slots that none of them sees are left out.
    pub(crate) fn views(&self, new_tokens: usize, window: Option<usize>) -> Result<Views> {
        let mut parts = self.parts(new_tokens)?;
        let Some(window) = window else {
            parts.retain(|chunk| chunk.slots() > 0);
            return Ok(Views { chunks: parts, hidden: None });
        };
        let old = parts.iter().map(|chunk| chunk.positions).sum::<usize>() - new_tokens;
        // Where the window of each new token begins.
        let first = |token: usize| (old + token + 1).saturating_sub(window);
        let (mut chunks, mut positions, mut start) = (Vec::new(), Vec::new(), 0);
        for chunk in parts {
            let (skipped, slots) = (chunk.slots_before(first(0).saturating_sub(start)), chunk.slots());
            if skipped < slots {
                positions.extend((skipped..slots).map(|slot| start + chunk.place(slot)));
                chunks.push(chunk.narrow(skipped, slots - skipped)?);
            }
            start += chunk.positions;
        }
        let unseen = |token| positions.partition_point(|position| *position < first(token));
        let hidden = (unseen(new_tokens - 1) > 0).then(|| (0..new_tokens).map(unseen).collect());
        Ok(Views { chunks, hidden })
    }

    /// All chunks, the new tokens apart where they are several.
    fn parts(&self, new_tokens: usize) -> Result<Vec<Chunk>> {
        let mut views = self.frozen.clone();
        if let Some(tail) = self.tail.as_ref().filter(|t| t.len() > 0) {
            let (all, old) = (tail.view(tail.len()), tail.len().saturating_sub(new_tokens));
            if new_tokens > 1 && old > 0 {
                views.push(all.narrow(0, old)?);
                views.push(all.narrow(old, tail.len() - old)?);
            } else {
                views.push(all);
            }
        }
        Ok(views)
    }

    /// Whether the last `n` positions can be dropped.
    pub(crate) fn can_drop(&self, n: usize) -> bool {
        let mut left = n.saturating_sub(self.tail_len());
        for chunk in self.frozen.iter().rev() {
            if left == 0 {
                return true;
            }
            if chunk.positions > left {
                return chunk.exact;
            }
            left -= chunk.positions;
        }
        left == 0
    }

    /// Drops the last `n` positions.
    pub(crate) fn drop_last(&mut self, n: usize) -> Result<()> {
        let from_tail = n.min(self.tail_len());
        if let Some(tail) = self.tail.as_mut() {
            let len = tail.len() - from_tail;
            if !tail.shrink(len) {
                let kept = if len > 0 { Some(tail.frozen(len)) } else { None };
                self.frozen.extend(kept);
                self.tail = None;
            }
        }
        let mut left = n - from_tail;
        while left > 0 {
            let chunk = self.frozen.pop().ok_or_else(|| not_that_long(n))?;
            if chunk.positions > left {
                self.frozen.push(chunk.narrow(0, chunk.positions - left)?);
                break;
            }
            left -= chunk.positions;
        }
        Ok(())
    }
}
