//! Numbers that will be needed soon are asked for while others are computed: a tile is read in an order that the
//! machine's own look-ahead does not guess.

/// Bytes that memory hands over at once.
const LINE: usize = 64;

/// What is needed next, handed out piece by piece.
pub(crate) struct Prefetch<'a> {
    bytes: &'a [u8],
    step: usize,
}

impl<'a> Prefetch<'a> {
    /// Asks for `numbers` in about `steps` pieces.
    pub(crate) fn new<T: bytemuck::NoUninit>(numbers: &'a [T], steps: usize) -> Self {
        let bytes: &[u8] = bytemuck::cast_slice(numbers);
        Self { bytes, step: bytes.len().div_ceil(steps.max(1)).next_multiple_of(LINE) }
    }

    /// Asks for the next piece.
    #[inline]
    pub(crate) fn fetch(&mut self) {
        let (now, later) = self.bytes.split_at(self.step.min(self.bytes.len()));
        self.bytes = later;
        now.chunks(LINE).for_each(ask);
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[allow(unsafe_code, reason = "asking for memory changes nothing")]
fn ask(line: &[u8]) {
    use core::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
    // SAFETY: SSE is part of x86-64, and the address is that of a slice.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn ask(_: &[u8]) {}
