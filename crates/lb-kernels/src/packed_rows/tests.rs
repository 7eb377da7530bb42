//! What packing may cost, and that what is packed is attended to as what it unpacks to.

use half::{bf16, f16};

use super::{GROUP, Grids, PackedBits, PackedRows};
use crate::error::Error;
use crate::test_numbers::numbers;
use crate::{AttentionInput, FloatSlice, KvRows, KvSlice, Observe, QueryAgg, Scratch, attend};

/// Keys as models have them: a channel in seven is ten times as large as the others, or far from zero.
fn keys(rows: usize, width: usize, seed: u64) -> Vec<f32> {
    let scaled = |(at, x): (usize, f32)| match at % width % 7 {
        3 => 10.0 * x,
        5 => 40.0 + x,
        _ => x,
    };
    numbers(rows * width, seed).into_iter().enumerate().map(scaled).collect()
}

/// Which numbers share the grid of the one at `at`.
fn sharing(grids: Grids, rows: usize, width: usize, at: usize) -> Vec<usize> {
    let (row, channel) = (at / width, at % width);
    match grids {
        Grids::PerChannel => {
            let first = row / GROUP * GROUP;
            (first..rows.min(first + GROUP)).map(|row| row * width + channel).collect()
        }
        Grids::PerRow => {
            let first = channel / GROUP * GROUP;
            (first..width.min(first + GROUP)).map(|channel| row * width + channel).collect()
        }
    }
}

/// Half a step, and a step is the range over the levels; both ends of the range are rounded to f16.
#[test]
fn numbers_are_off_by_half_a_step() {
    for grids in [Grids::PerChannel, Grids::PerRow] {
        for bits in PackedBits::ALL {
            for (rows, width) in [(1, 8), (5, 5), (31, 24), (32, 64), (33, 128), (100, 20), (70, 256)] {
                let from = keys(rows, width, 7);
                let packed = PackedRows::pack(&[&from], width, grids, bits).unwrap();
                let mut to = vec![f32::NAN; from.len()];
                packed.head(0).to_f32(&mut to);
                for (at, (x, got)) in from.iter().zip(&to).enumerate() {
                    let kin = sharing(grids, rows, width, at);
                    let low = kin.iter().map(|at| from[*at]).fold(f32::INFINITY, f32::min);
                    let high = kin.iter().map(|at| from[*at]).fold(f32::NEG_INFINITY, f32::max);
                    let levels = ((1 << bits.count()) - 1) as f32;
                    let ulp = 2f32.powi(-10);
                    let step = (high - low + low.abs() * ulp) / levels * (1.0 + ulp) + 1e-7;
                    let bound = step / 2.0 + x.abs() * 1e-6;
                    let off = (x - got).abs();
                    assert!(
                        off <= bound,
                        "{grids:?} {bits:?} {rows}x{width} at {at}: {x} {got}, {off:e} > {bound:e}"
                    );
                }
            }
        }
    }
}

/// Each bit more halves what is lost: nothing is thrown away but what the levels cost.
#[test]
fn more_bits_lose_less() {
    let from = keys(64, 64, 3);
    let lost = PackedBits::ALL.map(|bits| {
        let packed = PackedRows::pack(&[&from], 64, Grids::PerChannel, bits).unwrap();
        let squares = from.iter().zip(packed.unpack(&(0..64))).map(|(x, y)| f64::from(x - y).powi(2));
        squares.sum::<f64>().sqrt()
    });
    assert!(lost[0] > 3.0 * lost[1] && lost[1] > 8.0 * lost[2], "{lost:?}");
}

#[test]
fn constant_numbers_and_levels_are_exact() {
    for bits in PackedBits::ALL {
        for x in [0.0, -0.0, 1.5, -3.25, 65504.0, -65504.0] {
            let packed = PackedRows::pack(&[&[x; 40]], 8, Grids::PerChannel, bits).unwrap();
            assert_eq!(packed.unpack(&(0..5)), [x; 40], "{x} in {bits:?}");
        }
        let levels: Vec<f32> = (0..1 << bits.count()).map(|level| level as f32 - 2.0).collect();
        for grids in [Grids::PerChannel, Grids::PerRow] {
            let ends = [-2.0, (levels.len() - 3) as f32];
            let rows: Vec<f32> = levels.iter().take(30).copied().chain(ends).collect();
            let width = if grids == Grids::PerRow { rows.len() } else { 1 };
            let packed = PackedRows::pack(&[&rows], width, grids, bits).unwrap();
            assert_eq!(packed.unpack(&(0..rows.len())), rows, "{grids:?} {bits:?}");
        }
    }
}

#[test]
fn what_no_grid_reaches_is_refused() {
    let pack = |x: f32| PackedRows::pack(&[&[0.0, x]], 1, Grids::PerChannel, PackedBits::Two);
    for x in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, -1e6] {
        assert!(matches!(pack(x), Err(Error::Range(_))), "{x}");
    }
    assert!(pack(1e5).is_ok());
    let torn = PackedRows::pack(&[&[0.0; 5]], 2, Grids::PerRow, PackedBits::Four);
    assert!(matches!(torn, Err(Error::Packed { .. })));
    assert!(matches!(
        PackedRows::pack(&[&[]], 0, Grids::PerRow, PackedBits::Four),
        Err(Error::Packed { .. })
    ));
}

/// Heads of different counts, parts of them, the first rows alone, and parts put together again.
#[test]
fn parts_are_parts_of_the_whole() {
    const WIDTH: usize = 24;
    for grids in [Grids::PerChannel, Grids::PerRow] {
        for bits in PackedBits::ALL {
            let heads = [keys(70, WIDTH, 1), keys(0, WIDTH, 2), keys(33, WIDTH, 3)];
            let slices: Vec<&[f32]> = heads.iter().map(|head| &head[..]).collect();
            let packed = PackedRows::pack(&slices, WIDTH, grids, bits).unwrap();
            assert_eq!(packed.counts(), [70, 0, 33]);
            let alone = |head: usize| {
                PackedRows::pack(&slices[head..=head], WIDTH, grids, bits).unwrap().unpack(&(0..100))
            };
            let whole = [alone(0), alone(2)].concat();
            assert_eq!(packed.unpack(&(0..70)), whole);
            for (from, len) in [(0, 70), (1, 40), (31, 2), (64, 6), (69, 1), (33, 0)] {
                let mut part = vec![f32::NAN; len * WIDTH];
                packed.head(0).range(from, len).to_f32(&mut part);
                assert_eq!(part, whole[from * WIDTH..(from + len) * WIDTH], "{grids:?} {from} {len}");
            }
            let first = packed.first(40);
            assert_eq!((first.counts(), first.unpack(&(0..40))), (&[40, 0, 33][..], packed.unpack(&(0..40))));
            assert_eq!(first.bytes(&(0..70)), packed.bytes(&(0..40)));
            let bytes = packed.codes().len() + size_of_val(packed.grid());
            assert_eq!(packed.bytes(&(0..usize::MAX)), bytes);
            let again = |codes: Vec<u8>, grid: Vec<f16>| {
                PackedRows::from_parts(vec![70, 0, 33], WIDTH, grids, bits, codes, grid)
            };
            let (codes, grid) = (packed.codes().to_vec(), packed.grid().to_vec());
            assert_eq!(again(codes.clone(), grid.clone()).unwrap(), packed);
            assert!(again(codes[1..].to_vec(), grid.clone()).is_err());
            assert!(again(codes.clone(), grid[1..].to_vec()).is_err());
            assert!(again(codes, vec![f16::INFINITY; grid.len()]).is_err());
        }
    }
}

/// What a byte of a plain cache becomes: 32 slots of 128 channels and their grids.
#[test]
fn bytes_are_those_of_codes_and_grids() {
    let from = numbers(32 * 128, 1);
    for (bits, codes) in [(PackedBits::Eight, 4096), (PackedBits::Four, 2048), (PackedBits::Two, 1024)] {
        let of = |grids| PackedRows::pack(&[&from], 128, grids, bits).unwrap().bytes(&(0..32));
        assert_eq!((of(Grids::PerChannel), of(Grids::PerRow)), (codes + 512, codes + 512));
    }
}

/// Relative to outputs of about 1: the same numbers in the same order.
const SAME: f32 = 1e-6;

/// Few queries and many, tiles that end inside a group, masks, biases, scores, and floats of every dtype behind.
#[test]
fn attention_over_packed_rows_is_that_over_what_they_unpack_to() {
    for bits in PackedBits::ALL {
        for (rows, slots, width) in [(1, 300, 64), (7, 90, 20), (9, 33, 64), (48, 300, 128), (48, 129, 24)] {
            let own = rows.min(10);
            let queries = numbers(rows * width, 5);
            let bias = numbers(slots, 6);
            let pack = |from: &[f32], grids| PackedRows::pack(&[from], width, grids, bits).unwrap();
            let packed = [
                pack(&keys(slots + 40, width, 8), Grids::PerChannel),
                pack(&numbers((slots + 40) * width, 9), Grids::PerRow),
            ];
            let wide = packed.each_ref().map(|packed| packed.unpack(&(40..slots + 40)));
            let tail = [numbers(own * width, 10), numbers(own * width, 11)];
            let tail = tail.map(|x| x.iter().map(|x| bf16::from_f32(*x)).collect::<Vec<_>>());
            let visible: Vec<usize> = (0..rows).map(|row| row % own + 1).collect();
            let over = |rows: [KvRows<'_>; 2]| {
                let [keys, values] = rows;
                let [tail_keys, tail_values] = tail.each_ref().map(|x| FloatSlice::Bf16(x).into());
                let chunks = [
                    KvSlice { keys, values, bias: Some(&bias) },
                    KvSlice { keys: tail_keys, values: tail_values, bias: None },
                ];
                let input = AttentionInput {
                    queries: &queries,
                    head_dim: width,
                    scale: 0.2,
                    chunks: &chunks,
                    hidden: None,
                    visible: Some(&visible),
                    allow_bf16: true,
                    output: true,
                    observe: Some(Observe { chunks: 1, score: Some(QueryAgg::Sum), output: true }),
                };
                let unscored = Observe { chunks: 1, score: None, output: true };
                let (mut out, mut plain) = (vec![0.0; queries.len()], vec![0.0; queries.len()]);
                let scratch = &mut Scratch::default();
                let noted = attend(&input, scratch, &mut out).unwrap();
                let input = AttentionInput { observe: Some(unscored), ..input };
                attend(&input, scratch, &mut plain);
                [out, plain, noted.output, noted.scores]
            };
            let got = over(packed.each_ref().map(|packed| packed.head(0).range(40, slots).into()));
            let want = over(wide.each_ref().map(|wide| FloatSlice::F32(wide).into()));
            for (got, want) in got.iter().zip(&want) {
                let far = got.iter().zip(want).fold(0f32, |far, (a, b)| far.max((a - b).abs()));
                assert!(far <= SAME && got.len() == want.len(), "{bits:?} {rows} {slots} {width}: {far:e}");
            }
        }
    }
}
