//! Ranges, defaults and the written form of the configuration.

use lb_am::{
    BetaMethod, Budget, Compaction, Error, HeadAgg, HeadBudgets, NnlsStart, Omp, OmpPhase, Protected,
    RowWeighting, ScoreAgg, Selection, Sharing, Spans, Units, ValuesMethod,
};

fn refused(config: &Compaction) -> &'static str {
    match config.validate() {
        Err(Error::Config { field, .. }) => field,
        other => panic!("{other:?} for {config:?}"),
    }
}

fn ridge(lambda: f64, importance: f64) -> Compaction {
    Compaction::default().with_values(ValuesMethod::Ridge { lambda, importance })
}

fn nnls_within(iterations: usize, lower: f64, upper: f64) -> BetaMethod {
    let (start, rows) = (NnlsStart::Shared, RowWeighting::Mass);
    BetaMethod::Nnls { iterations: Some(iterations), lower, upper, start, rows }
}

fn nnls(iterations: usize, bound: f64) -> Compaction {
    Compaction::default().with_beta(nnls_within(iterations, -bound, bound))
}

fn mad(tau: f64, min_kept: usize, max_ratio: f64) -> Compaction {
    Compaction::with_budget(Budget::Mad { tau, min_kept, max_ratio })
}

#[test]
fn out_of_range_settings_name_their_field() {
    for tau in [-0.1, 1.1e6, f64::NAN, f64::INFINITY] {
        assert_eq!(refused(&Compaction::mad(tau)), "budget.tau");
    }
    assert_eq!(refused(&mad(1.0, 0, 1.0)), "budget.min_kept");
    for ratio in [0.0, -0.5, 1.001, f64::NAN, f64::INFINITY] {
        assert_eq!(refused(&mad(1.0, 1, ratio)), "budget.max_ratio");
        assert_eq!(refused(&Compaction::keep_ratio(ratio)), "budget.keep_ratio");
    }
    assert_eq!(refused(&Compaction::kept_len(0)), "budget.kept_len");
    for pooling in [0, 2, 256, 257] {
        assert_eq!(refused(&Compaction::default().with_pooling(pooling)), "spans.width");
    }
    assert_eq!(refused(&nnls(100_001, 3.0)), "beta.iterations");
    assert!(nnls(0, 3.0).validate().is_ok());
    for bound in [0.0, -1.0, 20.1, f64::NAN] {
        assert!(["beta.lower", "beta.upper"].contains(&refused(&nnls(64, bound))));
    }
    for lambda in [1e-7, -1.0, 1e7, f64::NAN, f64::INFINITY] {
        assert_eq!(refused(&ridge(lambda, 1.0)), "values.lambda");
    }
    for importance in [-0.1, 8.1, f64::NAN] {
        assert_eq!(refused(&ridge(1.0, importance)), "values.importance");
    }
}

#[test]
fn the_ends_of_every_range_are_accepted() {
    let ends = [
        mad(0.0, 1, 1.0),
        mad(1e6, 1, 0.001),
        nnls(1, 20.0),
        nnls(100_000, 0.01),
        ridge(1e-6, 0.0),
        ridge(0.0, 1.0),
    ];
    for config in ends.iter().chain(&[
        ridge(1e6, 8.0),
        Compaction::keep_ratio(1.0),
        Compaction::kept_len(usize::MAX),
        Compaction::default().with_pooling(1),
        Compaction::default().with_pooling(255),
    ]) {
        config.validate().unwrap();
    }
}

#[test]
fn defaults_are_those_documented() {
    let config = Compaction::default();
    assert_eq!(config, Compaction::mad(12.0));
    assert_eq!(config.budget, Budget::Mad { tau: 12.0, min_kept: 32, max_ratio: 1.0 });
    assert_eq!(
        (config.selection.clone(), config.score, config.across),
        (Selection::per_head(), ScoreAgg::Rms, HeadAgg::Mean)
    );
    let spans = Spans::Faded { width: 9, factor: 0.3 };
    assert_eq!((config.spans, config.protect), (spans, Protected { first: 1, last: 0 }));
    assert_eq!(config.sharing, None);
    assert_eq!(config.selection.selector().sharing(), Sharing::All { floor: 0.2 });
    assert_eq!(config.beta, BetaMethod::default());
    assert_eq!(config.values, ValuesMethod::Ridge { lambda: 1.0, importance: 1.0 });
}

/// A number is that many steps, as ever; none, or null, are what the rows decide.
#[test]
fn steps_may_be_left_out() {
    let read = |iterations: &str| -> BetaMethod {
        let rest = r#""lower": -3.0, "upper": 3.0, "start": "shared", "rows": "mass""#;
        serde_json::from_str(&format!(r#"{{"nnls": {{{iterations}{rest}}}}}"#)).unwrap()
    };
    assert_eq!(read(r#""iterations": 4, "#), BetaMethod::steps(4));
    assert_eq!(read(r#""iterations": null, "#), BetaMethod::default());
    assert_eq!(read(""), BetaMethod::default());
}

#[test]
fn configurations_survive_serialisation() {
    for config in [
        Compaction::default(),
        Compaction::keep_ratio(0.1).with_values(ValuesMethod::Copy).with_selection(Selection::per_layer()),
        Compaction::kept_len(7).with_beta(BetaMethod::Zero).with_values(ValuesMethod::LeastSquares),
        Compaction::error_below(0.1).with_values(ValuesMethod::RidgeLeaveOneOut),
        Compaction::kept_len(9)
            .with_selection(Selection::omp(Omp::default()))
            .with_spans(Spans::Units(Units::Sentences))
            .with_head_budgets(HeadBudgets::uniform(2, 3)),
    ] {
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<Compaction>(&text).unwrap(), config, "{text}");
    }
    let partial: Compaction =
        serde_json::from_str(r#"{"budget": {"keep_ratio": 0.2}, "spans": {"max": {"width": 5}}}"#).unwrap();
    assert_eq!(partial, Compaction::keep_ratio(0.2).with_pooling(5));
    assert!(serde_json::from_str::<Compaction>(r#"{"pool": 5}"#).is_err());
}

#[test]
fn what_cannot_be_combined_is_refused() {
    let budgets = || HeadBudgets::uniform(2, 2);
    let shared = Compaction::keep_ratio(0.1).with_selection(Selection::shared()).with_head_budgets(budgets());
    assert_eq!(refused(&shared), "head_budgets");
    let by_threshold =
        Compaction::mad(2.0).with_selection(Selection::per_head()).with_head_budgets(budgets());
    assert_eq!(refused(&by_threshold), "head_budgets");
    for shares in
        [vec![], vec![vec![0.0, 0.0]], vec![vec![-0.1, 1.0]], vec![vec![f64::NAN]], vec![vec![f64::INFINITY]]]
    {
        let budgets = HeadBudgets { shares };
        let config =
            Compaction::keep_ratio(0.1).with_selection(Selection::per_head()).with_head_budgets(budgets);
        assert_eq!(refused(&config), "head_budgets.shares");
    }
    for epsilon in [0.0, -1.0, 10.0, f64::NAN] {
        assert_eq!(refused(&Compaction::error_below(epsilon)), "budget.epsilon");
    }
    for (lower, upper, field) in [
        (0.5, 3.0, "beta.lower"),
        (-3.0, -0.5, "beta.upper"),
        (0.0, 0.0, "beta.upper"),
        (-3.0, 21.0, "beta.upper"),
    ] {
        let config = Compaction::default().with_beta(nnls_within(8, lower, upper));
        assert_eq!(refused(&config), field);
    }
}

#[test]
fn a_pursuit_needs_a_schedule_that_holds() {
    let phase = |until, keys_per_step, refit_every| OmpPhase { until, keys_per_step, refit_every };
    let with = |schedule, drop_below| {
        Compaction::keep_ratio(0.1).with_selection(Selection::omp(Omp {
            schedule,
            drop_below,
            ..Omp::default()
        }))
    };
    for (schedule, field) in [
        (vec![], "omp.schedule"),
        (vec![phase(None, 0, 1)], "omp.keys_per_step"),
        (vec![phase(None, 1, 0)], "omp.refit_every"),
        (vec![phase(Some(9), 1, 1), phase(Some(5), 1, 1)], "omp.until"),
        (vec![phase(None, 1, 1), phase(None, 2, 2)], "omp.until"),
    ] {
        assert_eq!(refused(&with(schedule, None)), field);
    }
    assert_eq!(refused(&with(vec![phase(None, 1, 1)], Some(0.5))), "omp.drop_below");
    assert!(with(vec![phase(Some(9), 1, 1)], Some(-2.0)).validate().is_ok());
    for row_power in [-0.1, 1.1, f64::NAN] {
        let config =
            Compaction::keep_ratio(0.1).with_selection(Selection::omp(Omp { row_power, ..Omp::default() }));
        assert_eq!(refused(&config), "omp.row_power");
    }
}

#[test]
fn head_budgets_are_read_back() {
    let budgets = HeadBudgets { shares: vec![vec![0.2, 0.3], vec![0.1, 0.4]] };
    assert_eq!(HeadBudgets::from_json(&budgets.to_json()).unwrap(), budgets);
    for bad in
        ["", "{}", r#"{"shares": [[0.1, "x"]]}"#, r#"{"shares": [[-1.0]]}"#, r#"{"shares": [], "more": 1}"#]
    {
        assert!(matches!(HeadBudgets::from_json(bad), Err(Error::Config { .. })), "{bad}");
    }
}
