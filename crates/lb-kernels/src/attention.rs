//! Attention of one KV head, slots in tiles: softmax weights are never there for all slots at once, and what each slot
//! got of them is summed up on the way.
//!
//! Logits, weights and outputs lie slot by slot with the queries side by side in packed panels
//! ([`microkernel`](super::microkernel)), so that keys and values are read where they are. The shift of the exponents is the
//! largest logit so far, and sums are rescaled when it grows (Milakov and Gimelshein, arXiv 1805.02867; FlashAttention,
//! arXiv 2205.14135).

use std::ops::Range;

use super::decode_attention::{DecodeScratch, MAX_QUERIES, decode_attention};
use super::float_slice::{FloatSlice, pack_pairs};
use super::kv_rows::KvRows;
use super::microkernel::{MatrixView, PANEL, PanelRow, matmul_panel_prefetching, pack_column};
use super::microkernel_bf16::{Bf16Microkernel, Bf16Pair};
use super::online_softmax::{AggregateColumns, OnlineSoftmax, QueryAgg};

/// Slots at a time: their logits for a panel of queries stay in the first or second cache.
const TILE: usize = 128;

/// A run of slots of one KV head.
#[derive(Clone, Copy, Debug)]
pub struct KvSlice<'a> {
    /// `[slots, head_dim]`.
    pub keys: KvRows<'a>,
    /// Like `keys`.
    pub values: KvRows<'a>,
    /// Added to the scaled logits, one for each slot; −∞ for padding.
    pub bias: Option<&'a [f32]>,
}

/// A block of queries of one KV head, and the slots that they attend to.
#[derive(Clone, Copy, Debug)]
pub struct AttentionInput<'a> {
    /// `[rows, head_dim]`, at most [`QUERY_BLOCK`] rows.
    pub queries: &'a [f32],
    /// Numbers in a row of queries, keys and values.
    pub head_dim: usize,
    /// What q · k is multiplied with, above 0; 1/√d as a rule.
    pub scale: f32,
    /// Runs of slots, each of at least one slot.
    pub chunks: &'a [KvSlice<'a>],
    /// By row, how many of the first slots of all chunks it does not see, fewer than it sees: a window. None without.
    pub hidden: Option<&'a [usize]>,
    /// By row, how many slots of the last chunk it sees, at least one: a causal mask. All of them without.
    pub visible: Option<&'a [usize]>,
    /// Whether queries and softmax weights may be rounded to bf16 for products with bf16 keys and values, where the
    /// machine multiplies bf16.
    pub allow_bf16: bool,
    /// Whether the output is wanted at the end; [`observe`](Self::observe) has its own.
    pub output: bool,
    /// What to note on the way.
    pub observe: Option<Observe>,
}

/// Rows of queries that [`attend`] takes at a time.
pub const QUERY_BLOCK: usize = PANEL;

/// What to note of the first chunks, as if the others were not there.
#[derive(Clone, Copy, Debug)]
pub struct Observe {
    /// How many chunks.
    pub chunks: usize,
    /// How the attention to a slot is aggregated over queries, where scores are wanted.
    pub score: Option<QueryAgg>,
    /// Whether the output over those chunks is wanted.
    pub output: bool,
}

/// What a block of queries saw of the first chunks.
#[derive(Clone, Debug, Default)]
pub struct Observation {
    /// Largest logit of each row.
    pub max: Vec<f32>,
    /// Σ exp(logit − max) of each row.
    pub mass: Vec<f32>,
    /// `[rows, head_dim]`, where wanted.
    pub output: Vec<f32>,
    /// By slot: sum of the weights, of their squares, or the largest, over the rows; where wanted.
    pub scores: Vec<f32>,
}

impl Observation {
    /// The attention over what several have seen together, row by row: outputs `[rows, head_dim]` to `out`.
    pub fn merge(parts: &[&Self], out: &mut [f32]) {
        let rows = parts.first().map_or(0, |part| part.max.len());
        let d = out.len() / rows.max(1);
        out.fill(0.0);
        for (row, out) in out.chunks_exact_mut(d.max(1)).enumerate() {
            let largest = parts.iter().fold(f32::NEG_INFINITY, |largest, part| largest.max(part.max[row]));
            let masses: Vec<f32> =
                parts.iter().map(|part| part.mass[row] * (part.max[row] - largest).exp()).collect();
            let inverse = 1.0 / masses.iter().sum::<f32>();
            for (part, mass) in parts.iter().zip(masses).filter(|(_, mass)| *mass > 0.0) {
                let share = mass * inverse;
                for (out, x) in out.iter_mut().zip(&part.output[row * d..]) {
                    *out += share * x;
                }
            }
        }
    }
}

/// Memory that one thread uses again and again.
#[derive(Default)]
pub struct Scratch {
    queries: Vec<PanelRow<f32>>,
    query_pairs: Vec<PanelRow<Bf16Pair>>,
    state: State,
    logits: Vec<PanelRow<f32>>,
    pairs: Vec<PanelRow<Bf16Pair>>,
    value_pairs: Vec<Bf16Pair>,
    wide: [Vec<f32>; 2],
    decode: DecodeScratch,
    /// Of each tile that is observed: its slots and its shift.
    shifts: Vec<(Range<usize>, PanelRow<f32>)>,
}

/// Running sums of a panel of queries.
struct State {
    max: PanelRow<f32>,
    mass: PanelRow<f32>,
    /// One row of the panel for each number of the output.
    output: Vec<PanelRow<f32>>,
}

impl Default for State {
    fn default() -> Self {
        Self { max: [f32::NEG_INFINITY; PANEL], mass: [0.0; PANEL], output: Vec::new() }
    }
}

/// Softmax attention of a block of queries over the slots of their head: `softmax(scale · q Kᵀ + bias) V`.
///
/// # Shapes
///
/// Writes `[rows, head_dim]` to `out` where [`AttentionInput::output`] says so.
///
/// # Numerics
///
/// f32 throughout, but for what [`AttentionInput::allow_bf16`] allows; even then logits, mass and sums are f32.
pub fn attend(input: &AttentionInput<'_>, scratch: &mut Scratch, out: &mut [f32]) -> Option<Observation> {
    let scored = input.observe.is_some_and(|observe| observe.score.is_some());
    if !scored && input.queries.len() <= MAX_QUERIES * input.head_dim {
        return decode_attention(input, &mut scratch.decode, out);
    }
    let work = Work::new(input);
    scratch.prepare(input, work.bf16.is_some());
    let observed_chunks = input.observe.map_or(0, |observe| observe.chunks);
    let mut slot = 0;
    let mut observed = None;
    for (index, chunk) in input.chunks.iter().enumerate() {
        let visible = input.visible.filter(|_| index + 1 == input.chunks.len());
        let observing = index < observed_chunks;
        let view = View { first: slot, hidden: input.hidden, visible, scored: observing && scored };
        slot += work.chunk(chunk, &view, observing, scratch);
        if index + 1 == observed_chunks {
            observed = input.observe.map(|observe| work.observed(observe, slot, scratch));
        }
    }
    if input.output {
        work.finish(&scratch.state, out);
    }
    observed
}

impl Scratch {
    fn prepare(&mut self, input: &AttentionInput<'_>, pairs: bool) {
        let (d, rows) = (input.head_dim, input.queries.chunks_exact(input.head_dim));
        if pairs {
            self.query_pairs.clear();
            self.query_pairs.resize(d / 2, [0; PANEL]);
            for (column, row) in rows.enumerate() {
                pack_pairs(row, &mut self.query_pairs, column);
            }
        } else {
            self.queries.clear();
            self.queries.resize(d, [0.0; PANEL]);
            for (column, row) in rows.enumerate() {
                pack_column(row, &mut self.queries, column);
            }
        }
        self.state.max = [f32::NEG_INFINITY; PANEL];
        self.state.mass = [0.0; PANEL];
        self.state.output.clear();
        self.state.output.resize(d, [0.0; PANEL]);
        self.shifts.clear();
    }
}

/// What stays the same over the tiles.
struct Work {
    rows: usize,
    head_dim: usize,
    scale: f32,
    bf16: Option<Bf16Microkernel>,
    /// Whether values are multiplied at all, before and behind the observed chunks.
    outputs: [bool; 2],
}

impl Work {
    fn new(input: &AttentionInput<'_>) -> Self {
        let d = input.head_dim;
        let bf16 = |rows: KvRows<'_>| matches!(rows, KvRows::Float(FloatSlice::Bf16(_)));
        let native = input.chunks.iter().all(|chunk| bf16(chunk.keys) && bf16(chunk.values));
        let observed = input.observe.is_some_and(|observe| observe.output);
        Self {
            rows: input.queries.len() / d,
            head_dim: d,
            scale: input.scale,
            bf16: Bf16Microkernel::detect().filter(|_| input.allow_bf16 && native && d.is_multiple_of(2)),
            outputs: [observed || input.output, input.output],
        }
    }

    /// One run of slots; returns how many.
    fn chunk(&self, chunk: &KvSlice<'_>, view: &View<'_>, observing: bool, scratch: &mut Scratch) -> usize {
        let slots = chunk.keys.rows(self.head_dim);
        let visible =
            view.visible.map_or(slots, |seen| seen.iter().copied().max().unwrap_or(slots).min(slots));
        for first in (0..visible).step_by(TILE) {
            let count = TILE.min(visible - first);
            let logits = if view.scored { view.first + first } else { 0 };
            if scratch.logits.len() < logits + count {
                scratch.logits.resize(logits + count.next_multiple_of(2), [0.0; PANEL]);
            }
            self.logits(chunk, first, &mut Tile { scratch, at: logits, count });
            if let Some(visible) = view.visible {
                mask_hidden(&mut scratch.logits[logits..logits + count], first, visible);
            }
            if let Some(hidden) = view.hidden {
                mask_first(&mut scratch.logits[logits..logits + count], view.first + first, hidden);
            }
            self.online_softmax(&mut Tile { scratch, at: logits, count }, view.scored);
            if self.outputs[usize::from(!observing)] {
                self.weigh(chunk, first, &mut Tile { scratch, at: logits, count });
            }
        }
        slots
    }

    /// Logits, before they are scaled.
    fn logits(&self, chunk: &KvSlice<'_>, first: usize, tile: &mut Tile<'_>) {
        let (d, count) = (self.head_dim, tile.count);
        let Scratch { logits, queries, query_pairs, wide, .. } = &mut *tile.scratch;
        let out = &mut logits[tile.at..tile.at + count];
        out.fill([0.0; PANEL]);
        for (line, bias) in out.iter_mut().zip(chunk.bias.map_or(&[][..], |bias| &bias[first..])) {
            *line = [bias / self.scale; PANEL];
        }
        if let (Some(bf16), KvRows::Float(keys @ FloatSlice::Bf16(_))) = (self.bf16, chunk.keys) {
            let next = keys.range_within((first + count) * d, TILE * d);
            let data = keys.range(first * d, count * d).bits();
            let rows = MatrixView { data, count, row_step: d, k_step: 2 };
            bf16.matmul_panel(rows, query_pairs, self.rows, out, next.bits());
        } else {
            let next = chunk.keys.bytes_within(first + count, TILE, d);
            let keys = MatrixView::packed(chunk.keys.tile(first, count, d, &mut wide[0]), count, d);
            matmul_panel_prefetching(keys, queries, self.rows, out, next);
        }
    }

    /// From logits to weights.
    fn online_softmax(&self, tile: &mut Tile<'_>, observed: bool) {
        let Scratch { logits, state, shifts, .. } = &mut *tile.scratch;
        let State { max, mass, output } = state;
        let weights = &mut logits[tile.at..tile.at + tile.count];
        OnlineSoftmax { weights, scale: self.scale, used: self.rows, max, mass, output }.run();
        if observed {
            shifts.push((tile.at..tile.at + tile.count, *max));
        }
    }

    /// Adds the values, weighted.
    fn weigh(&self, chunk: &KvSlice<'_>, first: usize, tile: &mut Tile<'_>) {
        let (d, count) = (self.head_dim, tile.count);
        let Scratch { logits, state, pairs, value_pairs, wide, .. } = &mut *tile.scratch;
        let (Some(bf16), KvRows::Float(values @ FloatSlice::Bf16(_))) = (self.bf16, chunk.values) else {
            let next = chunk.values.bytes_within(first + count, TILE, d);
            let values = MatrixView::columns(chunk.values.tile(first, count, d, &mut wide[1]), d);
            let weights = &logits[tile.at..tile.at + count];
            return matmul_panel_prefetching(values, weights, self.rows, &mut state.output, next);
        };
        let next = values.range_within((first + count) * d, TILE * d);
        let values = values.range(first * d, count * d);
        let lines = count.div_ceil(2);
        pairs.resize(lines, [0; PANEL]);
        value_pairs.resize(lines * d, 0);
        let none = [0f32; PANEL];
        let used = self.rows.next_multiple_of(16);
        let zeros = vec![0u16; if count % 2 == 1 { d } else { 0 }];
        for line in 0..lines {
            let slot = 2 * line;
            let odd = if slot + 1 < count { &logits[tile.at + slot + 1] } else { &none };
            bf16.pairs(&logits[tile.at + slot][..used], &odd[..used], &mut pairs[line][..used]);
            let bits = &values.bits()[slot * d..];
            let odd = if slot + 1 < count { &bits[d..2 * d] } else { &zeros };
            bf16.interleave(&bits[..d], odd, &mut value_pairs[line * d..(line + 1) * d]);
        }
        let value_pairs: &[u16] = bytemuck::cast_slice(value_pairs);
        let rows = MatrixView { data: value_pairs, count: d, row_step: 2, k_step: 2 * d };
        bf16.matmul_panel(rows, pairs, self.rows, &mut state.output, next.bits());
    }

    /// What the `slots` first slots have come to.
    fn observed(&self, observe: Observe, slots: usize, scratch: &mut Scratch) -> Observation {
        let Scratch { logits, state, shifts, .. } = scratch;
        let mut observed = Observation {
            max: state.max[..self.rows].to_vec(),
            mass: state.mass[..self.rows].to_vec(),
            output: Vec::new(),
            scores: Vec::new(),
        };
        if observe.output {
            observed.output.resize(self.rows * self.head_dim, 0.0);
            self.finish(state, &mut observed.output);
        }
        let Some(score) = observe.score else { return observed };
        observed.scores.resize(slots, 0.0);
        for (tile, shift) in shifts {
            let mut factors = [0.0; PANEL];
            for (column, factor) in factors.iter_mut().enumerate().take(self.rows) {
                *factor = (shift[column] - state.max[column]).exp() / state.mass[column];
            }
            let (weights, scores) = (&logits[tile.clone()], &mut observed.scores[tile.clone()]);
            AggregateColumns { weights, factors: &factors, used: self.rows, score, scores }.run();
        }
        observed
    }

    /// Output divided by mass, row by row.
    fn finish(&self, state: &State, out: &mut [f32]) {
        for (row, out) in out.chunks_exact_mut(self.head_dim).enumerate().take(self.rows) {
            let inverse = 1.0 / state.mass[row];
            for (out, line) in out.iter_mut().zip(&state.output) {
                *out = line[row] * inverse;
            }
        }
    }
}

/// What rows see of a run of slots, and whether their scores are wanted.
struct View<'a> {
    /// Slots before the run.
    first: usize,
    hidden: Option<&'a [usize]>,
    visible: Option<&'a [usize]>,
    scored: bool,
}

/// A tile's place in the logits.
struct Tile<'a> {
    scratch: &'a mut Scratch,
    at: usize,
    count: usize,
}

/// Sets the logits of the first slots of all that a row does not see to −∞.
fn mask_first(logits: &mut [PanelRow<f32>], first: usize, hidden: &[usize]) {
    if hidden.iter().all(|hidden| *hidden <= first) {
        return;
    }
    for (slot, line) in (first..).zip(logits) {
        for (logit, hidden) in line.iter_mut().zip(hidden) {
            if slot < *hidden {
                *logit = f32::NEG_INFINITY;
            }
        }
    }
}

/// Sets the logits of slots that a row does not see to −∞.
fn mask_hidden(logits: &mut [PanelRow<f32>], first: usize, seen: &[usize]) {
    if seen.iter().all(|seen| *seen >= first + logits.len()) {
        return;
    }
    for (slot, line) in (first..).zip(logits) {
        for (logit, seen) in line.iter_mut().zip(seen) {
            if slot >= *seen {
                *logit = f32::NEG_INFINITY;
            }
        }
    }
}
