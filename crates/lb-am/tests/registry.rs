//! Selections by name, and every selection with every other setting.

use lb_am::registry::{self, Factory, Spec};
use lb_am::selectors::{Budgets, HeadPick, Lists, Needs, Picked};
use lb_am::{
    BetaMethod, Budget, Compaction, Compactor, Error, Fidelity, HeadBudgets, Kept, Omp, OmpPhase, Ranking,
    Result, Scene, Selection, Selector, Spans, Units, ValuesMethod,
};

use super::{BARE, bits, run};
use crate::support::caches::{Case, Dims, SMALL, noise, random, rng, scene};
use crate::support::layered::Layered;

const GROUP: usize = 2;

/// With every argument that a selection takes, other than usual.
const ALL: [&str; 26] = [
    "shared",
    "per-layer",
    "per-head",
    "omp",
    "omp:keys_per_step=4",
    "omp:keys_per_step=4,refit_every=2,drop_below=-2.5",
    "omp:schedule=1/1@9+3/2",
    "omp:row_power=0",
    "omp:keys_per_step=4,drop_below=-2.5,row_power=1",
    "random",
    "random:seed=7",
    "recent",
    "streaming:sinks=2",
    "h2o:recent=0.25",
    "snapkv",
    "snapkv:window=2,pool=3",
    "pyramidkv:window=2,pool=3,steepness=5",
    "key-norm",
    "expected-attention",
    "kvzip",
    "tova",
    "critical-kv",
    "critical-kv:first=0.25,epsilon=0.01",
    "keydiff",
    "finch",
    "finch:chunk=16",
];

#[test]
fn every_selection_prints_what_is_read_back() {
    for text in ALL {
        let selection = registry::parse(text).unwrap();
        assert_eq!(selection.to_string(), text);
        let spec: Spec = text.parse().unwrap();
        assert_eq!(registry::parse(&spec.nested()).unwrap(), selection, "{}", spec.nested());
        let json = serde_json::to_string(&selection).unwrap();
        assert_eq!(json, format!("{text:?}"));
        assert_eq!(serde_json::from_str::<Selection>(&json).unwrap(), selection);
    }
    for factory in registry::factories() {
        let name = factory.name();
        assert_eq!(registry::parse(name).unwrap().to_string(), name);
        assert!(!factory.about().is_empty());
        let listed = ALL.iter().any(|text| text.parse::<Spec>().unwrap().name() == name);
        assert!(listed || name.starts_with("test-"), "{name} is in no table of these tests");
        // Every argument that is there is in the table above.
        for (key, about) in factory.keys() {
            assert!(!about.is_empty());
            let told = ALL.iter().any(|text| text.starts_with(name) && text.contains(&format!("{key}=")));
            assert!(told || name.starts_with("test-"), "{name}: {key}");
        }
    }
    // Said, but as usual.
    assert_eq!(registry::parse("snapkv:pool=7").unwrap().to_string(), "snapkv");
    assert_eq!(registry::parse("omp:schedule=1/1@300+2/2@1500+4/2").unwrap(), Selection::omp(Omp::default()));
    assert_eq!(registry::parse("omp:refit_every=3").unwrap(), Selection::omp(Omp::steady(1, 3)));
}

#[test]
fn what_earlier_versions_wrote_is_read() {
    let read = |json: &str| serde_json::from_str::<Selection>(json).unwrap();
    assert_eq!(read(r#""per_layer""#), Selection::per_layer());
    assert_eq!(read(r#""per_head""#), Selection::per_head());
    let schedule = vec![OmpPhase { until: None, keys_per_step: 2, refit_every: 3 }];
    let omp = Omp { schedule, drop_below: Some(-2.0), ..Omp::default() };
    let json = r#"{"omp": {"schedule": [{"until": null, "keys_per_step": 2, "refit_every": 3}], "drop_below": -2.0}}"#;
    assert_eq!(read(json), Selection::omp(omp));
    let config: Compaction = serde_json::from_str(r#"{"selection": "shared"}"#).unwrap();
    assert_eq!(config, Compaction::default().with_selection(Selection::shared()));
    assert!(
        serde_json::from_str::<Selection>(r#""per_lyer""#).unwrap_err().to_string().contains("per-layer")
    );
}

#[test]
fn wrong_texts_say_what_there_is() {
    let known = |text: &str| match registry::parse(text).unwrap_err() {
        Error::UnknownSelector { known, .. } => known,
        other => panic!("{other}"),
    };
    assert_eq!(known("pre-head")[0], "per-head");
    assert_eq!(known("snapvk")[0], "snapkv");
    assert!(known("x").len() >= 17);
    for (text, words) in [
        ("snapkv:windw=3", "takes no `windw`; it takes window, pool"),
        ("tova:x=1", "it takes no arguments"),
        ("snapkv:window=many", "window=many: want a whole number of tokens"),
        ("snapkv:window=0", "snapkv.window"),
        ("snapkv:pool=8", "snapkv.pool"),
        ("pyramidkv:steepness=0", "pyramidkv.steepness"),
        ("h2o:recent=1.5", "h2o.recent"),
        ("critical-kv:first=1.5", "critical-kv.first"),
        ("critical-kv:epsilon=-1", "critical-kv.epsilon"),
        ("finch:chunk=-1", "want a whole number of positions"),
        ("omp:schedule=1/1@5+2/2@3", "omp.until"),
        ("omp:schedule=1", "phases such as"),
        ("omp:schedule=1/1,refit_every=1", "without keys_per_step"),
        ("snapkv:3", "key=value"),
        ("", "no name"),
    ] {
        let error = registry::parse(text).unwrap_err().to_string();
        assert!(error.contains(words), "{text}: {error}");
    }
}

/// A cache with all queries that a selection may read.
struct Everything {
    task: Case,
    answer: Vec<candle_core::Tensor>,
    context: Vec<candle_core::Tensor>,
    repeat: Vec<candle_core::Tensor>,
}

fn everything(dims: Dims, seed: u64) -> Everything {
    let scene = scene(dims, seed);
    let mut rng = rng(seed);
    let mut queries = |tokens: usize| -> Vec<_> {
        (0..dims.layers).map(|_| noise(&mut rng, (dims.heads, GROUP * tokens, dims.head_dim), 1.5)).collect()
    };
    let (context, repeat) = (queries(dims.seq_len), queries(9));
    Everything { task: scene.task, answer: scene.answer, context, repeat }
}

impl Everything {
    fn compactor<'a>(&'a self, config: &'a Compaction) -> Compactor<'a> {
        Compactor::new(&self.task.layers, &self.task.queries, config)
            .group_size(GROUP)
            .units(&[0, 6, 13, 21, 30])
            .context(&self.context)
            .repeat(&self.repeat)
    }
}

#[test]
fn every_selection_goes_with_every_budget_span_and_fit() {
    let scene = everything(Dims { seq_len: 40, queries: 12, ..SMALL }, 601);
    let spans =
        [Spans::OFF, Spans::Max { width: 5 }, Spans::Mean { width: 5 }, Spans::Units(Units::Sentences)];
    let fits = [
        (BetaMethod::Zero, ValuesMethod::Copy),
        (BetaMethod::default(), ValuesMethod::default()),
        (BetaMethod::steps(6), ValuesMethod::RidgeLeaveOneOut),
    ];
    let budgets = [
        Budget::KeepRatio(0.3),
        Budget::KeptLen(7),
        Budget::Mad { tau: 1.5, min_kept: 3, max_ratio: 0.8 },
        Budget::ErrorBelow { epsilon: 0.4, min_kept: 4 },
    ];
    for (i, text) in ALL.into_iter().enumerate() {
        let selection = registry::parse(text).unwrap();
        for (j, budget) in budgets.into_iter().enumerate() {
            for (k, (beta, values)) in fits.into_iter().enumerate() {
                let config = Layered::with_budget(budget)
                    .with_selection(selection.clone())
                    .with_spans(spans[(i + j + k) % spans.len()])
                    .with_beta(beta)
                    .with_values(values);
                let threshold = matches!(budget, Budget::Mad { .. });
                if threshold && selection.selector().budgets() != Budgets::Any {
                    let error = scene.compactor(&config).run().unwrap_err();
                    let Error::Combination { selector, setting, .. } = &error else { panic!("{error}") };
                    assert_eq!(selector, text);
                    assert!(setting.contains("tau"));
                    continue;
                }
                let compacted = scene.compactor(&config).run().unwrap();
                let layers = &scene.task.layers;
                let total = Fidelity::measure(layers, &compacted.layers, &scene.answer).unwrap().total;
                assert!(total.relative_l2.is_finite() && total.mass_error.is_finite(), "{config:?}");
                if let (Budget::KeepRatio(_), false) = (budget, config.spans == spans[3]) {
                    assert!((compacted.report.keep_ratio - 0.3).abs() < 1e-9, "{config:?}");
                }
                // Whole units may leave room; they never take more.
                assert!(
                    compacted.report.error_target.is_some() || compacted.report.keep_ratio < 0.81,
                    "{config:?}"
                );
                // The same slots, given: the same fits.
                let kept: Vec<Kept> = compacted.layers.iter().map(|layer| layer.kept.clone()).collect();
                let given = scene.compactor(&config).at(&kept).run().unwrap();
                for (own, given) in compacted.layers.iter().zip(&given.layers) {
                    assert_eq!(bits(&own.bias), bits(&given.bias), "{config:?}");
                    assert_eq!(bits(&own.values), bits(&given.values), "{config:?}");
                }
            }
        }
    }
}

#[test]
fn head_budgets_go_with_lists_of_heads_alone() {
    let scene = everything(SMALL, 602);
    let budgets = HeadBudgets { shares: vec![vec![5.0, 1.0], vec![1.0, 3.0]] };
    for text in ALL {
        let selection = registry::parse(text).unwrap();
        let selector = selection.selector();
        let fits = selector.lists() == Lists::PerHead && selector.budgets() != Budgets::OwnCounts;
        let config = Layered::keep_ratio(0.25)
            .with_selection(selection.clone())
            .with_head_budgets(budgets.clone())
            .with_protect(BARE);
        let config = config.with_spans(Spans::Max { width: 3 });
        match scene.compactor(&config).run() {
            Ok(compacted) => {
                assert!(fits && compacted.layers[0].kept.is_ragged(), "{text}");
                assert!((compacted.report.keep_ratio - 0.25).abs() < 1e-9, "{text}");
            }
            Err(Error::Config { field: "head_budgets", .. }) => assert!(!fits, "{text}"),
            Err(error) => panic!("{text}: {error}"),
        }
    }
}

/// What looks at one layer at a time chooses the same where it gets them one by one.
#[test]
fn layers_are_selected_one_by_one_but_where_all_are_needed() {
    let scene = everything(SMALL, 603);
    for text in ALL {
        let selection = registry::parse(text).unwrap();
        if selection.selector().needs_all_layers() {
            continue;
        }
        let config = Layered::keep_ratio(0.3).with_selection(selection);
        let whole = scene.compactor(&config).select().unwrap();
        for index in 0..2 {
            let one = index..=index;
            let own =
                Compactor::new(&scene.task.layers[one.clone()], &scene.task.queries[one.clone()], &config)
                    .group_size(GROUP)
                    .context(&scene.context[one.clone()])
                    .repeat(&scene.repeat[one])
                    .select()
                    .unwrap();
            assert_eq!(own.kept[0], whole.kept[index], "{text}");
        }
    }
}

/// Spans come on top: what a published selection keeps lies together.
#[test]
fn spans_widen_what_a_published_selection_keeps() {
    let scene = everything(SMALL, 604);
    let runs = |list: &[u32]| list.windows(2).filter(|pair| pair[1] > pair[0] + 1).count();
    for text in ["random", "snapkv:pool=1", "kvzip", "expected-attention"] {
        let with = |spans: Spans| {
            let config = Layered::kept_len(16)
                .with_selection(registry::parse(text).unwrap())
                .with_spans(spans)
                .with_protect(BARE);
            scene.compactor(&config).select().unwrap().kept[0].head(0).to_vec()
        };
        let (alone, together) = (with(Spans::OFF), with(Spans::Max { width: 7 }));
        assert_eq!((alone.len(), together.len()), (16, 16));
        assert!(runs(&together) < runs(&alone), "{text}: {together:?} against {alone:?}");
        let units = with(Spans::Units(Units::Sentences));
        for (start, end) in [(0, 6), (6, 13), (13, 21), (21, 30), (30, 48)] {
            let inside = units.iter().filter(|slot| (start..end).contains(*slot)).count();
            assert!(inside == 0 || inside == (end - start) as usize, "{text}: {units:?}");
        }
    }
}

/// Every n-th position, from a first one on.
#[derive(Debug)]
struct Every {
    nth: usize,
    first: usize,
    wrong: bool,
}

impl Selector for Every {
    fn spec(&self) -> Spec {
        Spec::new("test-every").with_unless("nth", self.nth, &3).with_unless("first", self.first, &0)
    }

    fn needs(&self) -> Needs {
        Needs::NOTHING
    }

    fn budgets(&self) -> Budgets {
        Budgets::Counts
    }

    fn lists(&self) -> Lists {
        Lists::PerLayer
    }

    fn select(&self, scene: &Scene<'_>) -> Result<Picked> {
        if self.wrong {
            return Ok(Picked::lists(vec![Kept::shared(vec![9999]); scene.layers().len()]));
        }
        let picked = scene.each_head(|layer, head| -> Result<HeadPick> {
            let slots = scene.layers()[layer].seq_len();
            let score = |slot: usize| if slot % self.nth == self.first { 1.0f64 } else { 0.0 };
            let scores: Vec<f64> = (0..slots).map(score).collect();
            scene.pick(layer, head, Ranking::by(&scores))
        })?;
        Ok(picked.merged())
    }
}

#[test]
fn a_selector_of_ones_own_joins_under_its_name() {
    let factory = || {
        Factory::new("test-every", "every n-th position", |arguments| {
            let nth = arguments.get_or("nth", "a whole number", 3)?;
            Ok(Every { nth, first: arguments.get_or("first", "a whole number", 0)?, wrong: false })
        })
        .key("nth", "distance (3)")
        .key("first", "the first one (0)")
    };
    registry::register(factory()).unwrap();
    assert!(
        matches!(registry::register(factory()), Err(Error::SelectorTaken { name }) if name == "test-every")
    );
    let taken = Factory::new("snapkv", "another", |_| Ok(Every { nth: 1, first: 0, wrong: false }));
    assert!(matches!(registry::register(taken), Err(Error::SelectorTaken { .. })));
    let odd = Factory::new("Test Every", "another", |_| Ok(Every { nth: 1, first: 0, wrong: false }));
    assert!(matches!(registry::register(odd), Err(Error::SelectorText { .. })));
    let selection = registry::parse("test-every(nth=4;first=1)").unwrap();
    assert_eq!(selection.to_string(), "test-every:nth=4,first=1");
    assert!(registry::names().contains(&"test-every".to_owned()) && registry::knows("test_every"));
    let case = random(SMALL, 1.0, 605);
    let config = Layered::kept_len(5).with_selection(selection).with_protect(BARE);
    let compacted = run(&case, &config);
    assert_eq!(compacted.layers[1].kept, Kept::shared(vec![1, 5, 9, 13, 17]));
    assert!(compacted.report.values.is_some());
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<Compaction>(&json).unwrap(), config);
}

/// What a selector returns is checked like what a caller gives.
#[test]
fn a_selector_that_is_wrong_is_found_out() {
    let case = random(SMALL, 1.0, 606);
    let wrong = Selection::new(Every { nth: 2, first: 0, wrong: true });
    let config = Layered::kept_len(5).with_selection(wrong);
    let error = lb_am::compact(&case.layers, &case.queries, &config).unwrap_err();
    let Error::Layer { index: 0, source } = error else { panic!("{error}") };
    assert!(matches!(*source, Error::Config { field: "kept", .. }), "{source}");
}
