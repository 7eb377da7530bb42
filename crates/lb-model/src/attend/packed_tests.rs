//! Attention over packed chunks against that over what they unpack to.

use candle_core::{DType, Device};
use lb_am::{Compaction, Compactor, LayerKv, ScoreAgg};
use lb_kernels::PackedBits;

use super::tests::{SCALE, alone, chunk, difference, random};
use super::{Asker, Watching, attend, plain};
use crate::Result;
use crate::cache::{Chunk, Slots};
use crate::pass::causal_mask;

/// Sums of the same numbers in another order.
const EXACT: f32 = 1e-5;

fn packed(chunk: &Chunk, bits: PackedBits) -> Result<Chunk> {
    chunk.packed(bits, DType::F32)
}

/// Heads of 0, 70 and 33 slots.
fn ragged() -> Chunk {
    let kv = Slots::Plain { keys: random(&[1, 1, 103, 8]), values: random(&[1, 1, 103, 8]) };
    let (bias, counts) = (Some(random(&[1, 103])), Some([0, 70, 33].into()));
    Chunk { kv, bias, counts, positions: 150, exact: false, places: None }
}

fn even(heads: usize, slots: usize) -> Chunk {
    let of = || random(&[1, heads, slots, 8]);
    let kv = Slots::Plain { keys: of(), values: of() };
    Chunk { kv, bias: Some(random(&[heads, slots])), ..chunk(slots) }
}

/// One token and many, behind even and uneven heads, by kernels and by tensor operations.
#[test]
fn packed_chunks_attend_like_what_they_unpack_to() -> Result<()> {
    for bits in PackedBits::ALL {
        for tokens in [1, 4, 60] {
            for first in [ragged(), even(3, 150), even(3, 31)] {
                let first = packed(&first, bits)?;
                assert!(first.is_packed());
                let own = Chunk { bias: None, ..even(3, tokens) };
                let (q, mask) = (random(&[3, 2 * tokens, 8]), causal_mask(tokens, &Device::Cpu)?);
                let asker = |first: Chunk| Asker {
                    q: q.clone(),
                    scale: SCALE,
                    chunks: vec![first, even(3, 1), own.clone()],
                    mask: mask.clone(),
                    hidden: None,
                    watch: None,
                };
                let got = asker(first.clone());
                let mut want = asker(first.unpacked()?);
                want.chunks[1] = got.chunks[1].clone();
                let attended = attend(std::slice::from_ref(&got))?.remove(0).out;
                assert!(difference(&attended, &attend(&[want.clone()])?[0].out)? < EXACT);
                assert!(difference(&attended, &plain::attend(&[got])?[0])? < EXACT, "{bits:?} {tokens}");
                assert!(difference(&attended, &plain::attend(&[want])?[0])? < EXACT);
            }
        }
    }
    Ok(())
}

/// Parts of a packed chunk are its slots and not those of another group.
#[test]
fn parts_attend_like_the_whole() -> Result<()> {
    let (q, whole) = (random(&[2, 6, 8]), packed(&chunk(100), PackedBits::Four)?);
    let parts = [whole.narrow(0, 40)?, whole.narrow(40, 1)?, whole.narrow(41, 59)?.narrow(0, 59)?];
    let want = alone(&q, &[whole.unpacked()?])?;
    assert!(difference(&alone(&q, std::slice::from_ref(&whole))?, &want)? < EXACT);
    assert!(difference(&alone(&q, &parts)?, &want)? < EXACT);
    assert!(whole.same(&whole.clone()) && whole.narrow(3, 9)?.same(&whole.narrow(3, 9)?));
    assert!(!whole.same(&whole.narrow(0, 99)?) && !whole.same(&whole.unpacked()?));
    assert!(!whole.same(&packed(&whole.unpacked()?, PackedBits::Four)?), "other memory");
    assert_eq!(whole.bytes(), parts[0].bytes() + whole.narrow(40, 60)?.bytes() - 2 * 8 * 4);
    Ok(())
}

/// Sequences that share a packed chunk meet it together; windows begin inside of it; and it is watched.
#[test]
fn packed_chunks_are_shared_hidden_and_watched() -> Result<()> {
    let (first, b) = (packed(&chunk(90), PackedBits::Eight)?, chunk(7));
    let asker = |rows: usize| Asker {
        q: random(&[2, rows, 8]),
        scale: SCALE,
        chunks: vec![first.clone(), b.clone(), chunk(rows)],
        mask: None,
        hidden: None,
        watch: None,
    };
    let askers = [asker(2), asker(4), asker(6)];
    let together = attend(&askers)?;
    for (asker, together) in askers.iter().zip(&together) {
        let mut chunks = asker.chunks.clone();
        chunks[0] = first.unpacked()?;
        assert!(difference(&together.out, &alone(&asker.q, &chunks)?)? < EXACT);
    }
    for tokens in [5, 70] {
        let hidden: Vec<usize> = (0..tokens).map(|token| token + 35).collect();
        let mask = causal_mask(tokens, &Device::Cpu)?;
        let (q, own) = (random(&[2, 3 * tokens, 8]), chunk(tokens));
        let of = |first: Chunk| Asker {
            q: q.clone(),
            scale: SCALE,
            chunks: vec![first, own.clone()],
            mask: mask.clone(),
            hidden: Some(hidden.clone()),
            watch: None,
        };
        let (got, want) = (of(first.clone()), of(first.unpacked()?));
        assert!(difference(&attend(&[got])?[0].out, &plain::attend(&[want])?[0])? < EXACT);
        let watch = Some(Watching { chunks: 1, score: ScoreAgg::Mean });
        let noted = [first.clone(), first.unpacked()?].map(|first| -> Result<_> {
            let asker = Asker { hidden: None, watch, ..of(first) };
            Ok(attend(&[asker])?.remove(0).observed.expect("watched"))
        });
        let (keys, values) = first.plain()?;
        let layer = LayerKv::new(keys.squeeze(0)?, values.squeeze(0)?, first.bias.clone())?;
        let (layers, queries) = ([layer.with_scale(SCALE)], [q.clone()]);
        let config = Compaction::keep_ratio(0.2).with_score(ScoreAgg::Mean);
        let [got, want] = noted.map(|noted| -> Result<_> {
            Ok(Compactor::new(&layers, &queries, &config).observed(&[noted?]).run()?.layers.remove(0))
        });
        let (got, want) = (got?, want?);
        assert_eq!(got.kept, want.kept);
        assert!(difference(&got.values, &want.values)? < EXACT);
    }
    Ok(())
}
