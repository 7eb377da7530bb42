//! Random and recent selections.

use lb_am::Protected;
use lb_am::selectors::{random_positions, recent_positions};

use super::BARE;

const ENDS: Protected = Protected { first: 2, last: 1 };

#[test]
fn random_positions_are_seeded() {
    let draw = |seed| random_positions(1000, 100, ENDS, seed);
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
    assert_eq!(random_positions(20, 6, BARE, 7).len(), 6);
}

#[test]
fn random_positions_are_even() {
    // Each of 50 positions is drawn 10 / 50 of the time: 800 of 4000, give or take 25 (one standard deviation).
    let mut counts = [0u32; 50];
    for seed in 0..4000 {
        for slot in random_positions(50, 10, BARE, seed) {
            counts[slot as usize] += 1;
        }
    }
    assert!(counts.iter().all(|count| (680..920).contains(count)), "{counts:?}");
}

#[test]
fn recent_positions_are_the_last_ones() {
    assert_eq!(recent_positions(10, 5, ENDS), [0, 1, 7, 8, 9]);
    assert_eq!(recent_positions(10, 4, BARE), [6, 7, 8, 9]);
}

#[test]
fn budgets_are_met_between_the_protected_positions_and_the_whole() {
    for kept in [0, 1, 3, 4, 9, 10, 11, 100] {
        let want = kept.clamp(3, 10);
        for slots in [random_positions(10, kept, ENDS, 5), recent_positions(10, kept, ENDS)] {
            assert_eq!(slots.len(), want, "{slots:?}");
            assert!(slots.windows(2).all(|pair| pair[0] < pair[1]));
            assert!([0, 1, 9].iter().all(|slot| slots.contains(slot)));
        }
    }
    assert!(random_positions(0, 5, ENDS, 1).is_empty() && recent_positions(0, 5, ENDS).is_empty());
}
