//! Between projections and attention: rows of all heads to heads of all tokens, and back.

use candle_core::Tensor;
use lb_kernels::NormRope;

use crate::Result;
use crate::buffers;
use crate::norm::RmsNorm;
use crate::plain::{by_rows, is_plain, read, tensor};
use crate::rope::Rotation;

/// `[tokens, heads * d]` as `[1, heads, tokens, d]`, a view.
pub(crate) fn split(x: &Tensor, heads: usize) -> Result<Tensor> {
    let (tokens, width) = x.dims2()?;
    Ok(x.reshape((tokens, heads, width / heads))?.transpose(0, 1)?.unsqueeze(0)?)
}

/// The heads of `[tokens, heads * d]`, each normed and rotated by its token's position, `[1, heads, tokens, d]`.
pub(crate) fn turned(
    x: &Tensor,
    heads: usize,
    norm: Option<&RmsNorm>,
    rotation: &Rotation,
) -> Result<Tensor> {
    let (tokens, width) = x.dims2()?;
    let dim = width / heads;
    if !can_turn(x, dim, norm, rotation) {
        return turned_plainly(&split(x, heads)?, norm, rotation);
    }
    let (data, cos, sin) = (read(x)?, read(&rotation.cos)?, read(&rotation.sin)?);
    let gain = norm.map(RmsNorm::gain).transpose()?;
    let all = NormRope {
        data: &data,
        token_step: width,
        head_step: dim,
        tokens,
        norm: norm.zip(gain.as_deref()).map(|(norm, gain)| norm.of(gain)),
        cos: &cos,
        sin: &sin,
    };
    let mut out = buffers::take(data.len());
    by_rows(&mut out, dim, |first, out| all.write(first, out));
    tensor(out, (1, heads, tokens, dim))
}

/// The same by plain operations, of `[1, heads, tokens, d]` in any order.
pub(crate) fn turned_plainly(x: &Tensor, norm: Option<&RmsNorm>, rotation: &Rotation) -> Result<Tensor> {
    let x = x.contiguous()?;
    rotation.apply(&norm.map_or_else(|| Ok(x.clone()), |norm| norm.plain(&x))?)
}

/// Whether the kernel takes it; what does not fit together is left to the plain operations' errors.
fn can_turn(x: &Tensor, dim: usize, norm: Option<&RmsNorm>, rotation: &Rotation) -> bool {
    let angles = [x.dims()[0], dim / 2];
    let fits = rotation.cos.dims() == angles && rotation.sin.dims() == angles;
    let plain = [x, &rotation.cos, &rotation.sin].into_iter().all(is_plain);
    let norm_fits = norm.is_none_or(|norm| norm.width_on_cpu() == Some(dim));
    plain && fits && norm_fits && dim > 0 && dim.is_multiple_of(2) && x.is_contiguous()
}

/// The heads of each sequence, `[heads, tokens, d]`, as rows of all: `[rows, heads * d]`.
pub(crate) fn joined(by_sequence: &[Tensor]) -> Result<Tensor> {
    let by_sequence = by_sequence.iter().map(Tensor::contiguous).collect::<candle_core::Result<Vec<_>>>()?;
    if !by_sequence.iter().all(is_plain) {
        let out = if let [only] = &by_sequence[..] { only.clone() } else { Tensor::cat(&by_sequence, 1)? };
        return Ok(out.transpose(0, 1)?.flatten_from(1)?.contiguous()?);
    }
    let rows = by_sequence.iter().map(|x| x.dims()[1]).sum::<usize>();
    let width = by_sequence.first().map_or(0, |x| x.dims()[0] * x.dims()[2]);
    let mut out = buffers::take(rows * width);
    let mut rest = &mut out[..];
    for x in &by_sequence {
        let (_, tokens, dim) = x.dims3()?;
        let (own, behind) = rest.split_at_mut(tokens * width);
        rest = behind;
        let heads = read(x)?;
        by_rows(own, width, |first, out| {
            for (token, row) in (first..).zip(out.chunks_exact_mut(width)) {
                for (head, to) in heads.chunks_exact(tokens * dim).zip(row.chunks_exact_mut(dim)) {
                    to.copy_from_slice(&head[token * dim..][..dim]);
                }
            }
        });
    }
    tensor(out, (rows, width))
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use super::{joined, split, turned, turned_plainly};
    use crate::Result;
    use crate::norm::RmsNorm;
    use crate::rope::Rotation;

    /// A norm's sums in another order.
    const BOUND: f32 = 2e-6;

    fn random(dims: &[usize]) -> Tensor {
        Tensor::randn(0f32, 1.0, dims, &Device::Cpu).unwrap()
    }

    /// Of a part of the rows of a projection; without a norm to the bit.
    #[test]
    fn heads_are_those_of_plain_operations() -> Result<()> {
        for (tokens, heads, dim) in [(1, 4, 6), (9, 2, 16), (150, 4, 128)] {
            let norm = RmsNorm::new(random(&[dim]), 1e-6);
            let rotation = Rotation {
                cos: random(&[tokens + 1, dim / 2]).narrow(0, 1, tokens)?,
                sin: random(&[tokens, dim / 2]),
            };
            let x = random(&[tokens + 2, heads * dim]).narrow(0, 1, tokens)?;
            for norm in [None, Some(&norm)] {
                let want = turned_plainly(&split(&x, heads)?, norm, &rotation)?;
                let got = turned(&x, heads, norm, &rotation)?;
                if norm.is_none() {
                    let numbers = |x: &Tensor| x.flatten_all()?.to_vec1::<f32>();
                    assert_eq!(numbers(&got)?, numbers(&want)?);
                }
                let error = (got - &want)?.abs()?.max_all()?.to_scalar::<f32>()?;
                assert!(error <= BOUND * want.abs()?.max_all()?.to_scalar::<f32>()?, "{error:e}");
            }
        }
        Ok(())
    }

    /// Where angles do not fit the heads there is an error, not a part of the work.
    #[test]
    fn misfits_are_errors() {
        let x = random(&[5, 2 * 8]);
        let rotation = |tokens, half| Rotation { cos: random(&[tokens, half]), sin: random(&[tokens, half]) };
        for (tokens, half) in [(4, 4), (5, 3)] {
            assert!(turned(&x, 2, None, &rotation(tokens, half)).is_err(), "{tokens} x {half}");
        }
        assert!(turned(&x, 2, Some(&RmsNorm::new(random(&[4]), 1e-6)), &rotation(5, 4)).is_err());
    }

    /// One sequence and several, as by plain operations, and in another dtype.
    #[test]
    fn heads_are_joined_to_rows() -> Result<()> {
        for lengths in [&[3][..], &[1, 40, 7]] {
            let parts: Vec<Tensor> = lengths.iter().map(|tokens| random(&[6, *tokens, 64])).collect();
            let rows = |x: &Tensor| Ok(x.transpose(0, 1)?.contiguous()?.flatten_from(1)?);
            let want = Tensor::cat(&parts.iter().map(rows).collect::<Result<Vec<_>>>()?, 0)?;
            assert_eq!(joined(&parts)?.to_vec2::<f32>()?, want.to_vec2::<f32>()?);
            let wide: Vec<Tensor> =
                parts.iter().map(|x| x.to_dtype(DType::F64)).collect::<std::result::Result<_, _>>()?;
            assert_eq!(joined(&wide)?.to_dtype(DType::F32)?.to_vec2::<f32>()?, want.to_vec2::<f32>()?);
        }
        Ok(())
    }
}
