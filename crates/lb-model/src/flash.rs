//! Attention by a fused kernel that knows no biases: a bias becomes dimensions of the keys.
//!
//! Where a query ends in 1 and a key in β/scale, the kernel's scale · q·k is ours plus β. β/scale is split in two, so that 16 bits
//! hold it as exactly as one rounding in f32 needs. Widths are rounded up to what the kernels take, values padded alike.

use candle_core::{DType, Tensor};

use crate::Result;
use crate::attend::Asker;
use crate::cache::Chunk;

/// Kernels take widths that are multiples of this.
const GRANULE: usize = 8;

/// The widest heads there are kernels for.
#[cfg(feature = "flash-attn")]
const WIDEST: usize = 256;

/// What stands for −∞: far below any score, and finite in f16.
const NOTHING: f64 = -3e4;

/// One sequence's queries, keys and values as a kernel takes them.
pub(crate) struct Fused {
    /// `[1, tokens, heads, width]`.
    pub(crate) q: Tensor,
    /// `[1, slots, kv_heads, width]`.
    pub(crate) k: Tensor,
    /// Like `k`.
    pub(crate) v: Tensor,
    /// What the kernel multiplies q · k with.
    pub(crate) scale: f32,
    /// Whether token i sees the slots up to its own only, the last token all of them.
    pub(crate) causal: bool,
    tokens: usize,
    kv_heads: usize,
    head_dim: usize,
}

impl Fused {
    /// `None` where heads have different counts of slots or slots are packed, which a kernel cannot read, and where windows end
    /// within them.
    pub(crate) fn new(asker: &Asker) -> Result<Option<Self>> {
        let unread = |chunk: &Chunk| chunk.counts.is_some() || chunk.is_packed();
        if asker.hidden.is_some() || asker.chunks.iter().any(unread) {
            return Ok(None);
        }
        let (kv_heads, rows, head_dim) = asker.q.dims3()?;
        let tokens = asker.mask.as_ref().map_or(Ok(1), |mask| mask.dim(0))?;
        let biased = asker.chunks.iter().any(|chunk| chunk.bias.is_some());
        let width = (head_dim + if biased { 2 } else { 0 }).next_multiple_of(GRANULE);
        let q = asker.q.reshape((kv_heads * rows / tokens, tokens, head_dim))?;
        let ones = Tensor::ones((q.dim(0)?, tokens, 2), q.dtype(), q.device())?;
        let q = if biased { Tensor::cat(&[q, ones], 2)? } else { q };
        let joined = |parts: Vec<Tensor>| -> Result<Tensor> {
            let all = if let [only] = &parts[..] { only.clone() } else { Tensor::cat(&parts, 1)? };
            laid_out(&all, width)
        };
        let of = |chunk: &Chunk| keys(chunk, biased, q.dtype(), asker.scale);
        Ok(Some(Self {
            k: joined(asker.chunks.iter().map(of).collect::<Result<_>>()?)?,
            v: joined(
                asker
                    .chunks
                    .iter()
                    .map(|c| Ok(c.plain()?.1.squeeze(0)?.to_dtype(q.dtype())?))
                    .collect::<Result<_>>()?,
            )?,
            q: laid_out(&q, width)?,
            scale: asker.scale,
            causal: tokens > 1,
            tokens,
            kv_heads,
            head_dim,
        }))
    }

    #[cfg(feature = "flash-attn")]
    fn width(&self) -> usize {
        self.q.dims()[3]
    }

    /// From the kernel's `[1, tokens, heads, width]` to the layout of the queries.
    pub(crate) fn finish(&self, out: &Tensor) -> Result<Tensor> {
        let out = out.squeeze(0)?.narrow(2, 0, self.head_dim)?.transpose(0, 1)?.contiguous()?;
        let rows = out.dim(0)? / self.kv_heads * self.tokens;
        Ok(out.reshape((self.kv_heads, rows, self.head_dim))?)
    }
}

/// A chunk's keys `[kv_heads, slots, d or d + 2]`, its biases in the last two columns.
fn keys(chunk: &Chunk, biased: bool, dtype: DType, scale: f32) -> Result<Tensor> {
    let keys = chunk.plain()?.0.squeeze(0)?.to_dtype(dtype)?;
    if !biased {
        return Ok(keys);
    }
    let (heads, slots, _) = keys.dims3()?;
    let bias = match &chunk.bias {
        Some(bias) => (bias / f64::from(scale))?.clamp(NOTHING, f64::from(f32::MAX))?,
        None => Tensor::zeros((heads, slots), DType::F32, keys.device())?,
    };
    let high = bias.to_dtype(dtype)?;
    let low = (bias - high.to_dtype(DType::F32)?)?.to_dtype(dtype)?;
    Ok(Tensor::cat(&[keys, high.unsqueeze(2)?, low.unsqueeze(2)?], 2)?)
}

/// `[heads, rows, columns]` to `[1, rows, heads, width]`, zeros behind the columns.
fn laid_out(x: &Tensor, width: usize) -> Result<Tensor> {
    let missing = width - x.dim(2)?;
    let x = if missing == 0 { x.clone() } else { x.pad_with_zeros(2, 0, missing)? };
    Ok(x.transpose(0, 1)?.contiguous()?.unsqueeze(0)?)
}

/// The attention of each sequence by the kernel; `None` where it cannot: off CUDA, in f32, with ragged or very wide heads.
#[cfg(feature = "flash-attn")]
pub(crate) fn attend(askers: &[Asker]) -> Result<Option<Vec<Tensor>>> {
    let mut attended = Vec::with_capacity(askers.len());
    for asker in askers {
        let narrow = matches!(asker.q.dtype(), DType::F16 | DType::BF16);
        if !narrow || !asker.q.device().is_cuda() {
            return Ok(None);
        }
        let Some(fused) = Fused::new(asker)?.filter(|fused| fused.width() <= WIDEST) else { return Ok(None) };
        let out = candle_flash_attn::flash_attn(&fused.q, &fused.k, &fused.v, fused.scale, fused.causal)?;
        attended.push(fused.finish(&out)?);
    }
    Ok(Some(attended))
}

#[cfg(test)]
mod tests {
    use candle_core::{D, DType, Device, Tensor};
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::Fused;
    use crate::Result;
    use crate::attend::{Asker, attend};
    use crate::cache::{Chunk, Slots};
    use crate::pass::causal_mask;
    use crate::queries::normal;

    /// Normal numbers, the same in every run: the bounds are near what rounding does.
    fn seeded(seed: u64) -> impl FnMut(&[usize]) -> Result<Tensor> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        move |dims| {
            let numbers = normal(&mut rng, dims.iter().product());
            Ok(Tensor::from_vec(numbers, dims, &Device::Cpu)?)
        }
    }

    /// What a flash kernel computes, in plain operations and f32.
    fn kernel(fused: &Fused) -> Result<Tensor> {
        let plain = |x: &Tensor| -> Result<Tensor> {
            Ok(x.to_dtype(DType::F32)?.squeeze(0)?.transpose(0, 1)?.contiguous()?)
        };
        let (q, k, v) = (plain(&fused.q)?, plain(&fused.k)?, plain(&fused.v)?);
        let group = q.dim(0)? / k.dim(0)?;
        let repeated = |x: Tensor| -> Result<Tensor> {
            let (heads, slots, width) = x.dims3()?;
            Ok(x.unsqueeze(1)?.expand((heads, group, slots, width))?.reshape((
                heads * group,
                slots,
                width,
            ))?)
        };
        let (k, v) = (repeated(k)?, repeated(v)?);
        let mut scores = (q.matmul(&k.t()?)? * f64::from(fused.scale))?;
        if fused.causal {
            let (tokens, slots) = (q.dim(1)?, k.dim(1)?);
            let seen = |i: usize, j: usize| if j > slots - tokens + i { f32::NEG_INFINITY } else { 0.0 };
            let mask: Vec<f32> = (0..tokens).flat_map(|i| (0..slots).map(move |j| seen(i, j))).collect();
            scores = scores.broadcast_add(&Tensor::from_vec(mask, (tokens, slots), &Device::Cpu)?)?;
        }
        let out = candle_nn::ops::softmax(&scores, D::Minus1)?.matmul(&v)?;
        Ok(out.transpose(0, 1)?.unsqueeze(0)?)
    }

    fn difference(dtype: DType, tokens: usize, biases: [Option<f64>; 2], dim: usize) -> Result<f32> {
        let mut random = seeded((tokens * dim) as u64);
        let mut chunks = Vec::new();
        for (slots, bias) in [(40, biases[0]), (9, biases[1]), (tokens, None)] {
            let bias =
                bias.map(|size| -> Result<Tensor> { Ok((random(&[2, slots])? * size)?) }).transpose()?;
            let [keys, values] = [random(&[1, 2, slots, dim])?, random(&[1, 2, slots, dim])?];
            let (keys, values) = (keys.to_dtype(dtype)?, values.to_dtype(dtype)?);
            chunks.push(Chunk {
                kv: Slots::Plain { keys, values },
                bias,
                counts: None,
                positions: slots,
                exact: true,
                places: None,
            });
        }
        let q = random(&[2, 3 * tokens, dim])?.to_dtype(dtype)?;
        let mask = causal_mask(tokens, &Device::Cpu)?;
        let scale = (dim as f32).sqrt().recip();
        let asker = Asker { q, scale, chunks, mask, hidden: None, watch: None };
        let fused = Fused::new(&asker)?.expect("even heads");
        let got = fused.finish(&kernel(&fused)?)?;
        let wide = Asker { q: asker.q.to_dtype(DType::F32)?, ..asker.clone() };
        let expected = attend(std::slice::from_ref(&wide))?.remove(0).out;
        Ok((got.to_dtype(DType::F32)? - expected)?.abs()?.max_all()?.to_scalar::<f32>()?)
    }

    /// Biases in the keys' dimensions are biases, in every dtype, however the chunks lie.
    #[test]
    fn biases_become_dimensions() -> Result<()> {
        for (dtype, bound) in [(DType::F32, 1e-5), (DType::F16, 1e-5), (DType::BF16, 2e-4)] {
            for tokens in [1, 5] {
                for biases in [[None, None], [Some(2.0), None], [None, Some(3.0)], [Some(1.0), Some(0.1)]] {
                    for dim in [8, 12, 64] {
                        let d = difference(dtype, tokens, biases, dim)?;
                        assert!(d <= bound, "{dtype:?}, {tokens} tokens, {biases:?}, width {dim}: {d:e}");
                    }
                }
            }
        }
        Ok(())
    }

    /// Slots without mass take none.
    #[test]
    fn minus_infinity_takes_no_mass() -> Result<()> {
        let mut random = seeded(1);
        let (keys, values) = (random(&[1, 1, 3, 8])?, random(&[1, 1, 3, 8])?);
        let bias = Tensor::new(&[[0f32, f32::NEG_INFINITY, 0.5]], &Device::Cpu)?;
        let (bias, counts, places) = (Some(bias), None, None);
        let kv = Slots::Plain { keys, values };
        let chunk = Chunk { kv, bias, counts, positions: 3, exact: false, places };
        let (q, chunks) = (random(&[1, 2, 8])?, vec![chunk]);
        let asker = Asker { q, scale: 0.3, chunks, mask: None, hidden: None, watch: None };
        let fused = Fused::new(&asker)?.expect("even heads");
        let expected = attend(std::slice::from_ref(&asker))?.remove(0).out;
        let d = (fused.finish(&kernel(&fused)?)? - expected)?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(d < 1e-5, "{d}");
        Ok(())
    }
}
