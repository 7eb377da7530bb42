//! Two levels of compaction: chunks once, without a task; then, for each task, the chunks that it looks at and what it looks at in them.
//!
//! After CCF (*CCF: A Context Compression Framework for Efficient Long-Sequence Language Modeling*, arXiv 2509.09199), which trains a model to
//! put a segment into a few latents, and reads on over these. Here nothing is trained. A segment's latents are slots of its own cache, kept by
//! the queries with which the worker reads the segment once more after a request to repeat it (as KVzip, arXiv 2505.23416), with biases and
//! values fitted to them ([`Compactor`]). They are made once for a trajectory, and a worker that has them needs the full cache no more. A task
//! is read behind the latents; the chunks with the most of its attention are picked, and their latents cut to the size that is asked for, by
//! the queries of the task and, where a draft is asked for, of an answer that was drafted over a first such cut.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use candle_core::{DType, Tensor};
use lb_am::{
    CompactedLayer, Compaction, Compactor, HeadAgg, Kept, LayerKv, Protected, ScoreAgg, Sharing,
    layer_position_scores, registry::Spec,
};
use lb_model::{KvCache, Worker};
use lb_session::{Error as SessionError, Handoff, SelectionSize, WorkerSession};

use crate::views::{Views, capture};
use crate::{Error, Result};

/// The name in conditions.
pub const HIERARCHICAL: &str = "hierarchical";

/// Queries by which a chunk is compacted; more bring nothing.
const QUERIES: usize = 128;

/// How a trajectory is compacted on two levels: `hierarchical:keep=0.1,held=0.3,chunk=256,picked=0.5,draft=32`.
#[derive(Clone, Debug, PartialEq)]
pub struct Hierarchy {
    /// What a task gets, of all positions.
    pub size: SelectionSize,
    /// What stays of a chunk without a task, above 0 to 1. Default: 0.3.
    pub held: f64,
    /// Positions of a chunk, at least 16. Default: 256.
    pub chunk: usize,
    /// Share of the chunks that a task picks, above 0 to 1; the first, with the template's head, is always there. Default: 0.5.
    pub picked: f64,
    /// Tokens of an answer that is drafted over a first cut; 0 for none. Default: 32.
    pub draft: usize,
}

impl FromStr for Hierarchy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let spec: Spec = text.parse().map_err(SessionError::from)?;
        let mut made =
            Self { size: SelectionSize::KeepRatio(0.1), held: 0.3, chunk: 256, picked: 0.5, draft: 32 };
        for (key, value) in spec.arguments() {
            let share = |field: &'static str| match value.parse::<f64>() {
                Ok(share) if share > 0.0 && share <= 1.0 => Ok(share),
                _ => Err(Error::config(field, value, "want a share above 0, at most 1")),
            };
            let count = |field: &'static str, least: usize, most: usize, reason: &'static str| match value
                .parse::<usize>(
            ) {
                Ok(count) if (least..=most).contains(&count) => Ok(count),
                _ => Err(Error::config(field, value, reason)),
            };
            match key.as_str() {
                "keep" => made.size = size(value)?,
                "held" => made.held = share("held")?,
                "picked" => made.picked = share("picked")?,
                "chunk" => made.chunk = count("chunk", 16, 1 << 16, "want 16 to 65536 positions")?,
                "draft" => made.draft = count("draft", 0, 512, "want at most 512 tokens")?,
                _ => {
                    return Err(Error::config(
                        "hierarchical",
                        key,
                        "is unknown; want keep, held, chunk, picked or draft",
                    ));
                }
            }
        }
        Ok(made)
    }
}

/// A size as a briefing has it.
fn size(value: &str) -> Result<SelectionSize> {
    let Handoff::LatentBriefing(config) = format!("latent-briefing:keep={value}").parse()? else {
        return Err(Error::config("keep", value, "want a size"));
    };
    Ok(match config.compaction.budget {
        lb_am::Budget::KeptLen(len) => SelectionSize::KeptLen(len),
        lb_am::Budget::KeepRatio(ratio) => SelectionSize::KeepRatio(ratio),
        _ => return Err(Error::config("keep", value, "want a size")),
    })
}

/// The latents of a trajectory: each chunk compacted by itself, and how many slots of it each has. All heads have as many.
pub(crate) struct Latents {
    layers: Vec<LayerKv>,
    slots: Vec<usize>,
    seq_len: usize,
}

/// Latents that were made before, by what they were made with.
#[derive(Default)]
pub(crate) struct Known(HashMap<(u64, usize), Latents>);

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Known({})", self.0.len())
    }
}

impl Hierarchy {
    /// What a task gets, in a cache of its own, and how long that took; the latents, which are made once, are not counted in.
    pub(crate) fn cut(
        &self,
        session: &WorkerSession,
        views: &Views,
        known: &mut Known,
        task: &[u32],
    ) -> Result<(KvCache, Duration)> {
        let key = (self.held.to_bits(), self.chunk);
        let latents = match known.0.entry(key) {
            Entry::Occupied(made) => made.into_mut(),
            Entry::Vacant(none) => none.insert(self.latents(session, views)?),
        };
        let (start, worker) = (Instant::now(), session.worker());
        let whole = cache(worker, &latents.layers, latents.seq_len)?;
        let read = capture(session, task, &mut whole.fork())?;
        let layers = self.pick(latents, &read.queries)?;
        let mut made = self.compacted(session, &layers, &read.queries, latents.seq_len)?;
        if self.draft > 0 {
            let draft = draft(worker, &made, task, self.draft)?;
            let read: Vec<u32> = task.iter().chain(&draft).copied().collect();
            let picked = cache(worker, &layers, latents.seq_len)?;
            let queries = capture(session, &read, &mut picked.fork())?.queries;
            made = self.compacted(session, &layers, &queries, latents.seq_len)?;
        }
        Ok((made, start.elapsed()))
    }

    /// Each chunk, compacted by the queries with which it is read once more.
    fn latents(&self, session: &WorkerSession, views: &Views) -> Result<Latents> {
        let (seq_len, model) = (session.seq_len(), session.worker().model());
        let repeat = views.repeat(session)?;
        // Behind the request, one query for each token of the trajectory.
        let asked = repeat[0].dim(1)? / session.worker().config().group_size() - seq_len;
        let config = Compaction::keep_ratio(self.held)
            .with_sharing(Sharing::Equal)
            .with_protect(Protected { first: 0, last: 0 });
        let (mut parts, mut slots) = (Vec::new(), Vec::new());
        for from in (0..seq_len).step_by(self.chunk) {
            let len = self.chunk.min(seq_len - from);
            let chunk: Vec<LayerKv> =
                views.layers.iter().map(|layer| part(layer, from, len)).collect::<Result<_>>()?;
            let count = len.min(QUERIES);
            let tokens: Vec<u32> = (0..count).map(|n| (asked + from + n * len / count) as u32).collect();
            let queries = model.pick_queries(repeat, &tokens).map_err(SessionError::from)?;
            // The template's head is there for every task.
            let protect =
                Protected { first: if from == 0 { session.head_len().min(len) } else { 0 }, last: 0 };
            let config = config.clone().with_protect(protect);
            let made = Compactor::new(&chunk, &queries, &config)
                .group_size(session.worker().config().group_size())
                .run()
                .map_err(SessionError::from)?;
            slots.push(made.layers[0].kept_len());
            parts.push(made.layers);
        }
        let layer = |number: usize| {
            let of = |tensor: fn(&CompactedLayer) -> &Tensor| -> Result<Tensor> {
                let all: Vec<&Tensor> = parts.iter().map(|part| tensor(&part[number])).collect();
                Ok(Tensor::cat(&all, 1)?)
            };
            let bias = of(|layer| &layer.bias)?;
            let made = LayerKv::new(of(|layer| &layer.keys)?, of(|layer| &layer.values)?, Some(bias));
            Ok(made.map_err(SessionError::from)?.with_scale(views.layers[number].scale))
        };
        let layers = (0..views.layers.len()).map(layer).collect::<Result<_>>()?;
        Ok(Latents { layers, slots, seq_len })
    }

    /// The latents of the chunks that the task looks at most.
    fn pick(&self, latents: &Latents, queries: &[Tensor]) -> Result<Vec<LayerKv>> {
        let count = ((latents.slots.len() as f64 * self.picked).ceil() as usize).max(1);
        let scores = layer_position_scores(&latents.layers, queries, ScoreAgg::Mean, HeadAgg::Mean);
        let scores = scores.map_err(SessionError::from)?;
        let mut begin = 0;
        let mut chunks: Vec<(usize, std::ops::Range<usize>, f64)> = Vec::new();
        for (number, slots) in latents.slots.iter().enumerate() {
            let range = begin..begin + slots;
            begin += slots;
            let sum = |layer: &Vec<f32>| layer[range.clone()].iter().copied().map(f64::from).sum::<f64>();
            let mass = scores.iter().map(sum).sum();
            chunks.push((number, range, mass));
        }
        // The first is there in any case; of equals the earlier one.
        chunks[1..].sort_by(|one, other| other.2.total_cmp(&one.2).then(one.0.cmp(&other.0)));
        chunks.truncate(count);
        chunks.sort_by_key(|(number, _, _)| *number);
        let slots: Vec<u32> =
            chunks.into_iter().flat_map(|(_, range, _)| range).map(|slot| slot as u32).collect();
        let picked = |layer: &LayerKv| {
            let index = Tensor::new(slots.as_slice(), layer.keys.device())?;
            let pick = |x: &Tensor| x.contiguous()?.index_select(&index, 1);
            let bias = layer.bias.as_ref().map(pick).transpose()?;
            let made = LayerKv::new(pick(&layer.keys)?, pick(&layer.values)?, bias);
            Ok(made.map_err(SessionError::from)?.with_scale(layer.scale))
        };
        latents.layers.iter().map(picked).collect()
    }

    fn compacted(
        &self,
        session: &WorkerSession,
        layers: &[LayerKv],
        queries: &[Tensor],
        seq_len: usize,
    ) -> Result<KvCache> {
        let kept = self.size.resolve(seq_len)?.min(layers[0].seq_len());
        let config = Compaction::kept_len(kept);
        let made = Compactor::new(layers, queries, &config)
            .group_size(session.worker().config().group_size())
            .run()
            .map_err(SessionError::from)?;
        Ok(KvCache::from_compacted(&made, seq_len, session.worker().config()).map_err(SessionError::from)?)
    }
}

/// The positions `from..from + len` of a layer.
fn part(layer: &LayerKv, from: usize, len: usize) -> Result<LayerKv> {
    let narrow = |x: &Tensor| x.narrow(1, from, len);
    let bias = layer.bias.as_ref().map(narrow).transpose()?;
    Ok(LayerKv::new(narrow(&layer.keys)?, narrow(&layer.values)?, bias)
        .map_err(SessionError::from)?
        .with_scale(layer.scale))
}

/// A cache of these layers, as if they stood for `positions`.
fn cache(worker: &Worker, layers: &[LayerKv], positions: usize) -> Result<KvCache> {
    let compacted = |layer: &LayerKv| {
        let slots = layer.seq_len();
        let bias = match &layer.bias {
            Some(bias) => bias.clone(),
            None => Tensor::zeros((layer.kv_heads(), slots), DType::F32, layer.keys.device())?,
        };
        let (keys, values) = (layer.keys.clone(), layer.values.clone());
        let kept = Kept::shared((0..slots as u32).collect());
        Ok(CompactedLayer { keys, values, bias, scale: layer.scale, kept, packed: None })
    };
    let layers = layers.iter().map(compacted).collect::<Result<Vec<_>>>()?;
    let mut cache = worker.model().new_cache();
    cache.append_compacted(&layers, positions).map_err(SessionError::from)?;
    Ok(cache)
}

/// What the worker would begin to answer.
fn draft(worker: &Worker, cache: &KvCache, task: &[u32], tokens: usize) -> Result<Vec<u32>> {
    let options = lb_model::GenerateOptions::greedy(tokens);
    let made = worker.generate(&mut cache.fork(), task, &options, &mut |_, _| true);
    Ok(made.map_err(SessionError::from)?.tokens)
}
