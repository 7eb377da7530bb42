//! Ranges, defaults and the written form of the configuration.

use lb_am::{BetaMethod, Budget, Compaction, Error, HeadAgg, Protected, ScoreAgg, Selection, ValuesMethod};

fn refused(config: &Compaction) -> &'static str {
    match config.validate() {
        Err(Error::Config { field, .. }) => field,
        other => panic!("{other:?} for {config:?}"),
    }
}

fn ridge(lambda: f64, importance: f64) -> Compaction {
    Compaction::default().with_values(ValuesMethod::Ridge { lambda, importance })
}

fn nnls(iterations: usize, bound: f64) -> Compaction {
    Compaction::default().with_beta(BetaMethod::Nnls { iterations, bound })
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
        assert_eq!(refused(&Compaction::default().with_pooling(pooling)), "pooling");
    }
    for iterations in [0, 100_001] {
        assert_eq!(refused(&nnls(iterations, 3.0)), "beta.iterations");
    }
    for bound in [0.0, -1.0, 20.1, f64::NAN] {
        assert_eq!(refused(&nnls(64, bound)), "beta.bound");
    }
    for lambda in [0.0, -1.0, 1e7, f64::NAN, f64::INFINITY] {
        assert_eq!(refused(&ridge(lambda, 1.0)), "values.lambda");
    }
    for importance in [-0.1, 8.1, f64::NAN] {
        assert_eq!(refused(&ridge(1.0, importance)), "values.importance");
    }
}

#[test]
fn the_ends_of_every_range_are_accepted() {
    let ends = [mad(0.0, 1, 1.0), mad(1e6, 1, 0.001), nnls(1, 20.0), nnls(100_000, 0.01), ridge(1e-6, 0.0)];
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
    assert_eq!(config, Compaction::mad(4.0));
    assert_eq!(config.budget, Budget::Mad { tau: 4.0, min_kept: 32, max_ratio: 1.0 });
    assert_eq!(
        (config.mask, config.score, config.across),
        (Selection::Shared, ScoreAgg::Mean, HeadAgg::Mean)
    );
    assert_eq!((config.spans, config.protect), (Spans::Max { width: 9 }, Protected { first: 4, last: 0 }));
    assert_eq!(config.beta, BetaMethod::default());
    assert_eq!(config.values, ValuesMethod::Ridge { lambda: 1.0, importance: 1.0 });
}

#[test]
fn configurations_survive_serialisation() {
    for config in [
        Compaction::default(),
        Compaction::keep_ratio(0.1).with_values(ValuesMethod::Copy).with_selection(Selection::PerLayer),
        Compaction::kept_len(7).with_beta(BetaMethod::Zero).with_values(ValuesMethod::LeastSquares),
    ] {
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<Compaction>(&text).unwrap(), config, "{text}");
    }
    let partial: Compaction =
        serde_json::from_str(r#"{"budget": {"keep_ratio": 0.2}, "pooling": 5}"#).unwrap();
    assert_eq!(partial, Compaction::keep_ratio(0.2).with_pooling(5));
    assert!(serde_json::from_str::<Compaction>(r#"{"pool": 5}"#).is_err());
}
