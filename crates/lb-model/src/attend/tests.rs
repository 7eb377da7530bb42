//! Every way to attend against the others.

use std::cell::RefCell;

use candle_core::{DType, Device, Tensor};

use lb_am::{Compaction, Compactor, LayerKv, ScoreAgg};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::{Asker, Watching, attend, in_common, plain};
use crate::Result;
use crate::cache::{Chunk, Slots};
use crate::pass::causal_mask;
use crate::queries::normal;

/// Normal numbers, the same in every run of a test: the bounds are near what rounding does.
pub(super) fn random(dims: &[usize]) -> Tensor {
    thread_local!(static RNG: RefCell<ChaCha8Rng> = RefCell::new(ChaCha8Rng::seed_from_u64(1)));
    let numbers = RNG.with_borrow_mut(|rng| normal(rng, dims.iter().product()));
    Tensor::from_vec(numbers, dims, &Device::Cpu).unwrap()
}

/// No power of two, and not 1/√d of any width here.
pub(super) const SCALE: f32 = 0.3;

pub(super) fn chunk(slots: usize) -> Chunk {
    let (keys, values) = (random(&[1, 2, slots, 8]), random(&[1, 2, slots, 8]));
    let bias = Some(random(&[2, slots]));
    let kv = Slots::Plain { keys, values };
    Chunk { kv, bias, counts: None, positions: slots, exact: true, places: None }
}

pub(super) fn alone(q: &Tensor, chunks: &[Chunk]) -> Result<Tensor> {
    let (q, chunks) = (q.clone(), chunks.to_vec());
    let asker = Asker { q, scale: SCALE, chunks, mask: None, hidden: None, watch: None };
    Ok(attend(&[asker])?.remove(0).out)
}

pub(super) fn difference(a: &Tensor, b: &Tensor) -> Result<f32> {
    Ok((a - b)?.abs()?.max_all()?.to_scalar::<f32>()?)
}

/// Joined or in chunks, with and without biases, attention is the same.
#[test]
fn chunks_attend_like_their_concatenation() -> Result<()> {
    let (q, whole) = (random(&[2, 6, 8]), chunk(20));
    let parts = [whole.narrow(0, 1)?, whole.narrow(1, 12)?, whole.narrow(13, 4)?, whole.narrow(17, 3)?];
    assert!(difference(&alone(&q, std::slice::from_ref(&whole))?, &alone(&q, &parts)?)? < 1e-6);
    let zero = Tensor::zeros((2, 20), DType::F32, &Device::Cpu)?;
    let zero = Chunk { bias: Some(zero), ..whole.clone() };
    let none = Chunk { bias: None, ..whole };
    assert!(difference(&alone(&q, &[zero])?, &alone(&q, &[none])?)? == 0.0);
    Ok(())
}

/// Two families and a sequence alone; own parts of different lengths, numbers of rows and of chunks.
#[test]
fn together_is_as_alone() -> Result<()> {
    let (a, b, c) = (chunk(30), chunk(7), chunk(12));
    let lists = [
        vec![a.clone(), b.clone(), chunk(1)],
        vec![c.clone(), chunk(5)],
        vec![a.clone(), b.clone(), chunk(3), chunk(4)],
        vec![chunk(9)],
        vec![a.clone(), b.clone(), chunk(2)],
        vec![c, chunk(6)],
    ];
    let askers: Vec<Asker> = lists
        .into_iter()
        .zip([2, 4, 6, 2, 2, 8])
        .map(|(chunks, rows)| {
            let q = random(&[2, rows, 8]);
            Asker { q, scale: SCALE, chunks, mask: None, hidden: None, watch: None }
        })
        .collect();
    assert_eq!(in_common(&[&askers[0], &askers[2], &askers[4]]), 2);
    assert_eq!(in_common(&[&askers[0], &askers[1]]), 0);
    assert_eq!(in_common(&[&askers[3]]), 0);
    let together = attend(&askers)?;
    assert_eq!(together.len(), askers.len());
    let by_tensors = plain::attend(&askers)?;
    for ((asker, together), by_tensors) in askers.iter().zip(&together).zip(&by_tensors) {
        assert_eq!(asker.q.dims(), together.out.dims());
        assert!(difference(&alone(&asker.q, &asker.chunks)?, &together.out)? < 1e-6);
        assert!(difference(by_tensors, &together.out)? < 2e-6);
    }
    Ok(())
}

/// Relative to values of about 1: sums in another order, and rounding to bf16 where long inputs meet a bf16 cache.
const EXACT: f32 = 1e-5;
const ROUNDED: f32 = 2e-2;

/// One token and many, with a causal mask, over chunks with and without biases, even and ragged, in every dtype.
#[test]
fn kernels_attend_like_tensor_operations() -> Result<()> {
    for (tokens, dim) in [(1, 8), (1, 64), (3, 12), (20, 64), (49, 16), (130, 64)] {
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            for ragged in [false, true] {
                let narrow = |dims: &[usize]| random(dims).to_dtype(dtype);
                let even = |slots: usize, biased: bool| -> Result<Chunk> {
                    let bias = biased.then(|| random(&[2, slots]));
                    let (keys, values) = (narrow(&[1, 2, slots, dim])?, narrow(&[1, 2, slots, dim])?);
                    let (positions, places) = (slots, None);
                    let kv = Slots::Plain { keys, values };
                    Ok(Chunk { kv, bias, counts: None, positions, exact: true, places })
                };
                let mut chunks = vec![even(150, true)?, even(tokens, false)?];
                if ragged {
                    chunks[0] = Chunk {
                        kv: Slots::Plain {
                            keys: narrow(&[1, 1, 70, dim])?,
                            values: narrow(&[1, 1, 70, dim])?,
                        },
                        bias: Some(random(&[1, 70])),
                        counts: Some([0, 70].into()),
                        positions: 150,
                        exact: false,
                        places: None,
                    };
                }
                let mask = causal_mask(tokens, &Device::Cpu)?;
                let q = random(&[2, 3 * tokens, dim]);
                let asker = Asker { q, scale: SCALE, chunks, mask, hidden: None, watch: None };
                let want = plain::attend(std::slice::from_ref(&asker))?.remove(0);
                let far = difference(&attend(&[asker])?.remove(0).out, &want)?;
                let bound = if dtype == DType::BF16 && tokens > 48 { ROUNDED } else { EXACT };
                assert!(far <= bound, "{tokens} tokens, width {dim}, {dtype:?}, ragged {ragged}: {far:e}");
            }
        }
    }
    Ok(())
}

/// Windows that begin in the cache and among the tokens themselves, for few rows and for several panels of them.
#[test]
fn hidden_slots_take_no_part() -> Result<()> {
    for (tokens, window, dim) in
        [(2, 1, 8), (5, 3, 8), (7, 20, 12), (70, 5, 16), (150, 40, 64), (200, 130, 8)]
    {
        let (cached, own) = (chunk(90), chunk(tokens));
        let hidden = |token: usize| (90 + token + 1usize).saturating_sub(window);
        let hidden: Vec<usize> = (0..tokens).map(hidden).collect();
        let q = random(&[2, 3 * tokens, dim]);
        let wide = |dims: &[usize]| random(dims);
        let of = |slots: usize| -> Chunk {
            let (keys, values) = (wide(&[1, 2, slots, dim]), wide(&[1, 2, slots, dim]));
            let kv = Slots::Plain { keys, values };
            Chunk { kv, bias: Some(random(&[2, slots])), ..chunk(1) }
        };
        let chunks = vec![of(cached.slots()), of(own.slots())];
        let mask = causal_mask(tokens, &Device::Cpu)?;
        let hidden_from = Some(hidden.clone());
        let asker = Asker { q: q.clone(), scale: SCALE, chunks, mask, hidden: hidden_from, watch: None };
        let got = attend(std::slice::from_ref(&asker))?.remove(0).out;
        assert!(difference(&got, &plain::attend(std::slice::from_ref(&asker))?[0])? < EXACT);
        // Each token alone over the slots that it sees.
        let heads = |x: &Tensor| x.reshape((2, 3, tokens, dim));
        for token in [0, tokens / 2, tokens - 1] {
            let seen: Vec<Chunk> = if hidden[token] < 90 {
                vec![
                    asker.chunks[0].narrow(hidden[token], 90 - hidden[token])?,
                    asker.chunks[1].narrow(0, token + 1)?,
                ]
            } else {
                let first = hidden[token] - 90;
                vec![asker.chunks[1].narrow(first, token + 1 - first)?]
            };
            let want = alone(&heads(&q)?.narrow(2, token, 1)?.reshape((2, 3, dim))?, &seen)?;
            let own = heads(&got)?.narrow(2, token, 1)?.reshape((2, 3, dim))?;
            assert!(difference(&own, &want)? < EXACT, "{tokens} tokens, window {window}, token {token}");
        }
    }
    Ok(())
}

/// What is noted on the way is what a compaction would have seen in a pass of its own.
#[test]
fn what_is_noted_is_what_a_compaction_sees() -> Result<()> {
    for tokens in [1, 5, 60] {
        let (trajectory, own) = (chunk(200), chunk(tokens));
        let q = random(&[2, 3 * tokens, 8]);
        let (chunks, mask) = (vec![trajectory.clone(), own], causal_mask(tokens, &Device::Cpu)?);
        let watch = Some(Watching { chunks: 1, score: ScoreAgg::Mean });
        let asker = Asker { q: q.clone(), scale: SCALE, chunks, mask, hidden: None, watch };
        let noted = attend(&[asker])?.remove(0).observed.expect("watched");
        let (keys, values) = trajectory.plain()?;
        let layer = LayerKv::new(keys.squeeze(0)?, values.squeeze(0)?, trajectory.bias)?.with_scale(SCALE);
        let config = Compaction::keep_ratio(0.2).with_score(ScoreAgg::Mean);
        let (layers, queries, noted) = ([layer], [q], [noted]);
        let compactor = Compactor::new(&layers, &queries, &config);
        let (own, given) = (compactor.run()?, compactor.observed(&noted).run()?);
        assert_eq!(own.layers[0].kept, given.layers[0].kept);
        assert!(difference(&own.layers[0].values, &given.layers[0].values)? < 1e-5);
        assert!(difference(&own.layers[0].bias, &given.layers[0].bias)? < 1e-5);
    }
    Ok(())
}

/// The same keys under another bias, or another view of them, are not the same slots.
#[test]
fn only_the_same_slots_are_shared() -> Result<()> {
    let a = chunk(30);
    assert!(a.same(&a.clone()) && a.narrow(0, 9)?.same(&a.narrow(0, 9)?));
    assert!(!a.same(&Chunk { bias: None, ..a.clone() }));
    assert!(!a.same(&Chunk { bias: Some(random(&[2, 30])), ..a.clone() }));
    let (keys, _) = a.plain()?;
    let kv = Slots::Plain { keys, values: random(&[1, 2, 30, 8]) };
    assert!(!a.same(&Chunk { kv, ..a.clone() }));
    assert!(!a.same(&a.narrow(0, 29)?) && !a.narrow(0, 9)?.same(&a.narrow(1, 9)?));
    Ok(())
}
