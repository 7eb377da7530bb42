//! Layers replaced while tokens run through them, and keys moved to other positions.

use candle_core::{Device, Tensor};
use lb_am::{Compaction, LayerKv, Selection, compact};
use lb_model::{Error, GenerateOptions, KvCache, PrefillOptions};

use crate::support::checkpoints::{GROUPED, TIED, prompt, worker};
use crate::support::compare::{assert_close, assert_same, distance, flat};

fn per_layer() -> Compaction {
    Compaction::keep_ratio(0.3).with_selection(Selection::per_head())
}

/// The reference's way: the queries of layer l are those of a rerun over compacted layers before l and full ones after.
#[test]
fn each_layer_is_asked_through_the_replaced_layers_before_it() {
    for name in [TIED, GROUPED] {
        let (worker, tokens) = (worker(name), prompt(name));
        let model = worker.model();
        let mut full = model.new_cache();
        model.forward(&tokens[..60], &mut full).unwrap();
        let before = full.layers().unwrap();
        let mut made = Vec::new();
        let replaced = model
            .forward_replacing(&tokens[60..70], &full, &mut |_, queries, layer| {
                let mut compacted = compact(&[layer], std::slice::from_ref(queries), &per_layer())?;
                made.push(compacted.layers[0].clone());
                Ok(compacted.layers.remove(0))
            })
            .unwrap();
        for index in 0..full.num_layers() {
            let layers: Vec<LayerKv> = (0..full.num_layers())
                .map(|l| if l < index { made[l].to_layer().unwrap() } else { before[l].clone() })
                .collect();
            let mut rerun = model.new_cache();
            rerun.append_layers(&layers, 60).unwrap();
            let options = PrefillOptions::default();
            let seen =
                model.prefill_capturing(&tokens[60..70], &mut rerun, &options, &mut |_, _| {}).unwrap();
            assert_close(&flat(&replaced.captured.queries[index]), &flat(&seen.queries[index]), 1e-4);
        }
        // What comes out is the briefing with the tokens read behind it.
        let mut cache = replaced.cache;
        assert_eq!(cache.logical_len(), 70);
        cache.truncate(60).unwrap();
        let again = model.forward(&tokens[60..70], &mut cache).unwrap();
        assert_close(&flat(&again), &flat(&replaced.captured.logits), 1e-4);
        for (a, b) in before.iter().zip(&full.layers().unwrap()) {
            assert_same(&a.keys, &b.keys);
            assert_same(&a.values, &b.values);
        }
        assert_eq!(full.logical_len(), 60);
    }
}

#[test]
fn a_replacement_that_does_not_fit_is_refused() {
    let (worker, tokens) = (worker(TIED), prompt(TIED));
    let mut full = worker.model().new_cache();
    let mut whole = |_: usize, queries: &Tensor, layer: LayerKv| {
        let mut compacted = compact(&[layer], std::slice::from_ref(queries), &per_layer())?;
        compacted.layers[0].keys = compacted.layers[0].keys.narrow(2, 0, 8)?;
        compacted.layers[0].values = compacted.layers[0].values.narrow(2, 0, 8)?;
        Ok(compacted.layers.remove(0))
    };
    let error = worker.model().forward_replacing(&tokens[..5], &full, &mut whole).unwrap_err();
    assert!(matches!(error, Error::Empty { .. } | Error::Cache { .. }), "{error}");
    worker.model().forward(&tokens[..60], &mut full).unwrap();
    let error = worker.model().forward_replacing(&tokens[60..65], &full, &mut whole).unwrap_err();
    assert!(matches!(error, Error::Shape { .. }), "{error}");
}

/// The first layer's keys depend on token and position alone: moved by k, they are those computed k positions later.
#[test]
fn moved_keys_are_those_computed_further_on() {
    for name in [TIED, GROUPED] {
        let (worker, tokens) = (worker(name), prompt(name));
        let model = worker.model();
        let read = |pad: usize| -> Tensor {
            let mut cache: KvCache = model.new_cache();
            let text = [vec![tokens[0]; pad], tokens[..20].to_vec()].concat();
            model.forward(&text, &mut cache).unwrap();
            cache.layer_range(0, pad, pad + 20).unwrap().keys
        };
        let positions = |from: u32| (from..from + 20).collect::<Vec<u32>>();
        let (near, far) = (read(7), read(407));
        let moved = model.rerotate(0, &near, &positions(7), 400).unwrap();
        let size = flat(&far).iter().fold(1.0, |max: f64, x| max.max(x.abs()));
        assert_close(&flat(&moved), &flat(&far), 1e-5 * size);
        let back = model.rerotate(0, &far, &positions(407), -400).unwrap();
        assert_close(&flat(&back), &flat(&near), 1e-5 * size);
        assert!(distance(&flat(&near), &flat(&far)) > 0.1);
        assert_same(&model.rerotate(0, &near, &positions(7), 0).unwrap(), &near);

        // Queries and keys that move together see the same scores.
        let scores = |q: &Tensor, k: &Tensor| flat(&q.matmul(&k.t().unwrap().contiguous().unwrap()).unwrap());
        let other = model.rerotate(0, &near, &positions(7), 13).unwrap();
        let other_moved = model.rerotate(0, &other, &positions(20), 400).unwrap();
        let tolerance = 2e-5 * size * size * worker.config().head_dim as f64;
        assert_close(&scores(&other, &near), &scores(&other_moved, &moved), tolerance);

        assert!(matches!(model.rerotate(0, &near, &positions(7), -8), Err(Error::Config { .. })));
        assert!(matches!(model.rerotate(0, &near, &positions(7), 4000), Err(Error::ContextOverflow { .. })));
        assert!(matches!(model.rerotate(0, &near, &[1, 2], 1), Err(Error::Shape { .. })));
    }
}

/// Each key to a place of its own, as one by one.
#[test]
fn keys_move_each_to_its_place() {
    let (worker, tokens) = (worker(GROUPED), prompt(GROUPED));
    let model = worker.model();
    let mut cache: KvCache = model.new_cache();
    model.forward(&tokens[..12], &mut cache).unwrap();
    let keys = cache.layer(1).unwrap().keys.narrow(1, 3, 4).unwrap();
    let (positions, places) = ([3_u32, 4, 5, 6], [0_u32, 4, 300, 2]);
    let moved = model.rerotate_to(0, &keys, &positions, &places).unwrap();
    for (slot, (position, place)) in positions.iter().zip(places).enumerate() {
        let (key, by) = (
            keys.narrow(1, slot, 1).unwrap(),
            place.cast_signed() as isize - position.cast_signed() as isize,
        );
        let alone = model.rerotate(0, &key, &[*position], by).unwrap();
        assert_same(&moved.narrow(1, slot, 1).unwrap(), &alone);
    }
    assert!(distance(&flat(&moved), &flat(&keys)) > 0.1);
    let short = model.rerotate_to(0, &keys, &positions, &places[..3]);
    assert!(matches!(short, Err(Error::Shape { arg: "targets", .. })));
    let far = model.rerotate_to(0, &keys, &positions, &[0, 1, 2, u32::MAX]);
    assert!(matches!(far, Err(Error::ContextOverflow { .. })));
}

#[test]
fn generated_tokens_hand_out_the_queries_of_a_prefill() {
    let (worker, tokens) = (worker(TIED), prompt(TIED));
    let mut cache = worker.model().new_cache();
    let options = GenerateOptions::greedy(6);
    let (generation, queries) = worker.generate_capturing(&mut cache, &tokens[..30], &options).unwrap();
    let plain = worker.generate(&mut worker.model().new_cache(), &tokens[..30], &options, &mut |_, _| true);
    assert_eq!(generation.tokens, plain.unwrap().tokens);
    let read = cache.logical_len();
    let text = [&tokens[..30], &generation.tokens[..read - 30]].concat();
    let options = PrefillOptions::default();
    let mut whole = worker.model().new_cache();
    let captured = worker.model().prefill_capturing(&text, &mut whole, &options, &mut |_, _| {}).unwrap();
    for (a, b) in queries.iter().zip(&captured.queries) {
        assert_eq!(a.dims(), b.dims());
        assert_close(&flat(a), &flat(b), 1e-4);
    }
}

#[test]
fn random_queries_have_the_frame_of_real_ones() {
    let worker = worker(GROUPED);
    let (model, config) = (worker.model(), worker.config());
    let [a, b, c] =
        [(5, 1), (5, 1), (5, 2)].map(|(count, seed)| model.random_queries(count, 100, seed).unwrap());
    let rows = config.group_size() * 5;
    for (layer, queries) in a.iter().enumerate() {
        assert_eq!(queries.dims(), [config.num_key_value_heads, rows, config.head_dim]);
        assert_same(queries, &b[layer]);
        assert!(distance(&flat(queries), &flat(&c[layer])) > 0.1);
    }
    // The same vectors further on are the rotated ones.
    let further = model.random_queries(5, 140, 1).unwrap();
    let positions: Vec<u32> = (0..rows as u32).map(|row| 100 + row % 5).collect();
    assert_close(&flat(&model.rerotate(0, &a[0], &positions, 40).unwrap()), &flat(&further[0]), 1e-4);
    assert!(matches!(model.random_queries(0, 0, 0), Err(Error::Empty { .. })));
    assert!(matches!(model.random_queries(2, 1023, 0), Err(Error::ContextOverflow { .. })));
    let picked = model.pick_queries(&a, &[3, 1]).unwrap();
    let ids = Tensor::new(&[3u32, 1], &Device::Cpu).unwrap();
    let of_head = a[0].narrow(1, 5 * (config.group_size() - 1), 5).unwrap().contiguous().unwrap();
    let last = picked[0].narrow(1, 2 * (config.group_size() - 1), 2).unwrap();
    assert_same(&last, &of_head.index_select(&ids, 1).unwrap());
}
