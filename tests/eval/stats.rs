//! Intervals, tests and plans, against published figures.

use latent_briefing::eval::Error;
use latent_briefing::eval::stats::bootstrap::{Bootstrap, Method, Pair, interval, paired};
use latent_briefing::eval::stats::mcnemar::{from_counts, mcnemar};
use latent_briefing::eval::stats::power::Plan;
use latent_briefing::eval::stats::variance::{Repeat, split};
use latent_briefing::eval::stats::wilson;

use crate::support::assert_error;

/// Sampling error of 20,000 resamples on an end near 200, several times over.
const RESAMPLED: f64 = 4.0;
/// Published figures have so many digits.
const THREE_DIGITS: f64 = 6e-4;

/// Efron and Tibshirani, table 14.1: the spatial test data, column A.
const SPATIAL: [f64; 26] = [
    48.0, 36.0, 20.0, 29.0, 42.0, 42.0, 20.0, 42.0, 22.0, 41.0, 45.0, 14.0, 6.0, 0.0, 33.0, 28.0, 34.0, 4.0,
    32.0, 24.0, 47.0, 41.0, 24.0, 26.0, 30.0, 41.0,
];

fn variance(drawn: &[usize]) -> f64 {
    let n = drawn.len() as f64;
    let mean = drawn.iter().map(|&i| SPATIAL[i]).sum::<f64>() / n;
    drawn.iter().map(|&i| (SPATIAL[i] - mean).powi(2)).sum::<f64>() / n
}

#[test]
fn bootstrap_intervals_of_a_variance_are_the_published_ones() {
    let settings = |method| Bootstrap { resamples: 20_000, seed: 7, level: 0.9, method };
    let percentile = interval(26, &settings(Method::Percentile), variance).unwrap();
    assert!((percentile.estimate - 171.5).abs() < 0.1, "{percentile:?}");
    // The book's 2,000 resamples gave (100.8, 233.9) and (115.8, 259.6); scipy's 200,000 (97.8, 235.6), (115.4, 260.9).
    assert!((percentile.low - 97.8).abs() < RESAMPLED && (percentile.high - 235.6).abs() < RESAMPLED);
    let bca = interval(26, &settings(Method::Bca), variance).unwrap();
    assert!((bca.low - 115.4).abs() < RESAMPLED && (bca.high - 260.9).abs() < RESAMPLED, "{bca:?}");
    assert_eq!(bca, interval(26, &settings(Method::Bca), variance).unwrap());
    let other = interval(26, &Bootstrap { seed: 8, ..settings(Method::Bca) }, variance).unwrap();
    assert_ne!(other.low.to_bits(), bca.low.to_bits());
}

#[test]
fn clusters_widen_a_paired_interval() {
    // 40 logs of 10 questions; on a log the first condition has all right or none, the second half of them.
    let pairs: Vec<Pair> = (0..400).map(|i| Pair::of(i / 10, (i / 10) % 5 < 3, i % 2 == 0)).collect();
    let settings = Bootstrap::default();
    let clustered = paired(&pairs, &settings).unwrap();
    let apart: Vec<Pair> = pairs.iter().enumerate().map(|(i, p)| Pair { cluster: i as u64, ..*p }).collect();
    let independent = paired(&apart, &settings).unwrap();
    assert!((clustered.estimate - 0.1).abs() < 1e-12 && (independent.estimate - 0.1).abs() < 1e-12);
    assert_eq!((clustered.clusters, independent.clusters), (40, 400));
    let width = |i: &latent_briefing::eval::stats::bootstrap::Interval| i.high - i.low;
    // By hand: the spread of log means is 0.49, so the standard error is 0.0775 against 0.035 (0.7 / 20).
    assert!((width(&clustered) - 2.0 * 1.96 * 0.0775).abs() < 0.03, "{clustered:?}");
    assert!((width(&independent) - 2.0 * 1.96 * 0.035).abs() < 0.015, "{independent:?}");
}

#[test]
fn a_bootstrap_without_spread_is_its_estimate() {
    for method in [Method::Percentile, Method::Bca] {
        let settings = Bootstrap { method, ..Bootstrap::default() };
        let same = paired(&[Pair::of(1, true, false), Pair::of(2, true, false)], &settings).unwrap();
        assert!([same.estimate, same.low, same.high].iter().all(|v| (v - 1.0).abs() < 1e-12), "{same:?}");
        let one = paired(&[Pair::of(9, true, true), Pair::of(9, true, false)], &settings).unwrap();
        assert!((one.low - 0.5).abs() < 1e-12 && (one.high - 0.5).abs() < 1e-12, "{one:?}");
    }
    assert_error!(
        paired(&[], &Bootstrap::default()).unwrap_err(),
        Error::Config { field: "clusters", .. },
        "0"
    );
    let few = Bootstrap { resamples: 5, ..Bootstrap::default() };
    assert_error!(
        paired(&[Pair::of(1, true, true)], &few).unwrap_err(),
        Error::Config { .. },
        "resamples",
        "5"
    );
    let level = Bootstrap { level: 1.0, ..Bootstrap::default() };
    assert_error!(paired(&[Pair::of(1, true, true)], &level).unwrap_err(), Error::Config { .. }, "level");
    let nan = Pair { cluster: 0, first: f64::NAN, second: 0.0 };
    assert_error!(paired(&[nan], &Bootstrap::default()).unwrap_err(), Error::Config { .. }, "NaN");
}

#[test]
fn mcnemar_gives_the_published_p_values() {
    // Fagerland and others 2013: airway hyper-responsiveness (1 and 7), complete response (6 and 16);
    // StatsDirect's manual: tubercle bacilli on two media (12 and 2), exact 0.0129.
    for (first, second, exact, mid_p) in
        [(1, 7, 0.0703, 0.0391), (6, 16, 0.0525, 0.0347), (12, 2, 0.0129, 0.0074), (150, 121, 0.0888, 0.0785)]
    {
        let test = from_counts(first, second);
        assert!((test.exact - exact).abs() < THREE_DIGITS, "{test:?}");
        assert!((test.mid_p - mid_p).abs() < THREE_DIGITS, "{test:?}");
        let turned = from_counts(second, first);
        assert!((turned.exact - test.exact).abs() < 1e-12 && (turned.mid_p - test.mid_p).abs() < 1e-12);
    }
    let even = from_counts(5, 5);
    assert!(
        (even.exact - 1.0).abs() < 1e-9 && (even.mid_p - (1.0 - 0.246_093_75 / 2.0)).abs() < 1e-9,
        "{even:?}"
    );
    let none = mcnemar([(true, true), (false, false)]);
    assert!((none.exact - 1.0).abs() < 1e-12 && (none.mid_p - 1.0).abs() < 1e-12);
    let counted = mcnemar([(true, false), (true, false), (false, true), (true, true)]);
    assert_eq!((counted.only_first, counted.only_second), (2, 1));
    let large = from_counts(5000, 5400);
    assert!(large.mid_p > 0.0 && large.mid_p < 1e-3 && large.mid_p <= large.exact, "{large:?}");
}

#[test]
fn the_number_of_items_is_the_published_one() {
    // Connor's formula as in the worked example of powerandsamplesize.com: p01 0.45, p10 0.05 gives 23 pairs.
    assert_eq!(Plan::new(0.5).items(0.4).unwrap(), 23);
    // Three points at a discordance rate of 10 %: 870 items; 126 items cannot show it, and even 503 cannot.
    assert_eq!(Plan::new(0.1).items(0.03).unwrap(), 870);
    assert_eq!(Plan::new(0.2).items(0.03).unwrap(), 1742);
    for items in [126, 503, 5000] {
        let plan = Plan::new(0.1);
        let shown = plan.smallest_difference(items).unwrap().unwrap();
        assert!(plan.items(shown).unwrap() <= items && plan.items(shown * 0.99).unwrap() > items, "{shown}");
    }
    assert!(Plan::new(0.1).smallest_difference(126).unwrap().unwrap() > 0.07);
    // Five items on which a tenth disagree show nothing.
    assert_eq!(Plan::new(0.1).smallest_difference(5).unwrap(), None);
}

/// The chance that the exact mid-p test rejects, by summing over every outcome.
fn exact_power(items: u64, discordance: f64, difference: f64) -> f64 {
    let p_first = f64::midpoint(discordance, difference) / discordance;
    let log_choose =
        |n: u64, k: u64| (1..=k).map(|i| ((n - k + i) as f64).ln() - (i as f64).ln()).sum::<f64>();
    let pmf = |n: u64, k: u64, p: f64| {
        (log_choose(n, k) + k as f64 * p.ln() + (n - k) as f64 * (1.0 - p).ln()).exp()
    };
    let mut power = 0.0;
    for m in 1..=items {
        let weight = pmf(items, m, discordance);
        if weight < 1e-9 {
            continue;
        }
        let rejects = (0..=m).filter(|&k| from_counts(k, m - k).mid_p <= 0.05);
        power += weight * rejects.map(|k| pmf(m, k, p_first)).sum::<f64>();
    }
    power
}

#[test]
fn the_planned_power_is_the_power_of_the_test() {
    for (discordance, difference) in [(0.2, 0.1), (0.1, 0.05), (0.3, 0.1)] {
        let items = Plan::new(discordance).items(difference).unwrap();
        let power = exact_power(items, discordance, difference);
        assert!((0.79..0.83).contains(&power), "{items} items: {power}");
    }
}

#[test]
fn plans_out_of_range_are_named() {
    let plan = Plan::new(0.1);
    assert_error!(plan.items(0.2).unwrap_err(), Error::Config { field: "difference", .. }, "0.2");
    assert_error!(plan.items(0.0).unwrap_err(), Error::Config { field: "difference", .. }, "above 0");
    assert_error!(plan.items(f64::NAN).unwrap_err(), Error::Config { .. }, "NaN");
    assert_error!(Plan::new(0.0).items(0.1).unwrap_err(), Error::Config { .. }, "discordance");
    assert_error!(Plan { alpha: 0.7, ..plan }.items(0.05).unwrap_err(), Error::Config { .. }, "alpha");
    assert_error!(Plan { power: 1.0, ..plan }.items(0.05).unwrap_err(), Error::Config { .. }, "power");
    assert_error!(plan.smallest_difference(0).unwrap_err(), Error::Config { .. }, "items");
}

/// Sokal and Rohlf, box 10.1: wing lengths, 3 cages of 4 females with 2 measurements each.
const WINGS: [[[f64; 2]; 4]; 3] = [
    [[58.5, 59.5], [77.8, 80.9], [84.0, 83.6], [70.1, 68.3]],
    [[69.8, 69.8], [56.0, 54.5], [50.7, 49.3], [63.8, 65.8]],
    [[56.6, 57.5], [77.8, 79.2], [69.9, 69.2], [62.1, 64.5]],
];

fn wings() -> Vec<Repeat> {
    let mut repeats = Vec::new();
    for (item, cage) in WINGS.iter().enumerate() {
        for (run, female) in cage.iter().enumerate() {
            repeats.extend(female.map(|score| Repeat { item: item as u64, run: run as u64, score }));
        }
    }
    repeats
}

#[test]
fn variance_components_are_the_published_ones() {
    // From the book's mean squares 332.8379, 191.1864 and 1.3017: (332.8379 - 191.1864) / 8, (191.1864 - 1.3017) / 2.
    let wings = split(&wings(), &Bootstrap::default()).unwrap();
    let c = wings.components;
    assert!((c.handoff - 1.3017).abs() < THREE_DIGITS, "{c:?}");
    assert!((c.orchestrator - 94.9424).abs() < THREE_DIGITS, "{c:?}");
    assert!((c.items.unwrap() - 17.7064).abs() < THREE_DIGITS, "{c:?}");
    for interval in [wings.orchestrator, wings.handoff, wings.orchestrator_share.unwrap()] {
        assert!(interval.low <= interval.estimate && interval.estimate <= interval.high, "{interval:?}");
    }
    assert!(wings.orchestrator_share.unwrap().estimate > 0.98);
}

#[test]
fn unequal_numbers_are_weighed() {
    // By hand. Item 1: runs [0, 1], [1]; item 2: run [1, 1, 0]. Within: 0.5 + 0 + 2/3 over 3 degrees of freedom.
    let repeats: Vec<Repeat> = [(1, 1, 0.0), (1, 1, 1.0), (1, 2, 1.0), (2, 1, 1.0), (2, 1, 1.0), (2, 1, 0.0)]
        .map(|(item, run, score)| Repeat { item, run, score })
        .to_vec();
    let c = split(&repeats, &Bootstrap::default()).unwrap().components;
    let within = (0.5 + 2.0 / 3.0) / 3.0;
    assert!((c.handoff - within).abs() < 1e-12, "{c:?}");
    // Between the runs of item 1 (means 1/2 and 1 around 2/3): 2/36 + 1/9 = 1/6, below `within`: no variance.
    assert!(c.orchestrator.abs() < 1e-12 && c.items == Some(0.0), "{c:?}");
}

#[test]
fn noise_goes_where_it_was_made() {
    use rand::{Rng, SeedableRng};
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(3);
    let mut noise = |sd: f64| (0..12).map(|_| rng.random::<f64>()).sum::<f64>().mul_add(sd, -6.0 * sd);
    let mut repeats = Vec::new();
    for item in 0..300 {
        let level = noise(1.0);
        for run in 0..3 {
            let turns = level + noise(0.5);
            repeats.extend((0..3).map(|_| Repeat { item, run, score: turns + noise(0.2) }));
        }
    }
    let split = split(&repeats, &Bootstrap { resamples: 1000, ..Bootstrap::default() }).unwrap();
    let c = split.components;
    assert!((c.handoff - 0.04).abs() < 0.004 && (c.orchestrator - 0.25).abs() < 0.03, "{c:?}");
    assert!((c.items.unwrap() - 1.0).abs() < 0.2, "{c:?}");
    let inside = |i: &latent_briefing::eval::stats::bootstrap::Interval, v: f64| i.low < v && v < i.high;
    assert!(inside(&split.orchestrator, 0.25) && inside(&split.handoff, 0.04), "{split:?}");
}

#[test]
fn components_need_repeats() {
    let once: Vec<Repeat> = (0..9).map(|i| Repeat { item: i / 3, run: i, score: 1.0 }).collect();
    assert_error!(split(&once, &Bootstrap::default()).unwrap_err(), Error::Config { .. }, "two repeats");
    assert_error!(split(&[], &Bootstrap::default()).unwrap_err(), Error::Config { .. }, "repeats");
    let still: Vec<Repeat> = (0..8).map(|i| Repeat { item: i / 4, run: i / 2, score: 1.0 }).collect();
    assert_eq!(split(&still, &Bootstrap::default()).unwrap().orchestrator_share, None);
}

#[test]
fn wilson_is_where_it_was() {
    let [low, high] = wilson(81, 263);
    assert!((low - 0.2553).abs() < 5e-5 && (high - 0.3662).abs() < 5e-5);
}
