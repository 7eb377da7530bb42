//! Products of a few queries with the keys of a tile, as in decoding.

#![allow(clippy::inline_always, reason = "what is not inlined into a dispatch runs without its vectors")]
#![allow(
    clippy::needless_range_loop,
    reason = "loops to constants become no loops, so that vectors stay in registers"
)]

use pulp::Simd;

use super::decode_attention::{MAX_QUERIES, TILE};

/// What keys and values are made of.
pub(crate) trait Number: Sized {
    /// How many f32 numbers one is.
    const EACH: usize;

    /// The numbers themselves, where each is one; none of pairs, which fill vectors.
    fn singles(row: &[Self]) -> &[f32];

    /// `V` vectors of a row from the vector `first` on, in the order of the kernel.
    fn wide<S: Simd, const V: usize>(simd: S, row: &[Self], first: usize) -> [S::f32s; V];
}

impl Number for f32 {
    const EACH: usize = 1;

    #[inline(always)]
    fn singles(row: &[f32]) -> &[f32] {
        row
    }

    #[inline(always)]
    fn wide<S: Simd, const V: usize>(_: S, row: &[f32], first: usize) -> [S::f32s; V] {
        let vectors = &S::as_simd_f32s(row).0[first..first + V];
        std::array::from_fn(
            #[inline(always)]
            |v| vectors[v],
        )
    }
}

/// Two bf16 numbers.
impl Number for u32 {
    const EACH: usize = 2;

    #[inline(always)]
    fn singles(_: &[u32]) -> &[f32] {
        &[]
    }

    #[inline(always)]
    fn wide<S: Simd, const V: usize>(simd: S, row: &[u32], first: usize) -> [S::f32s; V] {
        let vectors = &S::as_simd_u32s(row).0[first / 2..][..V / 2];
        let (low, high) = (simd.splat_u32s(16), simd.splat_u32s(0xffff_0000));
        std::array::from_fn(
            #[inline(always)]
            |v| {
                let pair = vectors[v / 2];
                let bits = if v % 2 == 0 {
                    simd.wrapping_dyn_shl_u32s(pair, low)
                } else {
                    simd.and_u32s(pair, high)
                };
                simd.transmute_f32s_u32s(bits)
            },
        )
    }
}

/// `logits[row][slot]` becomes the product of a query with a key, both `d` numbers.
#[inline(always)]
pub(crate) fn products<S: Simd, N: Number>(
    simd: S,
    keys: &[N],
    queries: &[f32],
    d: usize,
    logits: &mut [[f32; TILE]; MAX_QUERIES],
) {
    let width = d / N::EACH;
    let mut first = 0;
    // Where vectors are short, loads are most of a product: keys and queries are met in blocks.
    if cfg!(target_arch = "aarch64") {
        let (count, rows) = (keys.len() / width, queries.len() / d);
        while first + 2 <= count {
            let two = &keys[first * width..][..2 * width];
            let mut row = 0;
            while row < rows {
                let (queries, logits) = (&queries[row * d..], &mut logits[row..]);
                row += match rows - row {
                    4.. => block::<S, N, 4>(simd, two, queries, d, first, logits),
                    2.. => block::<S, N, 2>(simd, two, queries, d, first, logits),
                    _ => block::<S, N, 1>(simd, two, queries, d, first, logits),
                };
            }
            first += 2;
        }
    }
    for (slot, key) in keys.chunks_exact(width).enumerate().skip(first) {
        for (logits, query) in logits.iter_mut().zip(queries.chunks_exact(d)) {
            logits[slot] = product::<S, N>(simd, key, query);
        }
    }
}

/// The dot product of a key and a query. One sum is enough: that of the next slot is under way meanwhile.
#[inline(always)]
fn product<S: Simd, N: Number>(simd: S, key: &[N], query: &[f32]) -> f32 {
    let (query, rest) = S::as_simd_f32s(query);
    let mut sum = simd.splat_f32s(0.0);
    let (twos, last) = query.as_chunks::<2>();
    for (two, query) in twos.iter().enumerate() {
        let key = N::wide::<S, 2>(simd, key, 2 * two);
        sum = simd.mul_add_e_f32s(key[0], query[0], sum);
        sum = simd.mul_add_e_f32s(key[1], query[1], sum);
    }
    if let [query] = last {
        sum = simd.mul_add_e_f32s(N::wide::<S, 1>(simd, key, 2 * twos.len())[0], *query, sum);
    }
    let from = query.len() * S::F32_LANES;
    let rest: f32 = N::singles(key).iter().skip(from).zip(rest).map(|(a, b)| a * b).sum();
    simd.reduce_sum_f32s(sum) + rest
}

/// Two keys and `R` queries, each sum made as in [`product`], to the bit; returns `R`.
#[inline(always)]
fn block<S: Simd, N: Number, const R: usize>(
    simd: S,
    keys: &[N],
    queries: &[f32],
    d: usize,
    slot: usize,
    logits: &mut [[f32; TILE]],
) -> usize {
    let keys: [&[N]; 2] = keys.split_at(d / N::EACH).into();
    let mut queries_of = [&queries[..d]; R];
    for row in 0..R {
        queries_of[row] = &queries[row * d..][..d];
    }
    let whole = d / S::F32_LANES;
    let mut sums = [[simd.splat_f32s(0.0); 2]; R];
    for two in 0..whole / 2 {
        let keys = [N::wide::<S, 2>(simd, keys[0], 2 * two), N::wide::<S, 2>(simd, keys[1], 2 * two)];
        for row in 0..R {
            let query = &S::as_simd_f32s(queries_of[row]).0[2 * two..][..2];
            for key in 0..2 {
                let sum = &mut sums[row][key];
                *sum = simd.mul_add_e_f32s(keys[key][0], query[0], *sum);
                *sum = simd.mul_add_e_f32s(keys[key][1], query[1], *sum);
            }
        }
    }
    for row in 0..R {
        let (query, rest) = S::as_simd_f32s(queries_of[row]);
        for key in 0..2 {
            let mut sum = sums[row][key];
            if whole % 2 == 1 {
                let last = N::wide::<S, 1>(simd, keys[key], whole - 1)[0];
                sum = simd.mul_add_e_f32s(last, query[whole - 1], sum);
            }
            let singles = N::singles(keys[key]).iter().skip(whole * S::F32_LANES);
            let rest: f32 = singles.zip(rest).map(|(a, b)| a * b).sum();
            logits[row][slot + key] = simd.reduce_sum_f32s(sum) + rest;
        }
    }
    R
}

#[cfg(test)]
mod tests {
    use pulp::{Arch, Simd, WithSimd};

    use super::{Number, block, product};
    use crate::decode_attention::TILE;
    use crate::test_numbers::numbers;

    struct Both<'a, N> {
        keys: &'a [N],
        queries: &'a [f32],
        d: usize,
    }

    impl<N: Number> WithSimd for Both<'_, N> {
        type Output = ();
        fn with_simd<S: Simd>(self, simd: S) {
            let Self { keys, queries, d } = self;
            let mut logits = [[0f32; TILE]; 4];
            for rows in [1, 2, 4] {
                let taken = match rows {
                    1 => block::<S, N, 1>(simd, keys, queries, d, 3, &mut logits),
                    2 => block::<S, N, 2>(simd, keys, queries, d, 3, &mut logits),
                    _ => block::<S, N, 4>(simd, keys, queries, d, 3, &mut logits),
                };
                assert_eq!(taken, rows);
                for (row, query) in queries.chunks_exact(d).enumerate().take(rows) {
                    for (slot, key) in keys.chunks_exact(d / N::EACH).enumerate() {
                        let alone = product::<S, N>(simd, key, query);
                        let found = logits[row][3 + slot];
                        assert_eq!(alone.to_bits(), found.to_bits(), "{d} numbers, {rows} rows, row {row}");
                    }
                }
            }
        }
    }

    /// Whole vectors, an odd one, and numbers behind them.
    #[test]
    fn blocks_are_single_products() {
        for d in [128, 64, 80, 36, 30, 7] {
            let (keys, queries) = (numbers(2 * d, 1), numbers(4 * d, 2));
            Arch::new().dispatch(Both { keys: &keys, queries: &queries, d });
        }
        let pairs: Vec<u32> =
            numbers(128, 3).iter().map(|x| x.to_bits() & 0xffff_0000 | x.to_bits() >> 20 << 4).collect();
        Arch::new().dispatch(Both { keys: &pairs, queries: &numbers(4 * 128, 4), d: 128 });
    }
}
