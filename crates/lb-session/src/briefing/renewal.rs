//! A briefing that is made anew while its answer is written.
//!
//! A session still holds the full cache. Decoding yields the answer's own queries for nothing, and they know better than the
//! task's what the next tokens will look at. A briefing that was handed out cannot renew: it has no full cache behind it, so
//! renewal is a way of answering ([`Handoff::RenewedBriefing`](crate::Handoff::RenewedBriefing)) and not of briefing.

use candle_core::Tensor;
use lb_am::{LayerKv, Observed, ScoreAgg};
use lb_model::KvCache;
use serde::{Deserialize, Serialize};

use super::cut::{CutCache, QueryPass};
use super::fitted::{RENEWED, drawn};
use super::lookahead::joined;
use super::pieces::{Piece, compact_piece, join, with_windows};
use super::{BriefConfig, Briefer, Briefing};
use crate::context::Reader;
use crate::{Error, Result, Task};

/// What a position is worth that stands a little behind one at which the last tokens look: who copies will look there next. On
/// answers that quote their text this is half of what renewal brings (`docs/real.md`).
const ON: f32 = 0.3;

/// A briefing that is renewed while the answer is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Renewal {
    /// Written tokens between two briefings, at least 1. Default: 16.
    pub every: usize,
    /// How each briefing is made. The first goes by the configuration's own queries, later ones by those and all that was
    /// written since.
    pub briefing: BriefConfig,
}

impl Default for Renewal {
    fn default() -> Self {
        Self { every: 16, briefing: BriefConfig::default() }
    }
}

impl Renewal {
    /// A new briefing after every `every` written tokens.
    pub fn every(every: usize, briefing: impl Into<BriefConfig>) -> Self {
        Self { every, briefing: briefing.into() }
    }

    /// Checks every range, and what goes with what.
    ///
    /// # Errors
    /// [`Error::Compaction`] and [`Error::Config`] naming the first field that does not hold.
    pub fn validate(&self) -> Result<()> {
        if self.every == 0 {
            return Err(Error::config("renewal.every", 0, "want at least 1"));
        }
        if self.briefing.chunking.is_some() || self.briefing.on_policy {
            let reason = "renews a briefing of the whole cache by queries over it: no chunks, not on-policy";
            return Err(Error::config("renewal.briefing", "chunking or on_policy", reason));
        }
        self.briefing.validate()
    }
}

/// A briefing that took the place of another while an answer was written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Renewed {
    /// Tokens of the answer that were read by then, whose queries it goes by.
    pub written: usize,
    /// For each position of the trajectory, the share of the (layer, KV head) pairs that have it.
    pub kept_by: Vec<f32>,
}

/// Scores by layer, head of the layer and position.
type Scores = Vec<Vec<Vec<f32>>>;

/// A briefing under way.
pub(crate) struct Renewing<'a> {
    reader: Reader<'a>,
    renewal: &'a Renewal,
    /// The tokens that the next briefing is fitted to, [`RENEWED`] at most, and what they saw of the full cache.
    pass: QueryPass,
    /// By which the first briefing was made, and how many tokens it was fitted to.
    known: (Scores, usize),
    /// Of all that was written since, and how many tokens that is.
    written: Option<(Scores, usize)>,
    /// Queries of tokens read since the last briefing, by layer of the model.
    fresh: Vec<Vec<Tensor>>,
    /// Each that took another's place.
    pub(crate) renewals: Vec<Renewed>,
}

impl std::fmt::Debug for Renewing<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { renewal, fresh, renewals, .. } = self;
        f.debug_struct("Renewing")
            .field("every", &renewal.every)
            .field("fresh", &fresh.len())
            .field("renewed", &renewals.len())
            .finish_non_exhaustive()
    }
}

impl<'a> Renewing<'a> {
    /// The first briefing for `task`, and what renews it.
    pub(crate) fn begin(reader: Reader<'a>, task: &Task, renewal: &'a Renewal) -> Result<(Briefing, Self)> {
        renewal.validate()?;
        let (briefing, mut pass) = Briefer::new(reader).brief_keeping(task, &renewal.briefing)?;
        let observed = if let Some(observed) = pass.observed.take() {
            observed
        } else {
            let layers = reader.context.layers(0, reader.context.seq_len())?;
            Observed::all(&layers, &pass.queries, renewal.briefing.compaction.score)?
        };
        let group = reader.context.worker().config().group_size();
        let tokens = observed.first().map_or(0, Observed::rows) / group;
        let known = (scores(&observed), tokens);
        pass.observed = Some(observed);
        let (written, fresh, renewals) = (None, Vec::new(), Vec::new());
        Ok((briefing, Self { reader, renewal, pass, known, written, fresh, renewals }))
    }

    /// Tokens until the next briefing.
    pub(crate) fn room(&self) -> usize {
        self.renewal.every - self.fresh_tokens().min(self.renewal.every - 1)
    }

    /// Takes the queries of tokens that were just read behind the briefing in `cache`, by layer of the model. Where it is time
    /// for it, a new briefing takes the place of the one in `cache`; all that was read behind it stays.
    pub(crate) fn heard(&mut self, queries: Vec<Tensor>, cache: &mut KvCache) -> Result<()> {
        self.fresh.push(queries);
        if self.fresh_tokens() < self.renewal.every {
            return Ok(());
        }
        let before = self.renewals.last().map_or(0, |last| last.written);
        let written = before + self.fresh_tokens();
        let (renewed, kept_by) = self.renew(cache)?;
        *cache = renewed;
        self.renewals.push(Renewed { written, kept_by });
        Ok(())
    }

    fn fresh_tokens(&self) -> usize {
        let group = self.reader.context.worker().config().group_size();
        let rows = |queries: &Vec<Tensor>| queries.first().map_or(0, |q| q.dims()[1]);
        self.fresh.iter().map(rows).sum::<usize>() / group
    }

    /// The new cache, and who keeps what in it.
    fn renew(&mut self, old: &KvCache) -> Result<(KvCache, Vec<f32>)> {
        let (context, briefing) = (self.reader.context, &self.renewal.briefing);
        let seq_len = context.seq_len();
        self.reader.guard.check()?;
        let layers = context.layers(0, seq_len)?;
        self.take_fresh(&layers)?;
        let pass = (&self.pass.queries[..], self.pass.observed.as_deref(), &self.pass.extra);
        let how = (&briefing.compaction, briefing.storage);
        let compacted = compact_piece(context, &layers, pass, how, (0, seq_len))?;
        let compacted = with_windows(context, compacted, &context.full.cache, &(0..seq_len), seq_len)?;
        let CutCache { mut cache, kept_by, .. } =
            join(context, vec![Piece { from: 0, to: seq_len, compacted }])?;
        let own = old.logical_len() - seq_len;
        let behind = |index: usize| {
            let slots = old.slot_count(index);
            old.layer_range(index, slots - own, slots)
        };
        let behind = (0..old.num_layers()).map(behind).collect::<lb_model::Result<Vec<_>>>()?;
        cache.append_layers(&behind, own)?;
        Ok((cache, kept_by))
    }

    /// What the tokens that were read since the last briefing see of the full cache joins what is known. Every query has its say
    /// in what is kept; fits take as many as tell it.
    fn take_fresh(&mut self, layers: &[LayerKv]) -> Result<()> {
        let (model, config) = (self.reader.context.model(), self.reader.context.worker().config());
        let (score, group) = (self.renewal.briefing.compaction.score, config.group_size());
        let fresh = config.of_global_layers(model.join_queries(&std::mem::take(&mut self.fresh))?);
        let seen = Observed::all(layers, &fresh, score)?;
        let tokens = |observed: &[Observed]| observed.first().map_or(0, Observed::rows) / group;
        let (known, count) = (self.pass.observed.take().unwrap_or_default(), tokens(&seen));
        let both = known.iter().zip(&seen).map(|(a, b)| Observed::joined(&[(a, 1.0), (b, 1.0)], group));
        let both = both.collect::<lb_am::Result<Vec<_>>>()?;
        let queries = joined(&self.pass.queries, &fresh, group)?;
        let drawn = drawn(tokens(&both), RENEWED);
        let fitted =
            both.iter().map(|observed| observed.pick(&drawn, group)).collect::<lb_am::Result<Vec<_>>>()?;
        self.pass.queries = model.pick_queries(&queries, &drawn)?;
        let written = match self.written.take() {
            None => (scores(&seen), count),
            Some((before, tokens)) => {
                let weights = (tokens as f64, count as f64);
                (join_scores(score, &before, &scores(&seen), weights)?, tokens + count)
            }
        };
        // Every token counts the same: what an echo told before still holds for what is to come.
        let weights = (self.known.1 as f64, written.1 as f64);
        let joined = join_scores(score, &self.known.0, &written.0, weights)?;
        let with_scores = |((fitted, joined), seen): ((Observed, Vec<Vec<f32>>), &Observed)| {
            let mut observed = fitted.with_scores(joined)?;
            observed.look_on(seen, self.renewal.every, ON)?;
            Ok(observed)
        };
        let observed = fitted.into_iter().zip(joined).zip(&seen).map(with_scores);
        self.pass.observed = Some(observed.collect::<lb_am::Result<_>>()?);
        self.written = Some(written);
        Ok(())
    }
}

fn scores(observed: &[Observed]) -> Scores {
    observed.iter().map(|observed| observed.scores().to_vec()).collect()
}

/// Layer by layer, each side with its weight.
fn join_scores(score: ScoreAgg, a: &Scores, b: &Scores, (of_a, of_b): (f64, f64)) -> Result<Scores> {
    let joined = a.iter().zip(b).map(|(a, b)| score.joined(&[(a, of_a), (b, of_b)]));
    Ok(joined.collect::<lb_am::Result<_>>()?)
}
