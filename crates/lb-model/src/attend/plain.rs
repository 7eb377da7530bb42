//! Attention by tensor operations, on any device. Packed slots are unpacked as a whole.

use candle_core::{DType, Device, Tensor};

use super::{Asker, in_common, same_start};
use crate::Result;
use crate::cache::Chunk;

/// The attention of each sequence.
pub(crate) fn attend(askers: &[Asker]) -> Result<Vec<Tensor>> {
    if askers.iter().any(Asker::has_packed) {
        let unpacked = askers.iter().map(Asker::unpacked).collect::<Result<Vec<_>>>()?;
        return attend(&unpacked);
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
    let mut scores =
        shared.iter().map(|chunk| chunk_scores(&q, chunk, askers[0].scale)).collect::<Result<Vec<_>>>()?;
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
    fn has_packed(&self) -> bool {
        self.chunks.iter().any(Chunk::is_packed)
    }

    fn unpacked(&self) -> Result<Self> {
        let chunks = self.chunks.iter().map(Chunk::unpacked).collect::<Result<_>>()?;
        Ok(Self { chunks, ..self.clone() })
    }

    /// How many scores it has.
    fn scores_of_all(&self) -> usize {
        let slots: usize = self.chunks.iter().map(Chunk::slots).sum();
        slots * self.q.dims()[..2].iter().product::<usize>()
    }

    /// Scores over the chunks from `from` on, `[kv_heads, rows, slots]`, f32.
    fn scores(&self, from: usize) -> Result<Tensor> {
        let last = self.chunks.len() - 1;
        let (mut scores, mut first) = (Vec::with_capacity(self.chunks.len() - from), 0);
        for (index, chunk) in self.chunks.iter().enumerate().skip(from) {
            let mut s = chunk_scores(&self.q, chunk, self.scale)?;
            if let Some(mask) = self.mask.as_ref().filter(|_| index == last) {
                s = masked(&s, mask)?;
            }
            if let Some(hidden) = &self.hidden {
                s = masked(&s, &hidden_mask(hidden, first, chunk.slots(), s.device())?)?;
            }
            scores.push(s);
            first += chunk.slots();
        }
        joined(&scores, 2)
    }

    /// The same for one KV head, without the chunks in which it has no slots.
    fn head(&self, head: usize) -> Result<Self> {
        let live = self.chunks.iter().filter(|chunk| chunk.head_slots(head) > 0);
        let chunks = live.map(|chunk| chunk.head(head)).collect::<Result<Vec<_>>>()?;
        Ok(Self {
            q: self.q.narrow(0, head, 1)?,
            scale: self.scale,
            chunks,
            mask: self.mask.clone(),
            hidden: None,
            watch: None,
        })
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
        let (_, values) = chunk.plain()?;
        let part = weights.matmul(&values.to_dtype(p.dtype())?.squeeze(0)?)?;
        sum = Some(match sum {
            None => part,
            Some(sum) => (sum + part)?,
        });
        from += chunk.slots();
    }
    Ok((sum, from))
}

/// `scale · q Kᵀ + bias` for one chunk, `[kv_heads, rows, slots]`, f32.
fn chunk_scores(q: &Tensor, chunk: &Chunk, scale: f32) -> Result<Tensor> {
    let scale = f64::from(scale);
    let (keys, _) = chunk.plain()?;
    let keys = keys.to_dtype(q.dtype())?.squeeze(0)?.t()?;
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

/// `s`: `[kv_heads, group_size * tokens, slots]`, rows (head, token); `mask`: `[tokens, slots]`.
fn masked(s: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let ((kv_heads, rows, slots), tokens) = (s.dims3()?, mask.dim(0)?);
    let s = s.reshape((kv_heads * rows / tokens, tokens, slots))?.broadcast_add(mask)?;
    Ok(s.reshape((kv_heads, rows, slots))?)
}

/// What hides the first slots from tokens, of the `slots` slots from `first` on, `[tokens, slots]`.
fn hidden_mask(hidden: &[usize], first: usize, slots: usize, device: &Device) -> Result<Tensor> {
    let seen = |hidden: usize, slot: usize| if slot < hidden { f32::NEG_INFINITY } else { 0.0 };
    let row = |hidden: &usize| (first..first + slots).map(|slot| seen(*hidden, slot)).collect::<Vec<_>>();
    let mask: Vec<f32> = hidden.iter().flat_map(row).collect();
    Ok(Tensor::from_vec(mask, (hidden.len(), slots), device)?)
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
