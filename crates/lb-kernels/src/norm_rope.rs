//! From a projection's rows to heads: norm, rotation and layout in one pass.

#![allow(clippy::inline_always, reason = "what is not inlined into a dispatch runs without its vectors")]

use pulp::{Arch, Simd, WithSimd};

use super::rms_norm::RmsNorm;

/// The heads of some tokens as they lie, and what becomes of them.
#[derive(Clone, Copy, Debug)]
pub struct NormRope<'a> {
    /// Number `i` of `head` at `token` is `data[token * token_step + head * head_step + i]`.
    pub data: &'a [f32],
    /// See `data`.
    pub token_step: usize,
    /// See `data`.
    pub head_step: usize,
    /// How many tokens, at least one.
    pub tokens: usize,
    /// Of each head; its width is that of a head.
    pub norm: Option<RmsNorm<'a>>,
    /// cos of each token's angles, `[tokens, head_dim / 2]`.
    pub cos: &'a [f32],
    /// sin of the same angles.
    pub sin: &'a [f32],
}

impl NormRope<'_> {
    /// Fills `out` with heads normed, then rotated with halves paired (`rotate_half`). The layout is
    /// `[heads, tokens, head_dim]`, and `out` begins with row `first` of it, a row being one head of one token.
    ///
    /// # Numerics
    ///
    /// f32; a rotated number is two products and a sum, each rounded. See [`RmsNorm::rows`].
    pub fn write(self, first: usize, out: &mut [f32]) {
        Arch::new().dispatch(Write { heads: self, first, out });
    }
}

struct Write<'a> {
    heads: NormRope<'a>,
    first: usize,
    out: &'a mut [f32],
}

impl WithSimd for Write<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let NormRope { data, token_step, head_step, tokens, norm, cos, sin } = self.heads;
        let half = cos.len() / tokens;
        let rows = self.out.chunks_exact_mut(2 * half);
        for (row, out) in (self.first..).zip(rows) {
            let (head, token) = (row / tokens, row % tokens);
            let x = &data[token * token_step + head * head_step..][..2 * half];
            match norm {
                Some(norm) => norm.row(simd, x, out),
                None => out.copy_from_slice(x),
            }
            let (a, b) = out.split_at_mut(half);
            let angles = cos[token * half..].iter().zip(&sin[token * half..]);
            for ((a, b), (cos, sin)) in a.iter_mut().zip(b).zip(angles) {
                (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{NormRope, RmsNorm};

    const HEADS: usize = 3;
    const TOKENS: usize = 5;

    fn numbers(len: usize, step: usize) -> Vec<f32> {
        (0..len).map(|i| (i * step % 101) as f32 * 0.03 - 1.4).collect()
    }

    /// One row, plainly.
    fn plain(x: &[f32], norm: Option<RmsNorm<'_>>, cos: &[f32], sin: &[f32]) -> Vec<f32> {
        let (mut x, half) = (x.to_vec(), cos.len());
        if let Some(norm) = norm {
            let mut normed = x.clone();
            norm.rows(&x, &mut normed);
            x = normed;
        }
        let turned = |i: usize| match i.checked_sub(half) {
            None => x[i] * cos[i] - x[i + half] * sin[i],
            Some(i) => x[i] * sin[i] + x[i + half] * cos[i],
        };
        (0..2 * half).map(turned).collect()
    }

    /// Token by token or head by head, with a norm and without, from any row on, to the bit.
    #[test]
    fn every_head_is_normed_and_turned() {
        for half in [1, 5, 32, 64] {
            let dim = 2 * half;
            let (data, gain) = (numbers(HEADS * TOKENS * dim, 37), numbers(dim, 7));
            let (cos, sin) = (numbers(TOKENS * half, 13), numbers(TOKENS * half, 17));
            for norm in [None, Some(RmsNorm { gain: &gain, eps: 1e-6 })] {
                for (token_step, head_step) in [(HEADS * dim, dim), (dim, TOKENS * dim)] {
                    let heads = NormRope {
                        data: &data,
                        token_step,
                        head_step,
                        tokens: TOKENS,
                        norm,
                        cos: &cos,
                        sin: &sin,
                    };
                    for first in [0, 1, 7] {
                        let mut out = vec![f32::NAN; (HEADS * TOKENS - first) * dim];
                        heads.write(first, &mut out);
                        for (row, out) in (first..).zip(out.chunks(dim)) {
                            let (head, token) = (row / TOKENS, row % TOKENS);
                            let angle = token * half..(token + 1) * half;
                            let x = &data[head * head_step + token * token_step..][..dim];
                            assert_eq!(out, plain(x, norm, &cos[angle.clone()], &sin[angle]));
                        }
                    }
                }
            }
        }
    }
}
