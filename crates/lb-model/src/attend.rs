//! Softmax attention over the chunks of caches.
//!
//! Keys and values are read where they lie: chunks are never joined, the small score matrices are. Forks of one cache
//! have their first chunks in common. There the queries of all of them are rows of one product, so that a prefix is
//! read once for all, and once more for the values. Where heads have different counts of slots, each head attends to
//! its own rows.

use candle_core::{DType, Device, Tensor};

use crate::Result;
use crate::cache::Chunk;

/// One sequence's part in an attention.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    /// `[kv_heads, group_size * tokens, d]`.
    pub(crate) q: Tensor,
    /// What it attends to. With a mask the last one is the tokens themselves; without, there is one token and it sees
    /// everything.
    pub(crate) chunks: Vec<Chunk>,
    /// `[tokens, tokens]`, see [`causal_mask`](crate::pass::causal_mask).
    pub(crate) mask: Option<Tensor>,
}

/// `softmax(q Kᵀ/√d + bias + causal mask) V` of each sequence over the concatenation of its chunks, softmax in f32; each
/// result is like its `q`.
pub(crate) fn attend(askers: &[Asker]) -> Result<Vec<Tensor>> {
    #[cfg(feature = "flash-attn")]
    if let Some(attended) = crate::flash::attend(askers)? {
        return Ok(attended);
    }
    let mut out: Vec<Option<Tensor>> = vec![None; askers.len()];
    for family in families(askers) {
        let (numbers, askers): (Vec<usize>, Vec<&Asker>) =
            family.iter().map(|&number| (number, &askers[number])).unzip();
        for (number, attended) in numbers.into_iter().zip(attend_family(&askers)?) {
            out[number] = Some(attended);
        }
    }
    Ok(out.into_iter().flatten().collect())
}

/// Scores that are computed at once on the CPU, as far as several sequences are concerned: 4 MB. Sharing pays where each has
/// few rows, as in decoding; with many rows each product is efficient alone, and a larger matrix only leaves the caches of
/// the CPU.
const TOGETHER: usize = 1 << 20;

/// Sequences that begin with the same chunk, as numbers; on the CPU as many together as [`TOGETHER`] allows.
fn families(askers: &[Asker]) -> Vec<Vec<usize>> {
    let on_cpu = askers.first().is_some_and(|asker| asker.q.device().is_cpu());
    let limit = if on_cpu { TOGETHER } else { usize::MAX };
    let mut families: Vec<(Vec<usize>, usize)> = Vec::new();
    for (number, asker) in askers.iter().enumerate() {
        let scores = asker.scores_of_all();
        // The last one that fits: those before are full.
        let kin = families
            .iter_mut()
            .rev()
            .find(|(family, _)| same_start(&askers[family[0]], asker))
            .filter(|(_, sum)| sum + scores <= limit);
        match kin {
            Some((family, sum)) => {
                family.push(number);
                *sum += scores;
            }
            None => families.push((vec![number], scores)),
        }
    }
    families.into_iter().map(|(family, _)| family).collect()
}

fn same_start(a: &Asker, b: &Asker) -> bool {
    a.chunks.first().zip(b.chunks.first()).is_some_and(|(a, b)| a.same(b))
}

/// How many chunks all have in common, from the first on; none for a sequence alone.
fn in_common(askers: &[&Asker]) -> usize {
    let Some((first, others)) = askers.split_first().filter(|(_, others)| !others.is_empty()) else {
        return 0;
    };
    let alike = |index: &usize| {
        let chunk = &first.chunks[*index];
        others.iter().all(|other| other.chunks.get(*index).is_some_and(|c| c.same(chunk)))
    };
    (0..first.chunks.len()).take_while(alike).count()
}

fn attend_family(askers: &[&Asker]) -> Result<Vec<Tensor>> {
    let common = in_common(askers);
    let ragged = |asker: &&Asker| asker.chunks.iter().any(|chunk| chunk.counts.is_some());
    if !askers.iter().any(ragged) {
        return attend_evenly(askers, common);
    }
    let mut heads = vec![Vec::new(); askers.len()];
    for head in 0..askers[0].q.dim(0)? {
        let own = askers.iter().map(|asker| asker.head(head)).collect::<Result<Vec<_>>>()?;
        let live: usize =
            askers[0].chunks[..common].iter().filter(|chunk| chunk.head_slots(head) > 0).count();
        for (heads, out) in heads.iter_mut().zip(attend_evenly(&own.iter().collect::<Vec<_>>(), live)?) {
            heads.push(out);
        }
    }
    heads.iter().map(|heads| Ok(Tensor::cat(heads, 0)?)).collect()
}

/// [`attend`] where all heads have the same slots and the first `common` chunks are those of every sequence.
fn attend_evenly(askers: &[&Asker], common: usize) -> Result<Vec<Tensor>> {
    let queries: Vec<Tensor> = askers.iter().map(|asker| asker.q.clone()).collect();
    let (q, shared) = (joined(&queries, 1)?, &askers[0].chunks[..common]);
    let mut scores = shared.iter().map(|chunk| chunk_scores(&q, chunk)).collect::<Result<Vec<_>>>()?;
    let own = askers.iter().map(|asker| asker.scores(common)).collect::<Result<Vec<_>>>()?;
    let widest = own.iter().map(|s| s.dims()[2]).max().unwrap_or(0);
    let own = own.into_iter().map(|s| widened(s, widest)).collect::<Result<Vec<_>>>()?;
    scores.push(joined(&own, 1)?);
    let p = candle_nn::ops::softmax_last_dim(&joined(&scores, 2)?)?.to_dtype(q.dtype())?;
    let (together, own_from) = weighted(None, &p, 0, shared)?;
    let mut row = 0;
    askers
        .iter()
        .map(|asker| {
            let rows = asker.q.dim(1)?;
            let part = |x: &Tensor| x.narrow(1, row, rows);
            let start = together.as_ref().map(part).transpose()?;
            let (out, _) = weighted(start, &part(&p)?, own_from, &asker.chunks[common..])?;
            row += rows;
            Ok(out.expect("every sequence attends to its own tokens at least"))
        })
        .collect()
}

impl Asker {
    /// How many scores it has.
    fn scores_of_all(&self) -> usize {
        let slots: usize = self.chunks.iter().map(Chunk::slots).sum();
        slots * self.q.dims()[..2].iter().product::<usize>()
    }

    /// Scores over the chunks from `from` on, `[kv_heads, rows, slots]`, f32.
    fn scores(&self, from: usize) -> Result<Tensor> {
        let last = self.chunks.len() - 1;
        let mut scores = Vec::with_capacity(self.chunks.len() - from);
        for (index, chunk) in self.chunks.iter().enumerate().skip(from) {
            let s = chunk_scores(&self.q, chunk)?;
            scores.push(match &self.mask {
                Some(mask) if index == last => masked(&s, mask)?,
                _ => s,
            });
        }
        joined(&scores, 2)
    }

    /// The same for one KV head, without the chunks in which it has no slots.
    fn head(&self, head: usize) -> Result<Self> {
        let live = self.chunks.iter().filter(|chunk| chunk.head_slots(head) > 0);
        let chunks = live.map(|chunk| chunk.head(head)).collect::<Result<Vec<_>>>()?;
        Ok(Self { q: self.q.narrow(0, head, 1)?, chunks, mask: self.mask.clone() })
    }
}

/// `sum` and the values of `chunks` weighted by the columns of `p` from `from` on; the column behind them.
fn weighted(
    mut sum: Option<Tensor>,
    p: &Tensor,
    mut from: usize,
    chunks: &[Chunk],
) -> Result<(Option<Tensor>, usize)> {
    for chunk in chunks {
        let weights = rows_for_matmul(p.narrow(2, from, chunk.slots())?)?;
        let part = weights.matmul(&chunk.values.to_dtype(p.dtype())?.squeeze(0)?)?;
        sum = Some(match sum {
            None => part,
            Some(sum) => (sum + part)?,
        });
        from += chunk.slots();
    }
    Ok((sum, from))
}

/// `q Kᵀ/√d + bias` for one chunk, `[kv_heads, rows, slots]`, f32.
fn chunk_scores(q: &Tensor, chunk: &Chunk) -> Result<Tensor> {
    let scale = 1.0 / (q.dim(2)? as f64).sqrt();
    let keys = chunk.keys.to_dtype(q.dtype())?.squeeze(0)?.t()?;
    // In f32 the small side is scaled; in a narrow dtype scaling q would round it once more.
    let s = if q.dtype() == DType::F32 {
        (q * scale)?.matmul(&keys)?
    } else {
        (q.matmul(&keys)?.to_dtype(DType::F32)? * scale)?
    };
    match &chunk.bias {
        None => Ok(s),
        Some(bias) => Ok(s.broadcast_add(&bias.unsqueeze(1)?)?),
    }
}

/// `s`: `[kv_heads, group_size * tokens, tokens]`, rows (head, token).
fn masked(s: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let (kv_heads, rows, tokens) = s.dims3()?;
    let s = s.reshape((kv_heads * rows / tokens, tokens, tokens))?.broadcast_add(mask)?;
    Ok(s.reshape((kv_heads, rows, tokens))?)
}

/// Columns up to `width` that take no mass.
fn widened(s: Tensor, width: usize) -> Result<Tensor> {
    let (heads, rows, columns) = s.dims3()?;
    if columns == width {
        return Ok(s);
    }
    let none = Tensor::full(f32::NEG_INFINITY, (heads, rows, width - columns), s.device())?;
    Ok(Tensor::cat(&[s, none], 2)?)
}

/// The concatenation; a single tensor is not copied.
fn joined(tensors: &[Tensor], dim: usize) -> Result<Tensor> {
    if let [only] = tensors { Ok(only.clone()) } else { Ok(Tensor::cat(tensors, dim)?) }
}

/// The CPU's matrix product takes strided rows, the GPU ones want them packed.
fn rows_for_matmul(x: Tensor) -> Result<Tensor> {
    if matches!(x.device(), Device::Cpu) { Ok(x) } else { Ok(x.contiguous()?) }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use super::{Asker, attend, in_common};
    use crate::Result;
    use crate::cache::Chunk;

    fn random(dims: &[usize]) -> Tensor {
        Tensor::randn(0f32, 1.0, dims, &Device::Cpu).unwrap()
    }

    fn chunk(slots: usize) -> Chunk {
        let (keys, values) = (random(&[1, 2, slots, 8]), random(&[1, 2, slots, 8]));
        let bias = Some(random(&[2, slots]));
        Chunk { keys, values, bias, counts: None, positions: slots, exact: true }
    }

    fn alone(q: &Tensor, chunks: &[Chunk]) -> Result<Tensor> {
        Ok(attend(&[Asker { q: q.clone(), chunks: chunks.to_vec(), mask: None }])?.remove(0))
    }

    fn difference(a: &Tensor, b: &Tensor) -> Result<f32> {
        Ok((a - b)?.abs()?.max_all()?.to_scalar::<f32>()?)
    }

    /// Joined or in chunks, with and without biases, attention is the same.
    #[test]
    fn chunks_attend_like_their_concatenation() -> Result<()> {
        let (q, whole) = (random(&[2, 6, 8]), chunk(20));
        let parts = [whole.narrow(0, 1)?, whole.narrow(1, 12)?, whole.narrow(13, 4)?, whole.narrow(17, 3)?];
        assert!(difference(&alone(&q, std::slice::from_ref(&whole))?, &alone(&q, &parts)?)? < 1e-6);
        let zero = Tensor::zeros((2, 20), DType::F32, &Device::Cpu)?;
        let zero = Chunk { bias: Some(zero), ..whole.clone() };
        let none = Chunk { bias: None, ..whole };
        assert!(difference(&alone(&q, &[zero])?, &alone(&q, &[none])?)? == 0.0);
        Ok(())
    }

    /// Two families and a sequence alone; own parts of different lengths, numbers of rows and of chunks.
    #[test]
    fn together_is_as_alone() -> Result<()> {
        let (a, b, c) = (chunk(30), chunk(7), chunk(12));
        let lists = [
            vec![a.clone(), b.clone(), chunk(1)],
            vec![c.clone(), chunk(5)],
            vec![a.clone(), b.clone(), chunk(3), chunk(4)],
            vec![chunk(9)],
            vec![a.clone(), b.clone(), chunk(2)],
            vec![c, chunk(6)],
        ];
        let askers: Vec<Asker> = lists
            .into_iter()
            .zip([2, 4, 6, 2, 2, 8])
            .map(|(chunks, rows)| Asker { q: random(&[2, rows, 8]), chunks, mask: None })
            .collect();
        assert_eq!(in_common(&[&askers[0], &askers[2], &askers[4]]), 2);
        assert_eq!(in_common(&[&askers[0], &askers[1]]), 0);
        assert_eq!(in_common(&[&askers[3]]), 0);
        let together = attend(&askers)?;
        assert_eq!(together.len(), askers.len());
        for (asker, together) in askers.iter().zip(&together) {
            assert_eq!(asker.q.dims(), together.dims());
            assert!(difference(&alone(&asker.q, &asker.chunks)?, together)? < 1e-6);
        }
        Ok(())
    }

    /// The same keys under another bias, or another view of them, are not the same slots.
    #[test]
    fn only_the_same_slots_are_shared() -> Result<()> {
        let a = chunk(30);
        assert!(a.same(&a.clone()) && a.narrow(0, 9)?.same(&a.narrow(0, 9)?));
        assert!(!a.same(&Chunk { bias: None, ..a.clone() }));
        assert!(!a.same(&Chunk { bias: Some(random(&[2, 30])), ..a.clone() }));
        assert!(!a.same(&Chunk { values: random(&[1, 2, 30, 8]), ..a.clone() }));
        assert!(!a.same(&a.narrow(0, 29)?) && !a.narrow(0, 9)?.same(&a.narrow(1, 9)?));
        Ok(())
    }
}
