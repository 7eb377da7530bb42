//! Scales of blocks, gathered in words.

#![allow(clippy::inline_always, reason = "a few shifts, part of loops in vectors")]

/// The little-endian number of some bytes.
#[inline(always)]
fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]))
}

/// Eight scales and eight minima of six bits each, of a block of Q4_K or Q5_K: four of each in turn.
#[inline(always)]
pub(super) fn sixes(block: &[u8]) -> [u64; 2] {
    // The first four of both are six bits in a byte; of the others four bits are in the last bytes, two above the first.
    let (first, last) = (word(block, 4) | word(block, 8) << 32, word(block, 12));
    let others = (last | last << 28) & 0x0f0f_0f0f_0f0f_0f0f | first >> 2 & 0x3030_3030_3030_3030;
    [first & 0x3f3f_3f3f_3f3f_3f3f, others]
}

/// Two bytes of each of four blocks.
#[inline(always)]
pub(super) fn four_halves<const BYTES: usize>(blocks: &[u8], at: usize) -> u64 {
    let of = |block: usize| {
        let at = block * BYTES + at;
        u64::from(u16::from_le_bytes([blocks[at], blocks[at + 1]])) << (16 * block)
    };
    of(0) | of(1) | of(2) | of(3)
}

/// The first four bytes of each of four blocks.
#[inline(always)]
pub(super) fn four_words<const BYTES: usize>(blocks: &[u8]) -> [u64; 2] {
    let of = |block: usize| word(blocks, block * BYTES);
    [of(0) | of(1) << 32, of(2) | of(3) << 32]
}
