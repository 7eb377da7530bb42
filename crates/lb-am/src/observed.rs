//! What a task saw of a layer's cache: the target of every fit.

use std::collections::VecDeque;

use candle_core::{Device, Tensor};
use lb_kernels::{Observation, QueryAgg};

use crate::backend::{self, Observing};
use crate::config::{Compaction, ScoreAgg, ValuesMethod, ensure};
use crate::error::{AtLayer, Error, Result};
use crate::layout::{LayerKv, check_inputs};
use crate::scores::observe_all;

/// What the queries of one layer see in its full cache; the target of every fit.
///
/// A compaction makes it by a pass over the cache. A model that has just read the task has made that pass: what it saw on
/// the way can be given to [`Compactor::observed`](crate::Compactor::observed) instead.
#[derive(Clone, Debug)]
pub struct Observed {
    /// Row maximum m of the logits, `[H, n, 1]`.
    pub(crate) max: Tensor,
    /// Mass Z of the full cache at that shift, `[H, n, 1]`.
    pub(crate) mass: Tensor,
    /// Output Y = P V, `[H, n, d]`, where asked for.
    pub(crate) output: Option<Tensor>,
    /// Score of each position, per head.
    pub(crate) scores: Vec<Vec<f32>>,
    /// How they were aggregated over queries.
    pub(crate) score: ScoreAgg,
}

impl Observed {
    /// By layer, by a pass of its own over each cache.
    ///
    /// # Shapes
    ///
    /// As [`position_scores`](crate::position_scores); layers may differ in length.
    ///
    /// # Errors
    ///
    /// Those of [`compact`](crate::compact) on its inputs.
    pub fn all(layers: &[LayerKv], queries: &[Tensor], score: ScoreAgg) -> Result<Vec<Self>> {
        let backend = backend::of(layers);
        check_inputs(backend, layers, queries)?;
        observe_all(backend, layers, queries, Observing { score, output: true })
    }

    /// From what a pass has noted, with scores `[head][slot]` aggregated by `score`.
    ///
    /// # Shapes
    ///
    /// `max` and `mass` are `[kv_heads, n_queries, 1]`, `output` is `[kv_heads, n_queries, head_dim]`, all in f32.
    pub fn new(
        max: Tensor,
        mass: Tensor,
        output: Option<Tensor>,
        scores: Vec<Vec<f32>>,
        score: ScoreAgg,
    ) -> Self {
        Self { max, mass, output, scores, score }
    }

    /// What several parts of the queries saw of one layer, as if they had been observed together; rows are again ordered (head
    /// of the group, token). In the scores each part has its weight: that of its rows makes all queries equal, any other lets a
    /// few count like many. A largest score knows no weights.
    ///
    /// # Shapes
    ///
    /// Each part has `group_size` times its own tokens as rows, and all were made of the same cache.
    ///
    /// # Errors
    ///
    /// [`Error::Empty`] without parts; [`Error::Shape`] for parts of other caches, [`Error::Config`] for parts that are scored in
    /// different ways or of which some have outputs and some have none.
    pub fn joined(parts: &[(&Self, f64)], group_size: usize) -> Result<Self> {
        let [(first, _), others @ ..] = parts else { return Err(Error::Empty { arg: "observed" }) };
        for (other, _) in others {
            same_slots("observed", &other.scores, &first.scores)?;
            let alike = other.score == first.score && other.output.is_some() == first.output.is_some();
            ensure(
                alike,
                "observed",
                format!("{:?}", other.score),
                "must be scored and noted like the first part",
            )?;
        }
        let join = |of: &dyn Fn(&Self) -> Option<Tensor>| -> Result<Option<Tensor>> {
            let own = parts.iter().filter_map(|(part, _)| of(part));
            let split = own.map(|x| x.reshape((x.dim(0)?, group_size, (), x.dim(2)?)));
            let split = split.collect::<candle_core::Result<Vec<_>>>()?;
            if split.is_empty() {
                return Ok(None);
            }
            let joined = Tensor::cat(&split, 2)?;
            let (heads, group, tokens, width) = joined.dims4()?;
            Ok(Some(joined.reshape((heads, group * tokens, width))?))
        };
        let missing = || Error::Empty { arg: "observed" };
        let max = join(&|part| Some(part.max.clone()))?.ok_or_else(missing)?;
        let mass = join(&|part| Some(part.mass.clone()))?.ok_or_else(missing)?;
        let output = join(&|part| part.output.clone())?;
        let scores: Vec<_> = parts.iter().map(|(part, weight)| (part.scores(), *weight)).collect();
        Ok(Self { max, mass, output, scores: first.score.joined(&scores)?, score: first.score })
    }

    /// With the scores of other queries of the same cache, aggregated alike, in the place of its own.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] where they are of another cache.
    pub fn with_scores(self, scores: Vec<Vec<f32>>) -> Result<Self> {
        same_slots("scores", &scores, &self.scores)?;
        Ok(Self { scores, ..self })
    }

    /// Of some tokens alone, for fits; scores stay those of all. Rows are again ordered (head of the group, token).
    ///
    /// # Errors
    ///
    /// [`Error::Tensor`] for an index out of range.
    pub fn pick(&self, tokens: &[u32], group_size: usize) -> Result<Self> {
        let picked = |x: &Tensor| -> Result<Tensor> {
            let (heads, rows, width) = x.dims3()?;
            let which = Tensor::new(tokens, x.device())?;
            let split = x.reshape((heads, group_size, rows / group_size, width))?;
            Ok(split.index_select(&which, 2)?.reshape((heads, group_size * tokens.len(), width))?)
        };
        Ok(Self {
            max: picked(&self.max)?,
            mass: picked(&self.mass)?,
            output: self.output.as_ref().map(picked).transpose()?,
            scores: self.scores.clone(),
            score: self.score,
        })
    }

    /// Raises the score of every position to `factor` times the largest that `last` has of it or of one of the `steps` positions
    /// before it. Who copies a text looks at what comes next in it one token later: where the last tokens of a text under way look
    /// in the cache, those behind it will look a little further on.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] where `last` is of another cache, [`Error::Config`] for a factor outside 0 to 1.
    pub fn look_on(&mut self, last: &Self, steps: usize, factor: f32) -> Result<()> {
        same_slots("last", &last.scores, &self.scores)?;
        ensure((0.0..=1.0).contains(&factor), "factor", factor, "must be between 0 and 1")?;
        for (scores, last) in self.scores.iter_mut().zip(&last.scores) {
            // The positions whose scores may still be the largest, the largest first.
            let mut best: VecDeque<usize> = VecDeque::new();
            for (at, score) in scores.iter_mut().enumerate() {
                while best.back().is_some_and(|other| last[*other] <= last[at]) {
                    best.pop_back();
                }
                best.push_back(at);
                while best.front().is_some_and(|first| first + steps < at) {
                    best.pop_front();
                }
                let largest = best.front().map_or(0.0, |first| last[*first]);
                *score = score.max(factor * largest);
            }
        }
        Ok(())
    }

    /// Rows of a head: query heads of the group times tokens.
    pub fn rows(&self) -> usize {
        self.mass.dims().get(1).copied().unwrap_or(0)
    }

    /// Score of each position, per head, before spans.
    pub fn scores(&self) -> &[Vec<f32>] {
        &self.scores
    }

    /// Row maximum m of the logits, `[kv_heads, n_queries, 1]`.
    pub fn max(&self) -> &Tensor {
        &self.max
    }

    /// Σ exp(logit − m) over the full cache, likewise.
    pub fn mass(&self) -> &Tensor {
        &self.mass
    }

    /// The attention output `[kv_heads, n_queries, head_dim]`, where it was asked for.
    pub fn output(&self) -> Option<&Tensor> {
        self.output.as_ref()
    }

    /// From what a kernel noted of the query blocks of all heads, head by head, each head's rows in order.
    ///
    /// # Shapes
    ///
    /// `heads` KV heads of `n` queries of width `d` each; every head has noted as many scores as its layer has slots.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] where the blocks do not add up to that.
    pub fn from_observations(
        parts: Vec<Observation>,
        (heads, n, d): (usize, usize, usize),
        score: ScoreAgg,
    ) -> Result<Self> {
        let got = vec![parts.iter().map(|part| part.mass.len()).sum()];
        if got != [heads * n] {
            return Err(Error::Shape {
                arg: "observations",
                expected: format!("{heads} heads of {n} rows"),
                got,
            });
        }
        let (mut max, mut mass, mut output) = (Vec::new(), Vec::new(), Vec::new());
        let mut scores: Vec<Vec<f32>> = Vec::with_capacity(heads);
        for part in parts {
            if mass.len() == scores.len() * n {
                scores.push(Vec::new());
            }
            max.extend(part.max);
            mass.extend(part.mass);
            output.extend(part.output);
            if let Some(sums) = scores.last_mut() {
                score.add(sums, part.scores);
            }
        }
        for sums in &mut scores {
            score.finish(sums, n);
        }
        let column = |x: Vec<f32>| Tensor::from_vec(x, (heads, n, 1), &Device::Cpu);
        let output = if output.is_empty() {
            None
        } else {
            Some(Tensor::from_vec(output, (heads, n, d), &Device::Cpu)?)
        };
        Ok(Self { max: column(max)?, mass: column(mass)?, output, scores, score })
    }
}

/// Whether there are as many heads of as many slots.
fn same_slots(arg: &'static str, got: &[Vec<f32>], wanted: &[Vec<f32>]) -> Result<()> {
    let slots = |of: &[Vec<f32>]| of.iter().map(Vec::len).collect::<Vec<_>>();
    if slots(got) == slots(wanted) {
        return Ok(());
    }
    let expected = format!("heads of {:?} slots", slots(wanted));
    Err(Error::Shape { arg, expected, got: slots(got) })
}

impl ScoreAgg {
    /// Scores `[head][slot]` of several parts of the queries of one cache as if they had been observed together, each part with
    /// its weight; see [`Observed::joined`].
    ///
    /// # Errors
    ///
    /// [`Error::Empty`] without parts, [`Error::Shape`] for parts of other caches, [`Error::Config`] for weights below 0 or none above.
    pub fn joined(self, parts: &[(&[Vec<f32>], f64)]) -> Result<Vec<Vec<f32>>> {
        let [(first, _), others @ ..] = parts else { return Err(Error::Empty { arg: "scores" }) };
        for (other, _) in others {
            same_slots("scores", other, first)?;
        }
        let total: f64 = parts.iter().map(|(_, weight)| weight).sum();
        let sound = parts.iter().all(|(_, weight)| *weight >= 0.0) && total > 0.0 && total.is_finite();
        ensure(sound, "weights", total, "must be 0 or more, and some above")?;
        let of_head = |(head, first): (usize, &Vec<f32>)| {
            let mut sums = vec![0.0; first.len()];
            for (part, weight) in parts {
                self.weigh_in(&mut sums, &part[head], (weight / total) as f32);
            }
            if self == Self::Rms {
                for sum in &mut sums {
                    *sum = sum.sqrt();
                }
            }
            sums
        };
        Ok(first.iter().enumerate().map(of_head).collect())
    }

    /// What a kernel notes of a block of queries; the rest is [`Observed::from_observations`]'s.
    pub fn of_queries(self) -> QueryAgg {
        match self {
            Self::Mean => QueryAgg::Sum,
            Self::Rms => QueryAgg::SumOfSquares,
            Self::Max => QueryAgg::Max,
        }
    }

    /// Takes more queries in.
    fn add(self, sums: &mut Vec<f32>, part: Vec<f32>) {
        if sums.is_empty() {
            *sums = part;
            return;
        }
        for (sum, part) in sums.iter_mut().zip(part) {
            *sum = if self == Self::Max { sum.max(part) } else { *sum + part };
        }
    }

    /// Takes the aggregate of a share of the queries in.
    fn weigh_in(self, sums: &mut [f32], part: &[f32], share: f32) {
        for (sum, part) in sums.iter_mut().zip(part) {
            *sum = match self {
                Self::Mean => *sum + share * part,
                Self::Rms => *sum + share * part * part,
                Self::Max => sum.max(*part),
            };
        }
    }

    /// From sums over `n` queries to the aggregate.
    fn finish(self, sums: &mut [f32], n: usize) {
        let mean = 1.0 / n as f32;
        for sum in sums {
            *sum = match self {
                Self::Mean => *sum * mean,
                Self::Rms => (*sum * mean).sqrt(),
                Self::Max => *sum,
            };
        }
    }
}

/// Whether what was noted elsewhere is of these layers and queries, and all that the configuration needs.
pub(crate) fn check_observed(
    layers: &[LayerKv],
    queries: &[Tensor],
    observed: &[Observed],
    config: &Compaction,
) -> Result<()> {
    if observed.len() != layers.len() {
        let expected = format!("one for each of {} layers", layers.len());
        return Err(Error::Shape { arg: "observed", expected, got: vec![observed.len()] });
    }
    for (index, ((layer, queries), observed)) in layers.iter().zip(queries).zip(observed).enumerate() {
        let slots: Vec<usize> = observed.scores.iter().map(Vec::len).collect();
        let n = queries.dim(1)?;
        if slots != vec![layer.seq_len(); layer.kv_heads()]
            || observed.mass.dims() != [layer.kv_heads(), n, 1]
        {
            let expected = format!("{} heads of {} slots and {n} queries", layer.kv_heads(), layer.seq_len());
            return Err(Error::Shape { arg: "observed", expected, got: slots }).at_layer(index);
        }
        let same = observed.score == config.score;
        ensure(
            same,
            "observed",
            format!("{:?}", observed.score),
            "must aggregate scores as the configuration does",
        )?;
        let fits = observed.output.is_some() || config.values == ValuesMethod::Copy;
        ensure(fits, "observed", "without output", "need the output where values are fitted")?;
        check_mass(observed, index)?;
    }
    Ok(())
}

/// Finite inputs can still overflow f32 in a logit; say so instead of passing NaN on.
pub(crate) fn check_mass(observed: &Observed, layer: usize) -> Result<()> {
    for tensor in [&observed.max, &observed.mass] {
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        if values.iter().any(|value| !value.is_finite()) {
            return Err(Error::NonFinite { arg: "logits", layer });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use super::{Error, Observed, ScoreAgg};

    fn scored(scores: &[f32]) -> Observed {
        let column = Tensor::ones((1, 1, 1), DType::F32, &Device::Cpu).unwrap();
        Observed::new(column.clone(), column, None, vec![scores.to_vec()], ScoreAgg::Rms)
    }

    fn same(observed: &Observed, scores: &[f32]) -> bool {
        observed.scores()[0].iter().zip(scores).all(|(a, b)| (a - b).abs() < 1e-6)
    }

    /// By hand, and for any width against the definition.
    #[test]
    fn what_stands_behind_counts_as_well() {
        let last = scored(&[0.0, 1.0, 0.0, 0.0, 0.2, 0.0]);
        let mut observed = scored(&[0.1, 0.1, 0.9, 0.1, 0.1, 0.1]);
        observed.look_on(&last, 2, 0.5).unwrap();
        assert!(same(&observed, &[0.1, 0.5, 0.9, 0.5, 0.1, 0.1]), "{observed:?}");

        let noise: Vec<f32> = (0..40).map(|i| (i as f32 * 1.7).sin().abs()).collect();
        for steps in [0, 1, 5, 16, 100] {
            let mut observed = scored(&[0.2; 40]);
            observed.look_on(&scored(&noise), steps, 0.3).unwrap();
            for (at, score) in observed.scores()[0].iter().enumerate() {
                let largest = noise[at.saturating_sub(steps)..=at].iter().copied().fold(0.0, f32::max);
                let wanted = (0.3 * largest).max(0.2);
                assert!((score - wanted).abs() < 1e-6, "{steps} at {at}");
            }
        }
    }

    /// Rows are (head of the group, token); scores are those of all.
    #[test]
    fn tokens_are_picked_in_every_head_of_the_group() {
        let column = |from: f32| {
            let rows: Vec<f32> = (0..6).map(|i| from + i as f32).collect();
            Tensor::from_vec(rows, (1, 6, 1), &Device::Cpu).unwrap()
        };
        let scores = vec![vec![0.5, 0.25]];
        let observed = Observed::new(column(0.0), column(10.0), Some(column(20.0)), scores, ScoreAgg::Rms);
        // Two heads of a group and three tokens.
        let picked = observed.pick(&[0, 2], 2).unwrap();
        let rows = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(format!("{:?}", rows(picked.max())), "[0.0, 2.0, 3.0, 5.0]");
        assert_eq!(format!("{:?}", rows(picked.mass())), "[10.0, 12.0, 13.0, 15.0]");
        assert_eq!(format!("{:?}", rows(picked.output().unwrap())), "[20.0, 22.0, 23.0, 25.0]");
        assert!(same(&picked, &[0.5, 0.25]) && picked.rows() == 4);
        assert!(observed.pick(&[3], 2).is_err());
    }

    #[test]
    fn scores_are_joined_by_their_weights() {
        let (a, b) = (vec![vec![0.3f32, 0.4]], vec![vec![0.5f32, 0.0]]);
        let joined = |score: ScoreAgg, weights: (f64, f64)| {
            score.joined(&[(&a, weights.0), (&b, weights.1)]).unwrap().remove(0)
        };
        let near = |got: Vec<f32>, wanted: [f32; 2]| {
            assert!(got.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-6), "{got:?}, not {wanted:?}");
        };
        near(joined(ScoreAgg::Mean, (1.0, 3.0)), [0.45, 0.1]);
        near(joined(ScoreAgg::Rms, (1.0, 1.0)), [0.17f32.sqrt(), 0.08f32.sqrt()]);
        near(joined(ScoreAgg::Max, (1.0, 9.0)), [0.5, 0.4]);
        assert!(ScoreAgg::Rms.joined(&[(&a, 0.0), (&b, 0.0)]).is_err());
        assert!(ScoreAgg::Rms.joined(&[(&a, 1.0), (&[vec![0.1]], 1.0)]).is_err());
        let observed = scored(&[0.1, 0.2]);
        assert!(same(&observed.clone().with_scores(a).unwrap(), &[0.3, 0.4]));
        assert!(observed.with_scores(vec![vec![0.1]]).is_err());
    }

    #[test]
    fn other_caches_and_factors_are_refused() {
        let mut observed = scored(&[0.1, 0.2]);
        let error = observed.look_on(&scored(&[0.1]), 2, 0.5).unwrap_err();
        assert!(matches!(error, Error::Shape { arg: "last", .. }), "{error}");
        let error = observed.look_on(&scored(&[0.1, 0.1]), 2, 1.5).unwrap_err();
        assert!(matches!(error, Error::Config { field: "factor", .. }), "{error}");
        assert!(same(&observed, &[0.1, 0.2]), "{observed:?}");
    }
}
