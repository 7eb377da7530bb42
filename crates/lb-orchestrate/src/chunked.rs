//! A trajectory compacted piece by piece (AM, arXiv 2602.16284, chunked compaction).

use std::ops::Range;
use std::time::{Duration, Instant};

use candle_core::Tensor;
use lb_am::{Compacted, CompactedLayer, Compaction, Compactor, LayerKv, Observed};
use lb_model::KvCache;
use serde::{Deserialize, Serialize};

use crate::brief::{Asked, Made, kept_by};
use crate::session::WorkerSession;
use crate::{BriefConfig, Error, Result, merge};

/// How a trajectory is cut for its compaction. Everything that a [`Compaction`] says of a cache, budgets above all, is
/// then said of each chunk: a ratio of 0.1 keeps a tenth of every chunk, and a kept length that many positions in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chunking {
    /// Positions of a chunk, at least 1; the last chunk may be shorter.
    pub chunk_len: usize,
    /// What a chunk is.
    pub mode: ChunkMode,
}

/// What a chunk is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ChunkMode {
    /// A range of the full cache. Each is compacted on its own by the same queries, so that the mass of the whole and
    /// its output are the sums of the parts'; the compaction never needs more memory than one chunk.
    #[default]
    InPlace,
    /// A piece of the text, read on its own right behind the template's head with the task behind it, compacted there,
    /// and its keys then rotated to where the piece stands in the whole. Tokens of a chunk have not seen the chunks
    /// before. The chunk, the head and the task together must fit the model; the first chunk has the head in addition.
    /// Where room was made ([`RoomPolicy`](crate::RoomPolicy)), the tokens that are left are read as if they were the text.
    Rerotated,
}

impl Chunking {
    /// Ranges of the full cache.
    pub fn in_place(chunk_len: usize) -> Self {
        Self { chunk_len, mode: ChunkMode::InPlace }
    }

    /// Pieces of the text that are read on their own.
    pub fn rerotated(chunk_len: usize) -> Self {
        Self { chunk_len, mode: ChunkMode::Rerotated }
    }

    /// Checks every range.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field.
    pub fn validate(&self) -> Result<()> {
        if self.chunk_len == 0 {
            return Err(Error::config("chunking.chunk_len", 0, "want at least 1"));
        }
        Ok(())
    }
}

/// A chunk's slots stand for the positions `from..to`.
struct Piece {
    from: usize,
    to: usize,
    compacted: Compacted,
}

impl WorkerSession {
    /// Compacts the full cache range by range; without chunks, as one range.
    pub(crate) fn in_place(&self, asked: Asked, config: &BriefConfig) -> Result<Made> {
        let mut made = self.in_place_for(vec![asked], config)?;
        made.pop().unwrap_or(Err(Error::Empty { arg: "task" }))
    }

    /// The same for several tasks; each layer of a range is handed out once for all.
    pub(crate) fn in_place_for(&self, asked: Vec<Asked>, config: &BriefConfig) -> Result<Vec<Result<Made>>> {
        let chunk_len = config.chunking.map_or(self.held.tokens.len(), |chunking| chunking.chunk_len);
        let mut pieces: Vec<Result<Vec<Piece>>> = asked.iter().map(|_| Ok(Vec::new())).collect();
        for (from, to) in ranges(0, self.held.tokens.len(), chunk_len) {
            self.watch.check()?;
            let layers = self.worker.config().of_global_layers(self.held.cache.layer_views(from, to)?);
            for (asked, pieces) in asked.iter().zip(&mut pieces) {
                let Ok(done) = pieces else { continue };
                let seen = (&asked.queries[..], asked.observed.as_deref());
                let compacted = self.compact_piece(&layers, seen, &config.compaction, from, to);
                match compacted.and_then(|c| self.with_windows(c, &self.held.cache, &(from..to), to)) {
                    Ok(compacted) => done.push(Piece { from, to, compacted }),
                    Err(error) => *pieces = Err(error),
                }
            }
        }
        let made = |(asked, pieces): (Asked, Result<Vec<Piece>>)| {
            let Asked { reused, prefilled, elapsed, .. } = asked;
            Ok(Made { reused, prefilled, queries: elapsed, ..self.join(pieces?)? })
        };
        Ok(asked.into_iter().zip(pieces).map(made).collect())
    }

    /// Reads, compacts and moves the text piece by piece.
    pub(crate) fn rerotated(&self, task: &[u32], compaction: &Compaction, chunk_len: usize) -> Result<Made> {
        let head = self.prompt.head.len();
        let (mut prefilled, mut reading, mut pieces) = (0, Duration::ZERO, Vec::new());
        for (from, to) in ranges(head, self.held.tokens.len(), chunk_len) {
            let start = Instant::now();
            let first = from == head;
            // The first piece stands where it would be read anyway.
            let mut local = self.held.cache.fork();
            local.truncate(if first { to } else { head })?;
            if !first {
                self.prefill(&self.held.tokens[from..to], &mut local)?;
                prefilled += to - from;
            }
            let mut asked = local.fork();
            let captured = self.capture(task, &mut asked)?;
            prefilled += task.len();
            reading += start.elapsed();
            let (from, own) = if first { (0, 0) } else { (from, head) };
            let slots = own..local.logical_len();
            let layers = local.layers_range(slots.start, slots.end)?;
            let layers = self.worker.config().of_global_layers(layers);
            let compacted = self.compact_piece(&layers, (&captured.queries, None), compaction, from, to)?;
            let mut compacted = self.with_windows(compacted, &local, &slots, to)?;
            for (index, layer) in compacted.layers.iter_mut().enumerate() {
                layer.keys = self.moved(index, layer, own, from)?;
            }
            pieces.push(Piece { from, to, compacted });
        }
        Ok(Made { prefilled, queries: reading, ..self.join(pieces)? })
    }

    /// Compacts the layers that attend to everything.
    fn compact_piece(
        &self,
        layers: &[LayerKv],
        (queries, observed): (&[Tensor], Option<&[Observed]>),
        compaction: &Compaction,
        from: usize,
        to: usize,
    ) -> Result<Compacted> {
        let compaction = self.protecting(compaction, from, to);
        let units = self.units_of(compaction.spans, from, to);
        let queries = self.worker.config().of_global_layers(queries.to_vec());
        let compactor = Compactor::new(layers, &queries, &compaction);
        let compactor = match observed {
            Some(observed) => compactor.observed(observed),
            None => compactor,
        };
        Ok(self.knowing(compactor, units.as_deref()).run()?)
    }

    /// Every layer of a piece whose slots in `cache` are `slots` and which ends at `to`: those with a window keep what tokens
    /// behind the trajectory see.
    fn with_windows(
        &self,
        mut compacted: Compacted,
        cache: &KvCache,
        slots: &Range<usize>,
        to: usize,
    ) -> Result<Compacted> {
        let behind = self.held.tokens.len() - to;
        compacted.layers = cache.with_windows(compacted.layers, slots, behind)?;
        Ok(compacted)
    }

    /// The keys of a layer whose first slot was read at position `own` and stands for `from`.
    fn moved(&self, index: usize, layer: &CompactedLayer, own: usize, from: usize) -> Result<Tensor> {
        let (model, by, slots) = (self.worker.model(), (from - own).cast_signed(), layer.keys.dim(1)?);
        // What fills up a shorter head is zero wherever it is.
        let positions = |list: &[u32]| -> Vec<u32> {
            let filled = list.iter().copied().chain(std::iter::repeat(0)).take(slots);
            filled.map(|slot| own as u32 + slot).collect()
        };
        if layer.kept.is_shared() {
            return Ok(model.rerotate(index, &layer.keys, &positions(layer.kept.head(0)), by)?);
        }
        let heads = (0..layer.keys.dim(0)?)
            .map(|head| {
                let keys = layer.keys.narrow(0, head, 1)?;
                model.rerotate(index, &keys, &positions(layer.kept.head(head)), by)
            })
            .collect::<lb_model::Result<Vec<_>>>()?;
        Ok(Tensor::cat(&heads, 0)?)
    }

    fn join(&self, pieces: Vec<Piece>) -> Result<Made> {
        let mut cache = self.worker.model().new_cache();
        let (mut reports, mut parts) = (Vec::new(), Vec::new());
        for Piece { from, to, compacted } in pieces {
            cache.append_compacted(&compacted.layers, to - from)?;
            reports.push(compacted.report);
            parts.push((from, self.worker.config().of_global_layers(compacted.layers)));
        }
        Ok(Made {
            cache,
            kept_by: kept_by(&parts, self.held.tokens.len()),
            report: merge::of_chunks(reports).ok_or(Error::Empty { arg: "trajectory" })?,
            reused: None,
            prefilled: 0,
            queries: Duration::ZERO,
        })
    }
}

fn ranges(start: usize, end: usize, len: usize) -> impl Iterator<Item = (usize, usize)> {
    (start..end).step_by(len).map(move |from| (from, from.saturating_add(len).min(end)))
}
