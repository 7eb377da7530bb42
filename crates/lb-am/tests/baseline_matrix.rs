//! All published selections in one matrix, and the scores of each against plain loops in f64.

use candle_core::{DType, Device, Tensor};
use lb_am::selectors::{
    CriticalKv, ExpectedAttention, Finch, H2o, KeyDiff, KeyNorm, KvZip, PyramidKv, Random, Recent, SnapKv,
    StreamingLlm, Tova, published, random_positions, recent_positions,
};
use lb_am::{Compactor, Error, Kept, LayerKv, Protected, Result, Selection, Selector, Spans, compact_at};

use crate::support::caches::{Case, noise, rng};
use crate::support::layered::Layered;

pub(super) const BARE: Protected = Protected { first: 0, last: 0 };
const ENDS: Protected = Protected { first: 3, last: 2 };
pub(super) const GROUP: usize = 2;

/// A cache with every kind of queries.
pub(super) struct Scene {
    pub(super) case: Case,
    context: Vec<Tensor>,
    repeat: Vec<Tensor>,
}

impl Scene {
    pub(super) fn new(lens: &[usize], heads: usize, width: usize, task_tokens: usize, seed: u64) -> Self {
        let mut rng = rng(seed);
        let mut scene =
            Self { case: Case { layers: vec![], queries: vec![] }, context: vec![], repeat: vec![] };
        for len in lens {
            let mut draw = |rows: usize, scale| noise(&mut rng, (heads, rows, width), scale);
            scene.case.layers.push(LayerKv::new(draw(*len, 1.0), draw(*len, 1.0), None).unwrap());
            scene.case.queries.push(draw(GROUP * task_tokens, 1.5));
            scene.context.push(draw(GROUP * len, 1.5));
            scene.repeat.push(draw(GROUP * 7, 1.5));
        }
        scene
    }

    pub(super) fn small() -> Self {
        Self::new(&[20, 20], 2, 6, 5, 11)
    }

    fn with_case(self, case: Case) -> Self {
        Self { case, ..self }
    }

    fn view(&self) -> View<'_> {
        View {
            layers: &self.case.layers,
            task: &self.case.queries,
            context: Some(&self.context),
            repeat: Some(&self.repeat),
            group_size: GROUP,
        }
    }

    fn select(&self, selection: &Selection, kept_len: usize, protect: Protected) -> Vec<Kept> {
        self.view().select(selection, kept_len, protect).unwrap()
    }
}

/// What a selection may look at.
#[derive(Clone, Copy)]
struct View<'a> {
    layers: &'a [LayerKv],
    task: &'a [Tensor],
    context: Option<&'a [Tensor]>,
    repeat: Option<&'a [Tensor]>,
    group_size: usize,
}

impl View<'_> {
    /// By the selection's own scores alone.
    fn select(self, selection: &Selection, kept_len: usize, protect: Protected) -> Result<Vec<Kept>> {
        let config = Layered::kept_len(kept_len)
            .with_selection(selection.clone())
            .with_spans(Spans::OFF)
            .with_protect(protect);
        let mut compactor = Compactor::new(self.layers, self.task, &config).group_size(self.group_size);
        if let Some(queries) = self.context {
            compactor = compactor.context(queries);
        }
        if let Some(queries) = self.repeat {
            compactor = compactor.repeat(queries);
        }
        Ok(compactor.select()?.kept)
    }
}

/// The published ones and the plain window.
fn all() -> Vec<Selection> {
    [published(), vec![Selection::new(Recent)]].concat()
}

pub(super) fn of(selector: impl Selector + 'static) -> Selection {
    Selection::new(selector)
}

fn scenes() -> Vec<Scene> {
    let biased = Scene::small();
    let case = biased.case.with_bias(|head, slot| match slot {
        // Padding at the end of one head, and a slot in the middle of all.
        slot if slot == 7 || (head == 1 && slot >= 17) => f32::NEG_INFINITY,
        slot => (slot as f32 * 0.7).sin(),
    });
    vec![
        Scene::small(),
        Scene::new(&[1], 1, 4, 1, 1),
        Scene::new(&[33, 12, 20], 3, 5, 40, 2),
        Scene::new(&[17; 5], 1, 8, 2, 3),
        biased.with_case(case),
    ]
}

#[test]
fn every_baseline_keeps_what_it_says() {
    for (index, scene) in scenes().iter().enumerate() {
        let lens: Vec<usize> = scene.case.layers.iter().map(LayerKv::seq_len).collect();
        for baseline in all() {
            for protect in [BARE, ENDS, Protected::default()] {
                for kept_len in [1, 2, 5, 9, 16, 33, 1000] {
                    let at = format!("{baseline}, scene {index}, {protect:?}, {kept_len}");
                    let kept = scene.select(&baseline, kept_len, protect);
                    assert_eq!(kept.len(), lens.len(), "{at}");
                    check_sizes(&baseline, &kept, &lens, kept_len, protect, &at);
                    for (layer, (kept, len)) in kept.iter().zip(&lens).enumerate() {
                        for head in 0..scene.case.layers[layer].kv_heads() {
                            let list = kept.head(head);
                            assert!(list.windows(2).all(|pair| pair[0] < pair[1]), "{at}: {list:?}");
                            let covered = |j: usize| j < protect.first || j + protect.last >= *len;
                            let protected = (0..*len).filter(|j| covered(*j));
                            assert!(protected.into_iter().all(|j| list.contains(&(j as u32))), "{at}");
                            check_padding(&scene.case.layers[layer], head, list, &covered, &at);
                        }
                    }
                    assert_eq!(kept, scene.select(&baseline, kept_len, protect), "{at}");
                }
            }
        }
    }
}

fn check_sizes(
    baseline: &Selection,
    kept: &[Kept],
    lens: &[usize],
    kept_len: usize,
    protect: Protected,
    at: &str,
) {
    let want = |len: usize| kept_len.max((protect.first + protect.last).min(len)).min(len);
    let counts: Vec<usize> = kept.iter().map(Kept::max_len).collect();
    assert!(kept.iter().all(|kept| !kept.is_ragged()), "{at}");
    if baseline.name() == "pyramidkv" {
        let total: usize = lens.iter().map(|len| want(*len)).sum();
        assert_eq!(counts.iter().sum::<usize>(), total, "{at}: {counts:?}");
        if lens.iter().all(|len| *len == lens[0]) {
            assert!(counts.windows(2).all(|pair| pair[0] >= pair[1]), "{at}: {counts:?}");
        }
    } else {
        let wanted: Vec<usize> = lens.iter().map(|len| want(*len)).collect();
        assert_eq!(counts, wanted, "{at}");
    }
}

/// No padding while a live slot was left out.
fn check_padding(layer: &LayerKv, head: usize, list: &[u32], covered: &dyn Fn(usize) -> bool, at: &str) {
    let Some(bias) = &layer.bias else { return };
    let bias = bias.to_vec2::<f32>().unwrap();
    let is_dead = |slot: usize| bias[head][slot] == f32::NEG_INFINITY;
    let chose_padding = list.iter().any(|slot| is_dead(*slot as usize) && !covered(*slot as usize));
    let left_life = (0..layer.seq_len()).any(|slot| !is_dead(slot) && !list.contains(&(slot as u32)));
    assert!(!(chose_padding && left_life), "{at}, head {head}: {list:?}");
}

#[test]
fn every_baseline_compacts_in_every_dtype() {
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let scene = Scene::new(&[24, 24], 2, 8, 6, 5);
        let case = scene.case.to_dtype(dtype);
        let scene = scene.with_case(case);
        for baseline in all() {
            let kept = scene.select(&baseline, 9, Protected::default());
            let config = Layered::kept_len(9).selection_only();
            let done = compact_at(&scene.case.layers, &scene.case.queries, &kept, &config).unwrap();
            for (small, kept) in done.layers.iter().zip(&kept) {
                assert_eq!((small.keys.dtype(), small.kept_len()), (dtype, kept.max_len()), "{baseline}");
                assert_eq!(&small.kept, kept);
            }
        }
    }
    // Layers of different lengths.
    let scene = Scene::new(&[33, 12, 20], 3, 5, 4, 2);
    for baseline in all() {
        let kept = scene.select(&baseline, 6, ENDS);
        let config = Layered::kept_len(6).with_selection(Selection::per_layer()).selection_only();
        compact_at(&scene.case.layers, &scene.case.queries, &kept, &config).unwrap();
    }
}

#[test]
fn everything_fits_into_a_large_budget() {
    let scene = Scene::small();
    for baseline in all() {
        for kept in scene.select(&baseline, 20, BARE) {
            assert!(kept.lists().iter().all(|list| list.len() == 20 && list[19] == 19), "{baseline}");
        }
    }
}

#[test]
fn random_and_recent_are_the_free_functions() {
    let scene = Scene::small();
    let random = scene.select(&of(Random { seed: 9 }), 8, ENDS);
    assert_eq!(random, vec![Kept::shared(random_positions(20, 8, ENDS, 9)); 2]);
    assert_ne!(random, scene.select(&of(Random { seed: 10 }), 8, ENDS));
    // With its sinks protected, a window is all that is left.
    let sinks = Protected { first: 4, last: 0 };
    let window = scene.select(&of(Recent), 8, ENDS);
    assert_eq!(window, vec![Kept::shared(recent_positions(20, 8, ENDS)); 2]);
    let recent = scene.select(&of(StreamingLlm::default()), 8, sinks);
    assert_eq!(recent, vec![Kept::shared(recent_positions(20, 8, sinks)); 2]);
    assert_eq!(
        scene.select(&of(StreamingLlm::default()), 10, BARE)[0].head(0),
        [0, 1, 2, 3, 14, 15, 16, 17, 18, 19]
    );
    assert_eq!(scene.select(&of(StreamingLlm::default()), 3, BARE)[0].head(0), [0, 18, 19]);
}

#[test]
fn equal_scores_go_to_the_earlier_position() {
    let flat = |rows: usize| Tensor::ones((1, rows, 4), DType::F32, &Device::Cpu).unwrap();
    let layers = [LayerKv::new(flat(12), flat(12), None).unwrap()];
    let (task, context, repeat) = ([flat(4)], [flat(24)], [flat(4)]);
    let view =
        View { layers: &layers, task: &task, context: Some(&context), repeat: Some(&repeat), group_size: 2 };
    for baseline in [
        of(SnapKv::default()),
        of(PyramidKv::default()),
        of(KeyNorm),
        of(ExpectedAttention),
        of(KvZip),
        of(Tova),
        of(CriticalKv::default()),
        of(KeyDiff),
        of(Finch::default()),
    ] {
        let kept = view.select(&baseline, 4, BARE).unwrap();
        assert_eq!(kept[0].head(0), [0, 1, 2, 3], "{baseline}");
    }
}

#[test]
fn wrong_input_is_an_error() {
    let scene = Scene::small();
    let whole = scene.view();
    for baseline in all() {
        let run = |view: View<'_>| view.select(&baseline, 5, BARE);
        let error = whole.select(&baseline, 0, BARE).unwrap_err();
        assert!(matches!(error, Error::Config { field: "budget.kept_len", .. }), "{error}");
        let error = run(View { group_size: 0, ..whole }).unwrap_err();
        assert!(matches!(error, Error::Config { field: "group_size", .. }), "{error}");
        let error = run(View { layers: &[], ..whole }).unwrap_err();
        assert!(matches!(error, Error::Empty { arg: "layers" }), "{error}");
        // Only what it needs is asked for, and named when it is missing.
        let (nothing, needs) = (View { context: None, repeat: None, ..whole }, baseline.selector().needs());
        let name = match (needs.context, needs.repeat) {
            (false, false) => {
                assert!(run(nothing).is_ok(), "{baseline}");
                continue;
            }
            (true, _) => "context",
            _ => "repeat",
        };
        let error = run(nothing).unwrap_err();
        assert!(matches!(error, Error::Empty { arg } if arg == name), "{baseline}: {error}");
        let fill = |dims: (usize, usize, usize), value: f32| {
            vec![Tensor::full(value, dims, &Device::Cpu).unwrap(); 2]
        };
        let given = |queries: &[Tensor]| run(View { context: Some(queries), repeat: Some(queries), ..whole });
        for wrong in [(2, 40, 5), (1, 40, 6), (2, 39, 6)] {
            let error = given(&fill(wrong, 1.0)).unwrap_err();
            let Error::Layer { index: 0, source } = &error else { panic!("{baseline}: {error}") };
            assert!(matches!(**source, Error::Shape { arg, .. } if arg == name), "{baseline}: {source}");
        }
        let error = given(&fill((2, 40, 6), 1.0)[..1]).unwrap_err();
        assert!(matches!(error, Error::Shape { arg, .. } if arg == name), "{baseline}: {error}");
        let error = given(&fill((2, 40, 6), f32::NAN)).unwrap_err();
        assert!(matches!(error, Error::NonFinite { arg, layer: 0 } if arg == name), "{baseline}: {error}");
    }
}

// Scores against plain loops.

pub(super) type Rows = Vec<Vec<f64>>;

pub(super) fn rows(tensor: &Tensor, head: usize) -> Rows {
    tensor.get(head).unwrap().to_dtype(DType::F64).unwrap().to_vec2().unwrap()
}

pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Attention of one query over the first `seen` keys, biases added.
fn attention(query: &[f64], keys: &Rows, bias: &[f64], seen: usize) -> Vec<f64> {
    let scale = (query.len() as f64).sqrt();
    let mut weights = vec![0.0; keys.len()];
    for j in 0..seen {
        weights[j] = (dot(query, &keys[j]) / scale + bias[j]).exp();
    }
    let mass: f64 = weights.iter().sum();
    weights.iter().map(|w| w / mass).collect()
}

/// The last `window` slots and the best of the others, `count` in all, ascending.
pub(super) fn best(scores: &[f64], count: usize, window: usize) -> Vec<u32> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    let recent = |j: usize| j + window >= scores.len();
    order.sort_by(|a, b| recent(*b).cmp(&recent(*a)).then(scores[*b].total_cmp(&scores[*a])).then(a.cmp(b)));
    let mut best: Vec<u32> = order[..count].iter().map(|j| *j as u32).collect();
    best.sort_unstable();
    best
}

/// What a score is computed from: one head of one layer.
pub(super) struct At<'a> {
    pub(super) scene: &'a Scene,
    layer: usize,
    head: usize,
}

impl At<'_> {
    pub(super) fn keys(&self) -> Rows {
        rows(&self.scene.case.layers[self.layer].keys, self.head)
    }

    pub(super) fn values(&self) -> Rows {
        rows(&self.scene.case.layers[self.layer].values, self.head)
    }

    fn bias(&self) -> Vec<f64> {
        let bias = self.scene.case.layers[self.layer].bias.as_ref().unwrap();
        bias.get(self.head).unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
    }

    /// Attention of a row of `queries` over the first `seen` slots.
    pub(super) fn attention(&self, queries: &[Tensor], row: usize, seen: usize) -> Vec<f64> {
        attention(&rows(&queries[self.layer], self.head)[row], &self.keys(), &self.bias(), seen)
    }
}

pub(super) const SLOTS: usize = 14;
pub(super) const TOKENS: usize = 35;

/// Compares `baseline` with scores from plain loops at every budget, on a cache with a bias.
pub(super) fn compare(
    baseline: &Selection,
    window: impl Fn(usize) -> usize,
    score: impl Fn(&At<'_>) -> Vec<f64>,
) {
    compare_picks(baseline, |at, count| best(&score(at), count, window(count)));
}

/// The same with what is picked.
pub(super) fn compare_picks(baseline: &Selection, pick: impl Fn(&At<'_>, usize) -> Vec<u32>) {
    let scene = Scene::new(&[SLOTS; 2], 2, 6, TOKENS, 23);
    let case = scene.case.with_bias(|head, slot| ((slot + 3 * head) as f32 * 1.3).cos());
    let scene = scene.with_case(case);
    for (layer, head) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        for count in 1..SLOTS {
            let kept = scene.select(baseline, count, BARE);
            let want = pick(&At { scene: &scene, layer, head }, count);
            assert_eq!(kept[layer].head(head), want, "{baseline} {layer} {head} {count}");
        }
    }
}

pub(super) fn add(total: &mut [f64], more: &[f64]) {
    total.iter_mut().zip(more).for_each(|(total, more)| *total += more);
}

#[test]
fn h2o_accumulates_causal_attention() {
    compare(
        &of(H2o::default()),
        |count| count / 2,
        |head| {
            let mut scores = vec![0.0; SLOTS];
            for member in 0..GROUP {
                for token in 0..SLOTS {
                    let row = member * SLOTS + token;
                    add(&mut scores, &head.attention(&head.scene.context, row, token + 1));
                }
            }
            scores
        },
    );
}

/// SnapKV's scores: the last 32 of the task's tokens, the largest of 7 neighbours.
fn snapkv(head: &At<'_>) -> Vec<f64> {
    let mut raw = vec![0.0; SLOTS];
    for member in 0..GROUP {
        for token in TOKENS - 32..TOKENS {
            add(&mut raw, &head.attention(&head.scene.case.queries, member * TOKENS + token, SLOTS));
        }
    }
    let pooled = |j: usize| raw[j.saturating_sub(3)..(j + 4).min(SLOTS)].iter().copied().fold(0.0, f64::max);
    (0..SLOTS).map(pooled).collect()
}

#[test]
fn snapkv_pools_the_end_of_the_task() {
    compare(&of(SnapKv::default()), |_| 0, snapkv);
}

#[test]
fn pyramidkv_is_snapkv_with_falling_budgets() {
    let scene = Scene::new(&[40; 5], 2, 6, 5, 3);
    let kept = scene.select(&of(PyramidKv::default()), 10, BARE);
    let counts: Vec<usize> = kept.iter().map(Kept::max_len).collect();
    // From 19.5 to 0.5 in five steps, the last at least 1, rounded down and filled up from below.
    assert_eq!(counts, [20, 14, 10, 5, 1]);
    for (layer, count) in counts.into_iter().enumerate() {
        assert_eq!(kept[layer], scene.select(&of(SnapKv::default()), count, BARE)[layer]);
    }
    // A first layer that would exceed the cache makes the slope flatter.
    let counts = |kept_len| -> Vec<usize> {
        scene.select(&of(PyramidKv::default()), kept_len, BARE).iter().map(Kept::max_len).collect()
    };
    assert_eq!(counts(30), [40, 35, 30, 25, 20]);
    assert_eq!(counts(1), [1; 5]);
}

#[test]
fn key_norm_prefers_short_keys() {
    compare(&of(KeyNorm), |_| 0, |head| head.keys().iter().map(|key| -dot(key, key).sqrt()).collect());
}

#[test]
fn expected_attention_is_the_formula() {
    compare(
        &of(ExpectedAttention),
        |_| 0,
        |head| {
            let (keys, values, bias) = (head.keys(), head.values(), head.bias());
            let queries = rows(&head.scene.context[head.layer], head.head);
            let (width, mut scores) = (keys[0].len(), vec![0.0; SLOTS]);
            for member in queries.chunks(SLOTS) {
                let mean: Vec<f64> =
                    (0..width).map(|a| member.iter().map(|q| q[a]).sum::<f64>() / SLOTS as f64).collect();
                let covariance = |a: usize, b: usize| {
                    member.iter().map(|q| (q[a] - mean[a]) * (q[b] - mean[b])).sum::<f64>() / SLOTS as f64
                };
                let mut weights = [0.0; SLOTS];
                for (j, key) in keys.iter().enumerate() {
                    let mut quadratic = 0.0;
                    for a in 0..width {
                        for b in 0..width {
                            quadratic += key[a] * covariance(a, b) * key[b];
                        }
                    }
                    let d = width as f64;
                    weights[j] = (dot(&mean, key) / d.sqrt() + quadratic / (2.0 * d) + bias[j]).exp();
                }
                let mass: f64 = weights.iter().sum();
                for j in 0..SLOTS {
                    scores[j] += weights[j] / mass * dot(&values[j], &values[j]).sqrt();
                }
            }
            scores
        },
    );
}

#[test]
fn kvzip_is_the_largest_attention_while_repeating() {
    compare(
        &of(KvZip),
        |_| 0,
        |head| {
            let mut scores = vec![0.0f64; SLOTS];
            for row in 0..GROUP * 7 {
                let more = head.attention(&head.scene.repeat, row, SLOTS);
                scores.iter_mut().zip(more).for_each(|(score, p)| *score = score.max(p));
            }
            scores
        },
    );
}

#[test]
fn tova_is_one_list_of_the_last_token() {
    compare(
        &of(Tova),
        |_| 0,
        |head| {
            let mut scores = vec![0.0; SLOTS];
            for other in 0..2 {
                let head = At { head: other, ..*head };
                for member in 1..=GROUP {
                    add(&mut scores, &head.attention(&head.scene.case.queries, member * TOKENS - 1, SLOTS));
                }
            }
            scores
        },
    );
    assert!(Scene::small().select(&of(Tova), 5, BARE).iter().all(Kept::is_shared));
}
