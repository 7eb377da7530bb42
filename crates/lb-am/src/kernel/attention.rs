//! Attention of one KV head, slots in tiles: softmax weights are never there for all slots at once, and what each slot
//! got of them is summed up on the way.
//!
//! Logits, weights and outputs lie slot by slot with the queries side by side ([`tile`](super::tile)), so that keys and
//! values are read where they are. The shift of the exponents is the largest logit so far, and sums are rescaled when it
//! grows (Milakov and Gimelshein, arXiv 1805.02867; FlashAttention, arXiv 2205.14135).

use std::ops::Range;

use super::dots::{Dots, Pair};
use super::glance::{GLANCE, Memory, glance};
use super::numbers::{Numbers, put_pairs};
use super::soften::{ScoreColumns, Soften};
use super::tile::{Line, PANEL, Rows, multiply_ahead, put_column};
use crate::config::ScoreAgg;

/// Slots at a time: their logits for a panel of queries stay in the first or second cache.
const TILE: usize = 128;

/// Slots of one head.
#[derive(Clone, Copy, Debug)]
pub struct Slots<'a> {
    /// `[slots, head_dim]`.
    pub keys: Numbers<'a>,
    /// Like `keys`.
    pub values: Numbers<'a>,
    /// Added to the logits, one for each slot.
    pub bias: Option<&'a [f32]>,
}

/// What queries of one head ask of its slots.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// `[rows, head_dim]`, at most [`ROWS`] rows.
    pub queries: &'a [f32],
    /// Numbers in a row of queries, keys and values.
    pub head_dim: usize,
    /// Runs of slots, each of at least one slot.
    pub chunks: &'a [Slots<'a>],
    /// By row, how many of the first slots of all chunks it does not see, fewer than it sees; none without.
    pub hidden: Option<&'a [usize]>,
    /// By row, how many slots of the last chunk it sees, at least one; all of them without.
    pub seen: Option<&'a [usize]>,
    /// Whether queries and softmax weights may be rounded to bf16 for products with bf16 keys and values, where the
    /// machine multiplies bf16.
    pub round: bool,
    /// Whether the output is wanted at the end; [`watch`](Self::watch) has its own.
    pub output: bool,
    /// What to note on the way.
    pub watch: Option<Watch>,
}

/// Rows of queries that are answered at a time.
pub const ROWS: usize = PANEL;

/// What to note of the first chunks, as if the others were not there.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    /// How many chunks.
    pub chunks: usize,
    /// How the attention to a slot is aggregated over queries, where scores are wanted.
    pub score: Option<ScoreAgg>,
    /// Whether the output over those chunks is wanted.
    pub output: bool,
}

/// What was noted.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    /// Largest logit of each row.
    pub max: Vec<f32>,
    /// Σ exp(logit − max) of each row.
    pub mass: Vec<f32>,
    /// `[rows, head_dim]`, where wanted.
    pub output: Vec<f32>,
    /// By slot: sum of the weights, of their squares, or the largest, over the rows; where wanted.
    pub scores: Vec<f32>,
}

impl Watched {
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
    queries: Vec<Line<f32>>,
    query_pairs: Vec<Line<Pair>>,
    state: State,
    logits: Vec<Line<f32>>,
    pairs: Vec<Line<Pair>>,
    value_pairs: Vec<Pair>,
    wide: [Vec<f32>; 2],
    glance: Memory,
    /// Of each tile that is watched: its slots and its shift.
    shifts: Vec<(Range<usize>, Line<f32>)>,
}

/// Running sums of a panel of queries.
struct State {
    max: Line<f32>,
    mass: Line<f32>,
    /// One line for each number of the output.
    output: Vec<Line<f32>>,
}

impl Default for State {
    fn default() -> Self {
        Self { max: [f32::NEG_INFINITY; PANEL], mass: [0.0; PANEL], output: Vec::new() }
    }
}

/// Softmax attention of a few queries over the slots of their head: `softmax(q Kᵀ/√d + bias) V`.
///
/// # Shapes
///
/// Writes `[rows, head_dim]` to `out` where [`Question::output`] says so.
///
/// # Numerics
///
/// f32 throughout, but for what [`Question::round`] allows; even then logits, mass and sums are f32.
pub fn attend(question: &Question<'_>, scratch: &mut Scratch, out: &mut [f32]) -> Option<Watched> {
    let scored = question.watch.is_some_and(|watch| watch.score.is_some());
    if !scored && question.queries.len() <= GLANCE * question.head_dim {
        return glance(question, &mut scratch.glance, out);
    }
    let work = Work::new(question);
    scratch.prepare(question, work.dots.is_some());
    let watched_chunks = question.watch.map_or(0, |watch| watch.chunks);
    let mut slot = 0;
    let mut watched = None;
    for (index, chunk) in question.chunks.iter().enumerate() {
        let seen = question.seen.filter(|_| index + 1 == question.chunks.len());
        let watching = index < watched_chunks;
        let view = View { first: slot, hidden: question.hidden, seen, scored: watching && scored };
        slot += work.chunk(chunk, &view, watching, scratch);
        if index + 1 == watched_chunks {
            watched = question.watch.map(|watch| work.watched(watch, slot, scratch));
        }
    }
    if question.output {
        work.finish(&scratch.state, out);
    }
    watched
}

impl Scratch {
    fn prepare(&mut self, question: &Question<'_>, pairs: bool) {
        let (d, rows) = (question.head_dim, question.queries.chunks_exact(question.head_dim));
        if pairs {
            self.query_pairs.clear();
            self.query_pairs.resize(d / 2, [0; PANEL]);
            for (column, row) in rows.enumerate() {
                put_pairs(row, &mut self.query_pairs, column);
            }
        } else {
            self.queries.clear();
            self.queries.resize(d, [0.0; PANEL]);
            for (column, row) in rows.enumerate() {
                put_column(row, &mut self.queries, column);
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
    dots: Option<Dots>,
    /// Whether values are multiplied at all, before and behind the watched chunks.
    outputs: [bool; 2],
}

impl Work {
    fn new(question: &Question<'_>) -> Self {
        let d = question.head_dim;
        let native = question
            .chunks
            .iter()
            .all(|chunk| matches!((chunk.keys, chunk.values), (Numbers::Bf16(_), Numbers::Bf16(_))));
        let watched = question.watch.is_some_and(|watch| watch.output);
        Self {
            rows: question.queries.len() / d,
            head_dim: d,
            scale: 1.0 / (d as f32).sqrt(),
            dots: Dots::detect().filter(|_| question.round && native && d.is_multiple_of(2)),
            outputs: [watched || question.output, question.output],
        }
    }

    /// One run of slots; returns how many.
    fn chunk(&self, chunk: &Slots<'_>, view: &View<'_>, watching: bool, scratch: &mut Scratch) -> usize {
        let slots = chunk.keys.len() / self.head_dim;
        let visible = view.seen.map_or(slots, |seen| seen.iter().copied().max().unwrap_or(slots).min(slots));
        for first in (0..visible).step_by(TILE) {
            let count = TILE.min(visible - first);
            let logits = if view.scored { view.first + first } else { 0 };
            if scratch.logits.len() < logits + count {
                scratch.logits.resize(logits + count.next_multiple_of(2), [0.0; PANEL]);
            }
            self.logits(chunk, first, &mut Tile { scratch, at: logits, count });
            if let Some(seen) = view.seen {
                hide(&mut scratch.logits[logits..logits + count], first, seen);
            }
            if let Some(hidden) = view.hidden {
                hide_first(&mut scratch.logits[logits..logits + count], view.first + first, hidden);
            }
            self.soften(&mut Tile { scratch, at: logits, count }, view.scored);
            if self.outputs[usize::from(!watching)] {
                self.weigh(chunk, first, &mut Tile { scratch, at: logits, count });
            }
        }
        slots
    }

    /// Logits, before they are scaled.
    fn logits(&self, chunk: &Slots<'_>, first: usize, tile: &mut Tile<'_>) {
        let (d, count) = (self.head_dim, tile.count);
        let Scratch { logits, queries, query_pairs, wide, .. } = &mut *tile.scratch;
        let out = &mut logits[tile.at..tile.at + count];
        out.fill([0.0; PANEL]);
        for (line, bias) in out.iter_mut().zip(chunk.bias.map_or(&[][..], |bias| &bias[first..])) {
            *line = [bias / self.scale; PANEL];
        }
        let keys = chunk.keys.range(first * d, count * d);
        let next = chunk.keys.range_within((first + count) * d, TILE * d);
        if let (Some(dots), Numbers::Bf16(_)) = (self.dots, keys) {
            let rows = Rows { data: keys.bits(), count, row_step: d, k_step: 2 };
            dots.multiply(rows, query_pairs, self.rows, out, next.bits());
        } else {
            let keys = Rows::packed(keys.wide(&mut wide[0]), count, d);
            multiply_ahead(keys, queries, self.rows, out, next.bytes());
        }
    }

    /// From logits to weights.
    fn soften(&self, tile: &mut Tile<'_>, watched: bool) {
        let Scratch { logits, state, shifts, .. } = &mut *tile.scratch;
        let State { max, mass, output } = state;
        let weights = &mut logits[tile.at..tile.at + tile.count];
        Soften { weights, scale: self.scale, used: self.rows, max, mass, output }.run();
        if watched {
            shifts.push((tile.at..tile.at + tile.count, *max));
        }
    }

    /// Adds the values, weighted.
    fn weigh(&self, chunk: &Slots<'_>, first: usize, tile: &mut Tile<'_>) {
        let (d, count) = (self.head_dim, tile.count);
        let Scratch { logits, state, pairs, value_pairs, wide, .. } = &mut *tile.scratch;
        let values = chunk.values.range(first * d, count * d);
        let next = chunk.values.range_within((first + count) * d, TILE * d);
        let (Some(dots), Numbers::Bf16(_)) = (self.dots, values) else {
            let values = Rows::columns(values.wide(&mut wide[1]), d);
            let weights = &logits[tile.at..tile.at + count];
            return multiply_ahead(values, weights, self.rows, &mut state.output, next.bytes());
        };
        let lines = count.div_ceil(2);
        pairs.resize(lines, [0; PANEL]);
        value_pairs.resize(lines * d, 0);
        let none = [0f32; PANEL];
        let used = self.rows.next_multiple_of(16);
        let zeros = vec![0u16; if count % 2 == 1 { d } else { 0 }];
        for line in 0..lines {
            let slot = 2 * line;
            let odd = if slot + 1 < count { &logits[tile.at + slot + 1] } else { &none };
            dots.pairs(&logits[tile.at + slot][..used], &odd[..used], &mut pairs[line][..used]);
            let bits = &values.bits()[slot * d..];
            let odd = if slot + 1 < count { &bits[d..2 * d] } else { &zeros };
            dots.interleave(&bits[..d], odd, &mut value_pairs[line * d..(line + 1) * d]);
        }
        let value_pairs: &[u16] = bytemuck::cast_slice(value_pairs);
        let rows = Rows { data: value_pairs, count: d, row_step: 2, k_step: 2 * d };
        dots.multiply(rows, pairs, self.rows, &mut state.output, next.bits());
    }

    /// What the `slots` first slots have come to.
    fn watched(&self, watch: Watch, slots: usize, scratch: &mut Scratch) -> Watched {
        let Scratch { logits, state, shifts, .. } = scratch;
        let mut watched = Watched {
            max: state.max[..self.rows].to_vec(),
            mass: state.mass[..self.rows].to_vec(),
            output: Vec::new(),
            scores: Vec::new(),
        };
        if watch.output {
            watched.output.resize(self.rows * self.head_dim, 0.0);
            self.finish(state, &mut watched.output);
        }
        let Some(score) = watch.score else { return watched };
        watched.scores.resize(slots, 0.0);
        for (tile, shift) in shifts {
            let mut factors = [0.0; PANEL];
            for (column, factor) in factors.iter_mut().enumerate().take(self.rows) {
                *factor = (shift[column] - state.max[column]).exp() / state.mass[column];
            }
            let (weights, scores) = (&logits[tile.clone()], &mut watched.scores[tile.clone()]);
            ScoreColumns { weights, factors: &factors, used: self.rows, score, scores }.run();
        }
        watched
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
    seen: Option<&'a [usize]>,
    scored: bool,
}

/// A tile's place in the logits.
struct Tile<'a> {
    scratch: &'a mut Scratch,
    at: usize,
    count: usize,
}

/// Takes the logits of the first slots of all that a row does not see.
fn hide_first(logits: &mut [Line<f32>], first: usize, hidden: &[usize]) {
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

/// Takes the logits of slots that a row does not see.
fn hide(logits: &mut [Line<f32>], first: usize, seen: &[usize]) {
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
