//! Attention on the CPU by kernels, a piece of work for every panel of queries of every head.

use std::ops::Range;

use candle_core::{DType, Device, Tensor};
use lb_am::Observed;
use lb_kernels::{
    AttentionInput, CpuTensors, FloatSlice, KvRows, KvSlice, Observation, Observe, QUERY_BLOCK, Scratch,
    attend as attend_head,
};
use rayon::prelude::*;

use super::{Asker, Attended, in_common, same_start};
use crate::Result;
use crate::cache::{Chunk, PackedSlots, Slots};

/// Inputs longer than this are rounded to bf16 where a bf16 cache allows it, as in
/// [`gemm`](lb_kernels::gemm).
const EXACT: usize = 48;

/// Whether all is on the CPU and in f32.
pub(super) fn serves(askers: &[Asker]) -> bool {
    askers.iter().all(|asker| asker.q.device().is_cpu() && asker.q.dtype() == DType::F32)
}

/// The attention of each sequence.
pub(super) fn attend(askers: &[Asker]) -> Result<Vec<Attended>> {
    let mut attended: Vec<Option<Attended>> = askers.iter().map(|_| None).collect();
    for family in families(askers) {
        let kin: Vec<&Asker> = family.iter().map(|&number| &askers[number]).collect();
        let done = if let [only] = kin[..] { vec![alone(only)?] } else { together(&kin)? };
        for (number, done) in family.into_iter().zip(done) {
            attended[number] = Some(done);
        }
    }
    Ok(attended.into_iter().flatten().collect())
}

/// Sequences that begin with the same chunk, as numbers.
fn families(askers: &[Asker]) -> Vec<Vec<usize>> {
    let mut families: Vec<Vec<usize>> = Vec::new();
    for (number, asker) in askers.iter().enumerate() {
        match families.iter_mut().find(|family| same_start(&askers[family[0]], asker)) {
            Some(family) => family.push(number),
            None => families.push(vec![number]),
        }
    }
    families
}

/// The tensors of one sequence: its queries, then keys and values of each chunk that is not packed.
struct Tensors {
    q: Tensor,
    chunks: Vec<[Tensor; 2]>,
}

impl Tensors {
    fn of(asker: &Asker) -> Result<Self> {
        let squeezed = |chunk: &Chunk| match &chunk.kv {
            Slots::Plain { keys, values } => {
                Some(keys.squeeze(0).and_then(|keys| Ok([keys, values.squeeze(0)?])))
            }
            Slots::Packed(_) => None,
        };
        let chunks = asker.chunks.iter().filter_map(squeezed).collect::<candle_core::Result<_>>()?;
        Ok(Self { q: asker.q.contiguous()?, chunks })
    }

    fn list(&self) -> Vec<&Tensor> {
        std::iter::once(&self.q).chain(self.chunks.iter().flatten()).collect()
    }
}

/// One sequence as kernels read it.
struct Reader<'a> {
    asker: &'a Asker,
    held: &'a CpuTensors<'a>,
    /// Number of its queries among what is held.
    first: usize,
    /// By chunk, the number of its keys among what is held, and its values follow; of a packed one, of the next that is not.
    places: Vec<usize>,
    /// By chunk, where there are any.
    biases: Vec<Option<Vec<f32>>>,
    tokens: usize,
    rows: usize,
    dim: usize,
}

impl<'a> Reader<'a> {
    fn new(asker: &'a Asker, held: &'a CpuTensors<'a>, first: usize) -> Result<Self> {
        let (heads, rows, dim) = asker.q.dims3()?;
        let (mut places, mut next) = (Vec::with_capacity(asker.chunks.len()), first + 1);
        for chunk in &asker.chunks {
            places.push(next);
            next += if chunk.is_packed() { 0 } else { 2 };
            for shape in chunk.shapes() {
                let fits =
                    matches!(shape.dims(), &[1, of, _, width] if width == dim && (of == heads || of == 1));
                if !fits {
                    let (lhs, rhs) = (asker.q.shape().clone(), shape);
                    let mismatch = candle_core::Error::ShapeMismatchBinaryOp { lhs, rhs, op: "attention" };
                    return Err(mismatch.into());
                }
            }
        }
        let flat = |chunk: &Chunk| chunk.bias.as_ref().map(|b| b.flatten_all()?.to_vec1::<f32>()).transpose();
        let biases = asker.chunks.iter().map(flat).collect::<candle_core::Result<_>>()?;
        let tokens = asker.mask.as_ref().map_or(Ok(1), |mask| mask.dim(0))?;
        Ok(Self { asker, held, first, places, biases, tokens, rows, dim })
    }

    fn queries(&self, head: usize) -> Result<&'a [f32]> {
        Ok(match self.held.head(self.first, head)? {
            FloatSlice::F32(queries) => queries,
            _ => &[],
        })
    }

    /// The slots of a head in some chunks but the first `skipped`, and how many of these have any.
    fn slots(&self, head: usize, chunks: Range<usize>, mut skipped: usize) -> Result<Vec<KvSlice<'_>>> {
        let mut slots = Vec::with_capacity(chunks.len());
        for index in chunks {
            let chunk = &self.asker.chunks[index];
            let (place, from, count) = match &chunk.counts {
                Some(counts) => (0, counts[..head].iter().sum(), counts[head]),
                None => (head, 0, chunk.slots()),
            };
            let without = skipped.min(count);
            skipped -= without;
            let (from, count) = (from + without, count - without);
            if count == 0 {
                continue;
            }
            let of = |side: usize| -> Result<KvRows<'a>> {
                let all = self.held.head(self.places[index] + side, place)?;
                Ok(all.range(from * self.dim, count * self.dim).into())
            };
            let [keys, values] = match &chunk.kv {
                Slots::Plain { .. } => [of(0)?, of(1)?],
                Slots::Packed(PackedSlots { keys, values, range, .. }) => {
                    [keys, values].map(|rows| rows.head(head).range(range.start + without, count).into())
                }
            };
            let width = if chunk.counts.is_some() { 0 } else { chunk.slots() };
            let bias = self.biases[index].as_ref().map(|bias| &bias[place * width + from..][..count]);
            slots.push(KvSlice { keys, values, bias });
        }
        Ok(slots)
    }

    /// Rows of queries that are answered together: of one query head where that fills a panel.
    fn panels(&self) -> Vec<Range<usize>> {
        let run = if self.tokens >= QUERY_BLOCK { self.tokens } else { self.rows };
        let firsts = (0..self.rows).step_by(run);
        firsts
            .flat_map(|start| {
                let end = (start + run).min(self.rows);
                (start..end).step_by(QUERY_BLOCK).map(move |from| from..(from + QUERY_BLOCK).min(end))
            })
            .collect()
    }

    /// By row, how many of the sequence's own tokens it sees, of those that are left without the first `skipped` slots;
    /// `None` where there is but one.
    fn seen(&self, rows: &Range<usize>, skipped: usize) -> Option<Vec<usize>> {
        self.asker.mask.as_ref()?;
        let cached: usize = self.asker.chunks.iter().rev().skip(1).map(Chunk::slots).sum();
        let own = skipped.saturating_sub(cached);
        Some(rows.clone().map(|row| row % self.tokens + 1 - own).collect())
    }

    /// How many of the first slots no row of a panel sees, and by row how many of those behind them it does not see.
    fn hidden(&self, rows: &Range<usize>) -> (usize, Option<Vec<usize>>) {
        let Some(hidden) = &self.asker.hidden else { return (0, None) };
        let by_row: Vec<usize> = rows.clone().map(|row| hidden[row % self.tokens]).collect();
        let skipped = by_row.iter().copied().min().unwrap_or(0);
        (skipped, Some(by_row.into_iter().map(|hidden| hidden - skipped).collect()))
    }

    fn input<'b>(
        &self,
        queries: &'b [f32],
        slots: &'b [KvSlice<'b>],
        visible: Option<&'b [usize]>,
    ) -> AttentionInput<'b> {
        AttentionInput {
            queries,
            head_dim: self.dim,
            scale: self.asker.scale,
            chunks: slots,
            hidden: None,
            visible,
            allow_bf16: self.tokens > EXACT,
            output: true,
            observe: None,
        }
    }
}

/// A sequence that shares nothing.
fn alone(asker: &Asker) -> Result<Attended> {
    let tensors = Tensors::of(asker)?;
    let held = CpuTensors::new(&tensors.list())?;
    let reader = Reader::new(asker, &held, 0)?;
    let (heads, rows, dim) = asker.q.dims3()?;
    let panels = reader.panels();
    let mut out = crate::buffers::take(heads * rows * dim);
    let mut pieces = Vec::with_capacity(heads * panels.len());
    let mut rest = &mut out[..];
    for head in 0..heads {
        for panel in &panels {
            let (own, others) = rest.split_at_mut(panel.len() * dim);
            pieces.push((head, panel, own));
            rest = others;
        }
    }
    let watched = pieces
        .into_par_iter()
        .map_init(Scratch::default, |scratch, (head, panel, out)| {
            let (skipped, hidden) = reader.hidden(panel);
            let slots = reader.slots(head, 0..asker.chunks.len(), skipped)?;
            let seen = reader.seen(panel, skipped);
            let queries = &reader.queries(head)?[panel.start * dim..panel.end * dim];
            let observe = asker.watch.map(|watch| -> Result<Observe> {
                let chunks = reader.slots(head, 0..watch.chunks, 0)?.len();
                Ok(Observe { chunks, score: Some(watch.score.of_queries()), output: true })
            });
            let input = reader.input(queries, &slots, seen.as_deref());
            let hidden = hidden.as_deref();
            Ok(attend_head(&AttentionInput { hidden, observe: observe.transpose()?, ..input }, scratch, out))
        })
        .collect::<Result<Vec<_>>>()?;
    let out = Tensor::from_vec(out, (heads, rows, dim), &Device::Cpu)?;
    let observed = asker.watch.map(|watch| {
        let parts: Vec<Observation> = watched.into_iter().flatten().collect();
        Observed::from_observations(parts, (heads, rows, dim), watch.score)
    });
    Ok(Attended { out, observed: observed.transpose()? })
}

/// Sequences with chunks in common: those are met by the queries of all, then each meets its own.
fn together(askers: &[&Asker]) -> Result<Vec<Attended>> {
    let common = in_common(askers);
    let tensors = askers.iter().map(|asker| Tensors::of(asker)).collect::<Result<Vec<_>>>()?;
    let lists: Vec<Vec<&Tensor>> = tensors.iter().map(Tensors::list).collect();
    let held = CpuTensors::new(&lists.concat())?;
    let mut readers = Vec::with_capacity(askers.len());
    let mut first = 0;
    for (asker, list) in askers.iter().zip(&lists) {
        readers.push(Reader::new(asker, &held, first)?);
        first += list.len();
    }
    let (heads, _, dim) = askers[0].q.dims3()?;
    let panels = shared_panels(&readers);
    let pieces: Vec<(usize, &Vec<Part>)> =
        (0..heads).flat_map(|head| panels.iter().map(move |panel| (head, panel))).collect();
    let done = pieces
        .par_iter()
        .map_init(Scratch::default, |scratch, (head, panel)| {
            shared_panel(&readers, *head, panel, common, scratch)
        })
        .collect::<Result<Vec<_>>>()?;
    let mut outs: Vec<Vec<f32>> = readers.iter().map(|reader| vec![0.0; heads * reader.rows * dim]).collect();
    for ((head, panel), done) in pieces.iter().zip(done) {
        for ((number, rows), done) in panel.iter().zip(done) {
            let from = (head * readers[*number].rows + rows.start) * dim;
            outs[*number][from..from + done.len()].copy_from_slice(&done);
        }
    }
    let finished = |(out, reader): (Vec<f32>, &Reader<'_>)| -> Result<Attended> {
        Ok(Attended::unwatched(Tensor::from_vec(out, (heads, reader.rows, dim), &Device::Cpu)?))
    };
    outs.into_iter().zip(&readers).map(finished).collect()
}

/// A sequence's rows in a panel.
type Part = (usize, Range<usize>);

/// Panels that are as full as they can be.
fn shared_panels(readers: &[Reader<'_>]) -> Vec<Vec<Part>> {
    let mut panels: Vec<Vec<Part>> = Vec::new();
    let mut free = 0;
    for (number, reader) in readers.iter().enumerate() {
        let mut row = 0;
        while row < reader.rows {
            if free == 0 {
                panels.push(Vec::new());
                free = QUERY_BLOCK;
            }
            let count = free.min(reader.rows - row);
            if let Some(panel) = panels.last_mut() {
                panel.push((number, row..row + count));
            }
            row += count;
            free -= count;
        }
    }
    panels
}

/// The outputs of one head, part by part.
fn shared_panel(
    readers: &[Reader<'_>],
    head: usize,
    panel: &[Part],
    common: usize,
    scratch: &mut Scratch,
) -> Result<Vec<Vec<f32>>> {
    let dim = readers[0].dim;
    let mut queries = Vec::new();
    for (number, rows) in panel {
        queries.extend_from_slice(&readers[*number].queries(head)?[rows.start * dim..rows.end * dim]);
    }
    let over = |reader: &Reader<'_>,
                queries: &[f32],
                chunks: Range<usize>,
                seen: Option<&[usize]>,
                scratch: &mut Scratch| {
        let slots = reader.slots(head, chunks, 0)?;
        let observe = Some(Observe { chunks: slots.len(), score: None, output: true });
        let input = AttentionInput { observe, output: false, ..reader.input(queries, &slots, seen) };
        Ok::<_, crate::Error>(attend_head(&input, scratch, &mut []).filter(|_| !slots.is_empty()))
    };
    let shared = over(&readers[panel[0].0], &queries, 0..common, None, scratch)?;
    let mut from = 0;
    let mut outs = Vec::with_capacity(panel.len());
    for (number, rows) in panel {
        let reader = &readers[*number];
        let own_queries = &queries[from * dim..(from + rows.len()) * dim];
        let seen = reader.seen(rows, 0);
        let own = over(reader, own_queries, common..reader.asker.chunks.len(), seen.as_deref(), scratch)?;
        let shared = shared.as_ref().map(|shared| Observation {
            max: shared.max[from..from + rows.len()].to_vec(),
            mass: shared.mass[from..from + rows.len()].to_vec(),
            output: shared.output[from * dim..(from + rows.len()) * dim].to_vec(),
            scores: Vec::new(),
        });
        let parts: Vec<&Observation> = shared.iter().chain(&own).collect();
        let mut out = vec![0.0; rows.len() * dim];
        Observation::merge(&parts, &mut out);
        outs.push(out);
        from += rows.len();
    }
    Ok(outs)
}
