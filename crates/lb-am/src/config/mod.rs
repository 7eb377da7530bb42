//! What to keep and how to correct it: plain settings with units, ranges and defaults.
//!
//! The choices are orthogonal: any selection goes with any spans, any bias fit and any value fit, and with any budget that
//! its scores allow. What cannot be combined is refused by [`Compaction::validate`].

mod budget;
mod fits;
mod folding;
mod selection;
mod sharing;

pub use budget::{Budget, HeadBudgets};
pub use fits::{BetaMethod, NnlsStart, RowWeighting, ValuesMethod};
pub use folding::Folding;
pub use selection::{HeadAgg, Protected, ScoreAgg, Spans, Units};
pub use sharing::Sharing;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::selection::Selection;
use crate::selectors::{Budgets, Lists};

/// How one compaction is done. Build it with [`mad`](Self::mad), [`keep_ratio`](Self::keep_ratio) or
/// [`kept_len`](Self::kept_len) and the `with_*` methods; [`compact`](crate::compact) validates it.
///
/// ```
/// use lb_am::{Compaction, ValuesMethod};
/// let config = Compaction::keep_ratio(0.1).with_pooling(5).with_values(ValuesMethod::Copy);
/// assert!(config.validate().is_ok());
/// assert!(Compaction::keep_ratio(0.0).validate().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Compaction {
    /// How many positions stay. Default: the MAD rule with τ = 12, about a tenth of a real log.
    pub budget: Budget,
    /// Which positions stay. Default [`Selection::per_head`].
    pub selection: Selection,
    /// How a position's attention is aggregated over queries. Default [`ScoreAgg::Rms`].
    pub score: ScoreAgg,
    /// How scores are aggregated over layers and KV heads. Default [`HeadAgg::Mean`].
    pub across: HeadAgg,
    /// How neighbouring positions share their scores. Default: the four on each side get three tenths of it
    /// ([`Spans::Faded`]).
    ///
    /// A question attends to the phrase that names a fact; the span keeps the value behind it as well. What little is looked at
    /// drags nothing along.
    pub spans: Spans,
    /// Positions that always stay.
    pub protect: Protected,
    /// What the slots that do not stay leave to those that do, before anything is fitted. Default [`Folding::None`].
    pub folding: Folding,
    /// How key biases are fitted.
    pub beta: BetaMethod,
    /// How values are refitted.
    pub values: ValuesMethod,
    /// How what they would keep is shared out by their scores among heads that select on their own. Default: `None`, as the
    /// selection does it ([`Selector::sharing`](crate::Selector::sharing)); [`Selection::per_head`] among all layers and heads.
    pub sharing: Option<Sharing>,
    /// The same by fixed shares, which were measured once for a model; none by default.
    pub head_budgets: Option<HeadBudgets>,
}

impl Default for Compaction {
    fn default() -> Self {
        Self::mad(12.0)
    }
}

impl Compaction {
    /// Keeps positions whose score is above median + τ · MAD, and 32 at the least.
    pub fn mad(tau: f64) -> Self {
        Self::with_budget(Budget::Mad { tau, min_kept: 32, max_ratio: 1.0 })
    }

    /// Keeps the share `ratio` of the positions, in (0, 1].
    pub fn keep_ratio(ratio: f64) -> Self {
        Self::with_budget(Budget::KeepRatio(ratio))
    }

    /// Keeps `len` positions.
    pub fn kept_len(len: usize) -> Self {
        Self::with_budget(Budget::KeptLen(len))
    }

    /// Keeps the fewest positions that hold the share `share` of the sum of the scores, and 32 at the least.
    pub fn coverage(share: f64) -> Self {
        Self::with_budget(Budget::Coverage { share, min_kept: 32 })
    }

    /// Keeps as few positions as hold the estimated relative error of the attention output below `epsilon`.
    pub fn error_below(epsilon: f64) -> Self {
        Self::with_budget(Budget::ErrorBelow { epsilon, min_kept: 32 })
    }

    /// Defaults with the given budget.
    pub fn with_budget(budget: Budget) -> Self {
        Self {
            budget,
            selection: Selection::default(),
            score: ScoreAgg::default(),
            across: HeadAgg::default(),
            spans: Spans::default(),
            protect: Protected::default(),
            folding: Folding::default(),
            beta: BetaMethod::default(),
            values: ValuesMethod::default(),
            sharing: None,
            head_budgets: None,
        }
    }

    /// Nothing is fitted: biases of zero, values as they are. What is left is the selection, and the folding where one is set.
    #[must_use]
    pub fn selection_only(self) -> Self {
        Self { beta: BetaMethod::Zero, values: ValuesMethod::Copy, ..self }
    }

    /// Sets [`selection`](Self::selection).
    #[must_use]
    pub fn with_selection(self, selection: Selection) -> Self {
        Self { selection, ..self }
    }

    /// Sets [`spans`](Self::spans).
    #[must_use]
    pub fn with_spans(self, spans: Spans) -> Self {
        Self { spans, ..self }
    }

    /// Sets [`spans`](Self::spans) to the largest of `width` neighbouring scores; 1 turns spans off.
    #[must_use]
    pub fn with_pooling(self, width: usize) -> Self {
        Self { spans: Spans::Max { width }, ..self }
    }

    /// Sets [`sharing`](Self::sharing).
    #[must_use]
    pub fn with_sharing(self, sharing: Sharing) -> Self {
        Self { sharing: Some(sharing), ..self }
    }

    /// Sets [`head_budgets`](Self::head_budgets).
    #[must_use]
    pub fn with_head_budgets(self, budgets: HeadBudgets) -> Self {
        Self { head_budgets: Some(budgets), ..self }
    }

    /// Sets [`protect`](Self::protect).
    #[must_use]
    pub fn with_protect(self, protect: Protected) -> Self {
        Self { protect, ..self }
    }

    /// Sets [`folding`](Self::folding).
    #[must_use]
    pub fn with_folding(self, folding: Folding) -> Self {
        Self { folding, ..self }
    }

    /// Sets [`beta`](Self::beta).
    #[must_use]
    pub fn with_beta(self, beta: BetaMethod) -> Self {
        Self { beta, ..self }
    }

    /// Sets [`values`](Self::values).
    #[must_use]
    pub fn with_values(self, values: ValuesMethod) -> Self {
        Self { values, ..self }
    }

    /// Sets [`score`](Self::score).
    #[must_use]
    pub fn with_score(self, score: ScoreAgg) -> Self {
        Self { score, ..self }
    }

    /// Sets [`across`](Self::across).
    #[must_use]
    pub fn with_across(self, across: HeadAgg) -> Self {
        Self { across, ..self }
    }

    /// Checks every range.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] naming the first field that is out of range.
    pub fn validate(&self) -> Result<()> {
        self.budget.validate()?;
        self.check_selection()?;
        self.spans.validate()?;
        self.folding.validate()?;
        self.beta.validate()?;
        self.values.validate()?;
        self.check_sharing()?;
        if let Some(budgets) = &self.head_budgets {
            budgets.validate()?;
            ensure(
                self.has_head_counts(),
                "head_budgets",
                "given",
                "need a selection per head, as per-head and omp are",
            )?;
            let counted = matches!(self.budget, Budget::KeepRatio(_) | Budget::KeptLen(_));
            ensure(counted, "head_budgets", "given", "need a budget of a keep ratio or a kept length")?;
        }
        Ok(())
    }

    fn check_selection(&self) -> Result<()> {
        let selector = self.selection.selector();
        selector.validate()?;
        if matches!(self.budget, Budget::Mad { .. } | Budget::Coverage { .. })
            && selector.budgets() != Budgets::Any
        {
            return Err(Error::Combination {
                selector: self.selection.to_string(),
                setting: "a budget by scores (tau, coverage)",
                reason: "it has an order of positions and no scores; take a ratio, a length or an error target",
            });
        }
        Ok(())
    }

    fn check_sharing(&self) -> Result<()> {
        let Some(sharing) = self.sharing else { return Ok(()) };
        sharing.validate()?;
        if sharing == Sharing::Equal {
            return Ok(());
        }
        let given = format!("{sharing:?}");
        ensure(self.head_budgets.is_none(), "sharing", given, "does not go with head budgets")?;
        let selector = self.selection.selector();
        if selector.lists() != Lists::PerHead || selector.budgets() != Budgets::Any {
            return Err(Error::Combination {
                selector: self.selection.to_string(),
                setting: "a count that is shared out among heads",
                reason: "its heads have no scores of their own; take per-head or another one that scores each head",
            });
        }
        Ok(())
    }

    /// How what heads would keep is shared out; shares that were measured once take its place.
    pub(crate) fn shares(&self) -> Sharing {
        match (&self.head_budgets, self.sharing) {
            (Some(_), _) => Sharing::Equal,
            (None, Some(sharing)) => sharing,
            (None, None) => self.selection.selector().sharing(),
        }
    }

    /// Whether the slots of one layer depend on those of others.
    pub fn needs_all_layers(&self) -> bool {
        self.shares().spans_layers() || self.selection.selector().needs_all_layers()
    }

    /// Whether each head takes a count of its own.
    pub(crate) fn has_head_counts(&self) -> bool {
        let selector = self.selection.selector();
        selector.lists() == Lists::PerHead && selector.budgets() != Budgets::OwnCounts
    }
}

pub(crate) fn is_ratio(value: f64) -> bool {
    value > 0.0 && value <= 1.0
}

/// As a ratio, and nothing at all.
pub(crate) fn is_share(value: f64) -> bool {
    (0.0..=1.0).contains(&value)
}

pub(crate) fn ensure(
    holds: bool,
    field: &'static str,
    value: impl std::fmt::Display,
    reason: &'static str,
) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::Config { field, value: value.to_string(), reason }) }
}
