//! The pipeline: scores, mask, keys, biases, values.

use std::borrow::Cow;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use candle_core::Tensor;
use lb_kernels::PackedBits;

use crate::backend::{self, Backend, Observing, check_serves};
use crate::budgets;
use crate::compacted::{Compacted, Timing, timed};
use crate::config::{Budget, Compaction, ValuesMethod, ensure};
use crate::error::{Error, Result};
use crate::error_target::{ErrorTarget, Search};
use crate::extra_queries::Extra;
use crate::fitted::{fit_all, report};
use crate::kept::{Kept, check_given};
use crate::layout::{LayerKv, Padding, check_inputs, common_len};
use crate::observed::{Observed, check_observed};
use crate::scene::Scene;
use crate::scores::observe_all;
use crate::selected::{Selected, check_importance};
use crate::selectors::Lists;
use crate::spans::SpanMap;

/// Compacts a cache for the given task queries.
///
/// Scores positions by the queries' attention, selects by the budget, keeps those keys bit for bit, then fits biases
/// to the attention mass and values to the attention output of the full cache (AM, arXiv 2602.16284, section 3; the
/// shared mask and the MAD rule are Latent Briefing's). The input is not changed. [`Compactor`] has more to say.
///
/// # Shapes
///
/// `queries[l]` is `[kv_heads, n_queries, head_dim]` for `layers[l]`: after query norm and RoPE, the heads of a group
/// concatenated along `n_queries`. A shared mask needs layers of one length.
///
/// # Numerics
///
/// f32 throughout, systems of the value fit in f64; the result is stored in the cache dtype. The same input gives the
/// same result; equal scores go to the earlier position. Where everything is kept the layer comes back unchanged.
///
/// # Errors
///
/// [`Error::Config`], [`Error::Empty`], [`Error::Shape`], [`Error::Dtype`] and [`Error::NonFinite`] for the input, the
/// last also where logits or fitted values overflow; [`Error::Layer`] around what concerns one layer.
pub fn compact(layers: &[LayerKv], queries: &[Tensor], config: &Compaction) -> Result<Compacted> {
    Compactor::new(layers, queries, config).run()
}

/// Compacts a cache to a given selection, with the fits that [`compact`] would do; for selections made elsewhere. Budget and protected positions are ignored.
///
/// # Shapes
///
/// As [`compact`]; `kept` is one selection for all layers or one per layer.
///
/// # Numerics
///
/// As [`compact`].
///
/// # Errors
///
/// As [`compact`]; [`Error::Shape`], [`Error::Empty`] or [`Error::Config`] for a selection that does not fit.
pub fn compact_at(
    layers: &[LayerKv],
    queries: &[Tensor],
    kept: &[Kept],
    config: &Compaction,
) -> Result<Compacted> {
    Compactor::new(layers, queries, config).at(kept).run()
}

/// A compaction with everything that can be said about it.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use lb_am::{Compaction, Compactor, LayerKv, Selection, Spans, Units};
///
/// let waves = |rows: usize, step: f32| {
///     (Tensor::arange(0f32, (32 * rows) as f32, &Device::Cpu)? * f64::from(step))?.sin()?.reshape((2, rows, 16))
/// };
/// let layer = LayerKv::new(waves(100, 0.7)?, waves(100, 0.3)?, None)?;
/// let config = Compaction::keep_ratio(0.3).with_selection(Selection::per_layer());
/// let config = config.with_spans(Spans::Units(Units::Sentences));
/// // Sentences begin at the slots 0, 20, 40, 60 and 80.
/// let compacted = Compactor::new(&[layer], &[waves(12, 0.9)?], &config).units(&[0, 20, 40, 60, 80]).run()?;
/// assert!((21..=30).contains(&compacted.report.kept_len)); // the first position, and one whole sentence
/// # Ok::<(), lb_am::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Compactor<'a> {
    layers: &'a [LayerKv],
    queries: &'a [Tensor],
    config: &'a Compaction,
    units: Option<&'a [u32]>,
    group_size: usize,
    extra: Extra<'a>,
    backend: Option<&'a dyn Backend>,
    counts: Option<&'a [Vec<usize>]>,
    observed: Option<&'a [Observed]>,
    bits: Option<PackedBits>,
    choice: Choice<'a>,
}

/// Where the selection comes from.
#[derive(Clone, Copy, Debug)]
enum Choice<'a> {
    Own,
    Given(&'a [Kept]),
    Selected(&'a Selected),
}

impl<'a> Compactor<'a> {
    /// The same as [`compact`] so far. For shapes see there.
    pub fn new(layers: &'a [LayerKv], queries: &'a [Tensor], config: &'a Compaction) -> Self {
        Self {
            layers,
            queries,
            config,
            units: None,
            group_size: 1,
            extra: Extra::default(),
            backend: None,
            counts: None,
            observed: None,
            bits: None,
            choice: Choice::Own,
        }
    }

    /// Slots at which units of the text begin, strictly ascending; [`Spans::Units`](crate::Spans::Units) needs them.
    #[must_use]
    pub fn units(self, starts: &'a [u32]) -> Self {
        Self { units: Some(starts), ..self }
    }

    /// Query heads per KV head. Rows of the queries are ordered (head, token); an error target splits them by token.
    #[must_use]
    pub fn group_size(self, group_size: usize) -> Self {
        Self { group_size, ..self }
    }

    /// Queries of the context's own prefill, one for each slot: `[kv_heads, group_size * seq_len, head_dim]`, rows ordered
    /// (head of the group, token). For selections that [need](crate::selectors::Needs::context) them.
    #[must_use]
    pub fn context(mut self, queries: &'a [Tensor]) -> Self {
        self.extra.context = Some(queries);
        self
    }

    /// Queries of the model while it repeats the context: `[kv_heads, group_size * n, head_dim]`, rows likewise. For
    /// selections that [need](crate::selectors::Needs::repeat) them.
    #[must_use]
    pub fn repeat(mut self, queries: &'a [Tensor]) -> Self {
        self.extra.repeat = Some(queries);
        self
    }

    /// How many slots each head of each layer keeps, instead of what the budget says; for a selection per head.
    #[must_use]
    pub fn counts(self, counts: &'a [Vec<usize>]) -> Self {
        Self { counts: Some(counts), ..self }
    }

    /// What the queries saw in each layer, noted when a model read the task; nothing is read once more then.
    #[must_use]
    pub fn observed(self, observed: &'a [Observed]) -> Self {
        Self { observed: Some(observed), ..self }
    }

    /// Stores what is kept in so many bits: keys by channel, values by slot ([`PackedLayer`](crate::PackedLayer)). The keys are
    /// packed first and everything is fitted against what is stored, then the fitted values are packed. Where everything is
    /// kept nothing is fitted, but packed all the same. `None`, the default, stores slots in the cache's dtype.
    #[must_use]
    pub fn packed(self, bits: Option<PackedBits>) -> Self {
        Self { bits, ..self }
    }

    /// Computes the heavy stages by this backend instead of the fastest for the layers' device.
    #[must_use]
    pub fn with_backend(self, backend: &'a dyn Backend) -> Self {
        Self { backend: Some(backend), ..self }
    }

    fn backend(&self) -> &'a dyn Backend {
        self.backend.unwrap_or_else(|| backend::of(self.layers))
    }

    /// Takes these slots: one selection for all layers, or one per layer.
    #[must_use]
    pub fn at(self, kept: &'a [Kept]) -> Self {
        Self { choice: Choice::Given(kept), ..self }
    }

    /// Takes a selection made before, with the scores that it went by.
    #[must_use]
    pub fn selected(self, selected: &'a Selected) -> Self {
        Self { choice: Choice::Selected(selected), ..self }
    }

    /// Selects and fits nothing.
    ///
    /// # Errors
    ///
    /// Those of [`compact`].
    pub fn select(&self) -> Result<Selected> {
        let prepared = self.prepare()?;
        let config = prepared.config(self.config);
        let observed = self.seen(&config, false)?;
        self.choose(&prepared.scene(self, &observed, &config))
    }

    /// The configuration with a budget that needs no search: an error target becomes a keep ratio, and how it was met is
    /// told; others are as they are.
    ///
    /// # Errors
    ///
    /// Those of [`compact`].
    pub fn resolve(&self) -> Result<(Compaction, Option<ErrorTarget>)> {
        let prepared = self.prepare()?;
        Ok((prepared.config(self.config), prepared.target))
    }

    /// Selects and fits.
    ///
    /// # Errors
    ///
    /// Those of [`compact`].
    pub fn run(&self) -> Result<Compacted> {
        let started = Instant::now();
        let prepared = self.prepare()?;
        let config = prepared.config(self.config);
        let mut timing = Timing { search: prepared.search, ..Timing::default() };
        let with_output = config.values != ValuesMethod::Copy;
        let observed = timed(&mut timing.scores, || self.seen(&config, with_output))?;
        let scene = prepared.scene(self, &observed, &config);
        let selected = timed(&mut timing.mask, || self.choose(&scene))?;
        let fitted = fit_all(&scene, &selected, &mut timing)?;
        timing.total = started.elapsed();
        let report = report(&fitted, &scene, selected, timing, prepared.target);
        Ok(Compacted { layers: fitted.layers, report })
    }

    /// What was given, or else what a pass over the cache shows.
    fn seen(&self, config: &Compaction, with_output: bool) -> Result<Cow<'a, [Observed]>> {
        if let Some(observed) = self.observed {
            return Ok(Cow::Borrowed(observed));
        }
        let what = Observing { score: config.score, output: with_output };
        Ok(Cow::Owned(observe_all(self.backend(), self.layers, self.queries, what)?))
    }

    fn choose(&self, scene: &Scene<'_>) -> Result<Selected> {
        match self.choice {
            Choice::Own => Selected::by_selector(scene),
            Choice::Given(kept) => Ok(Selected::given(scene, kept)),
            Choice::Selected(selected) => Ok(selected.clone()),
        }
    }

    fn prepare(&self) -> Result<Prepared> {
        self.config.validate()?;
        let backend = self.backend();
        check_serves(backend, self.layers)?;
        let padding = check_inputs(backend, self.layers, self.queries)?;
        let selector = self.config.selection.selector();
        if selector.lists() == Lists::Shared {
            common_len(self.layers)?;
        }
        self.check_choice()?;
        self.check_counts()?;
        if let Some(observed) = self.observed {
            check_observed(self.layers, self.queries, observed, self.config)?;
        }
        let rows = self.queries[0].dim(1)?;
        if self.group_size == 0 || rows % self.group_size != 0 {
            let (value, reason) = (self.group_size.to_string(), "must divide the number of queries");
            return Err(Error::Config { field: "group_size", value, reason });
        }
        let longest = self.layers.iter().map(LayerKv::seq_len).max().unwrap_or(0);
        let spans = SpanMap::new(self.config.spans, self.units, longest)?;
        let mut prepared =
            Prepared { padding, spans, counts: None, budget: None, target: None, search: Duration::ZERO };
        if let Choice::Own = self.choice {
            self.extra.check(backend, selector.needs(), self.layers, self.group_size)?;
            if self.config.head_budgets.is_some() {
                prepared.counts = Some(budgets::counts(self.layers, self.config)?);
            }
        }
        if let (Budget::ErrorBelow { epsilon, min_kept }, Choice::Own) = (self.config.budget, self.choice) {
            let Self { layers, queries, config, group_size, extra, bits, .. } = *self;
            let Prepared { padding, spans, .. } = &prepared;
            let search = Search { backend, layers, queries, extra, padding, spans, config, bits, group_size };
            let mut clock = Duration::ZERO;
            let (budget, target) = timed(&mut clock, || search.run(epsilon, min_kept))?;
            (prepared.budget, prepared.target, prepared.search) = (Some(budget), Some(target), clock);
        }
        Ok(prepared)
    }

    fn check_choice(&self) -> Result<()> {
        match self.choice {
            Choice::Own => Ok(()),
            Choice::Given(kept) => check_given(self.layers, kept),
            Choice::Selected(selected) => {
                check_given(self.layers, &selected.kept)?;
                check_importance(&selected.importance, self.layers, "selected")
            }
        }
    }

    fn check_counts(&self) -> Result<()> {
        let Some(counts) = self.counts else { return Ok(()) };
        let expected: Vec<usize> = self.layers.iter().map(LayerKv::kv_heads).collect();
        let got: Vec<usize> = counts.iter().map(Vec::len).collect();
        if got != expected {
            let expected = format!("a count for each of {expected:?} heads, layer by layer");
            return Err(Error::Shape { arg: "counts", expected, got });
        }
        let reason = "need a selection per head and counts of at least 1";
        let holds = self.config.has_head_counts() && counts.iter().flatten().all(|count| *count > 0);
        ensure(holds, "counts", format!("{counts:?}"), reason)
    }
}

/// What was checked and resolved before anything is computed.
struct Prepared {
    padding: Vec<Padding>,
    spans: SpanMap,
    /// What head budgets come to.
    counts: Option<Vec<Vec<usize>>>,
    /// What an error target came to.
    budget: Option<Budget>,
    target: Option<ErrorTarget>,
    search: Duration,
}

impl Prepared {
    fn config(&self, config: &Compaction) -> Compaction {
        Compaction { budget: self.budget.unwrap_or(config.budget), ..config.clone() }
    }

    fn scene<'a>(
        &'a self,
        compactor: &Compactor<'a>,
        observed: &'a [Observed],
        config: &'a Compaction,
    ) -> Scene<'a> {
        Scene {
            backend: compactor.backend(),
            layers: compactor.layers,
            queries: compactor.queries,
            observed,
            padding: &self.padding,
            spans: &self.spans,
            config,
            bits: compactor.bits,
            counts: compactor.counts.or(self.counts.as_deref()),
            extra: compactor.extra,
            group_size: compactor.group_size,
            shared: OnceLock::new(),
            shared_out: OnceLock::new(),
        }
    }
}
