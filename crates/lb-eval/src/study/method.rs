//! What is compared.

use lb_am::selectors::published;
use lb_am::{BetaMethod, Budget, Compaction, HeadBudgets, Omp, Selection, Spans, Units, ValuesMethod};

/// A way to make a cache smaller.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Method {
    /// The whole cache.
    Full,
    /// A compaction; its budget is replaced by the size that is asked for, unless it is a threshold or an error target.
    Compaction {
        /// The name in tables.
        name: String,
        /// What is done.
        compaction: Box<Compaction>,
        /// Fit and select by the queries with which the worker read the trajectory, instead of the task's.
        context_queries: bool,
        /// Layer by layer, with the queries that the compacted layers before lead to.
        on_policy: bool,
    },
    /// A selection kept as it is, nothing fitted.
    Selection(Selection),
}

impl Method {
    /// A compaction by the task's queries.
    pub fn new(name: &str, compaction: Compaction) -> Self {
        let compaction = Box::new(compaction);
        Self::Compaction { name: name.to_owned(), compaction, context_queries: false, on_policy: false }
    }

    /// The name in tables.
    pub fn name(&self) -> String {
        match self {
            Self::Full => "full cache".to_owned(),
            Self::Compaction { name, .. } => name.clone(),
            Self::Selection(selection) => selection.to_string(),
        }
    }

    /// Whether the size is the method's own matter, so that it is run once and not for every ratio.
    pub fn sizes_itself(&self) -> bool {
        match self {
            Self::Full => true,
            Self::Compaction { compaction, .. } => {
                matches!(compaction.budget, Budget::Mad { .. } | Budget::ErrorBelow { .. })
            }
            Self::Selection(_) => false,
        }
    }

    /// The selections of this library with everything fitted, and the default one without.
    pub fn ours() -> Vec<Self> {
        let base = || Compaction::keep_ratio(0.1);
        vec![
            Self::new("per layer (default)", base()),
            Self::new("per layer, selection only", base().selection_only()),
            Self::new("shared mask", base().with_selection(Selection::shared())),
            Self::new("per head", base().with_selection(Selection::per_head())),
            Self::new("omp", base().with_selection(Selection::omp(Omp::default()))),
        ]
    }

    /// A mask per head with budgets of its own.
    pub fn with_head_budgets(budgets: HeadBudgets) -> Self {
        let per_head = Compaction::keep_ratio(0.1).with_selection(Selection::per_head());
        Self::new("per head, own budgets", per_head.with_head_budgets(budgets))
    }

    /// Error targets.
    pub fn error_targets(targets: &[f64]) -> Vec<Self> {
        let one =
            |epsilon: &f64| Self::new(&format!("error below {epsilon}"), Compaction::error_below(*epsilon));
        targets.iter().map(one).collect()
    }

    /// Every published baseline.
    pub fn baselines() -> Vec<Self> {
        published().into_iter().map(Self::Selection).collect()
    }

    /// One choice changed at a time.
    pub fn ablations() -> Vec<Self> {
        let base = || Compaction::keep_ratio(0.1);
        let changed = |name: &str, context_queries, on_policy| Self::Compaction {
            name: name.to_owned(),
            compaction: Box::new(base()),
            context_queries,
            on_policy,
        };
        vec![
            Self::new("default", base()),
            Self::new("without β", base().with_beta(BetaMethod::Zero)),
            Self::new("without C2", base().with_values(ValuesMethod::Copy)),
            Self::new("selection only", base().selection_only()),
            Self::new("no spans", base().with_spans(Spans::OFF)),
            Self::new("λ, p left out", base().with_values(ValuesMethod::RidgeLeaveOneOut)),
            Self::new("least squares", base().with_values(ValuesMethod::LeastSquares)),
            Self::new("whole sentences", base().with_spans(Spans::Units(Units::Sentences))),
            Self::new("shared mask", base().with_selection(Selection::shared())),
            Self::new("per head", base().with_selection(Selection::per_head())),
            changed("context queries", true, false),
            changed("on policy", false, true),
        ]
    }
}
