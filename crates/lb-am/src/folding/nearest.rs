//! The kept key that is most similar to one that goes.

use lb_kernels::panel::{MatrixView, PANEL, matmul_panel, pack_panels};

use super::row;

/// Stands in for the norm of a key of zeros, as in kvpress.
const TINY: f32 = 1e-6;

/// For each of `slots` the index into `among` of the key of the largest cosine, and that cosine; equal ones go to the
/// earlier.
///
/// # Shapes
///
/// `keys` `[slots, width]`; `among` is not empty.
pub(super) fn nearest(keys: &[f32], width: usize, among: &[usize], slots: &[usize]) -> Vec<(usize, f32)> {
    let rows = directions(keys, width, among);
    let rows = MatrixView::packed(&rows, among.len(), width);
    let mut cosines = vec![[0.0; PANEL]; among.len()];
    let mut found = Vec::with_capacity(slots.len());
    for slots in slots.chunks(PANEL) {
        cosines.fill([0.0; PANEL]);
        for panel in pack_panels(&directions(keys, width, slots), width) {
            matmul_panel(rows, &panel, slots.len(), &mut cosines);
        }
        let mut best = vec![(0, f32::NEG_INFINITY); slots.len()];
        for (index, line) in cosines.iter().enumerate() {
            for (best, cosine) in best.iter_mut().zip(line) {
                if *cosine > best.1 {
                    *best = (index, *cosine);
                }
            }
        }
        found.extend(best);
    }
    found
}

/// Keys divided by their norms, behind one another.
fn directions(keys: &[f32], width: usize, slots: &[usize]) -> Vec<f32> {
    let mut out = Vec::with_capacity(slots.len() * width);
    for slot in slots {
        let key = row(keys, width, *slot);
        let norm = key.iter().map(|x| x * x).sum::<f32>().sqrt().max(TINY);
        out.extend(key.iter().map(|x| x / norm));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn panels_change_nothing_and_equal_keys_go_to_the_earlier() {
        let width = 5;
        let keys: Vec<f32> = (0..width * 130).map(|i| ((i * i) as f32 * 0.37).sin()).collect();
        let among: Vec<usize> = (0..130).step_by(3).collect();
        let slots: Vec<usize> = (0..130).filter(|slot| slot % 3 > 0).collect();
        let all = nearest(&keys, width, &among, &slots);
        let norm = |slot: usize| keys[slot * width..][..width].iter().map(|x| x * x).sum::<f32>().sqrt();
        let dot = |a: usize, b: usize| -> f32 {
            (0..width).map(|i| keys[a * width + i] * keys[b * width + i]).sum()
        };
        for (slot, (index, cosine)) in slots.iter().zip(all) {
            let best = among.iter().map(|other| dot(*slot, *other) / norm(*slot) / norm(*other));
            let best = best.fold(f32::NEG_INFINITY, f32::max);
            assert!((cosine - best).abs() < 1e-5);
            let own = dot(*slot, among[index]) / norm(*slot) / norm(among[index]);
            assert!((own - best).abs() < 1e-5);
        }
        let equal = [1.0, 2.0, 2.0, 4.0, 0.5, 1.0, 0.0, 0.0];
        assert!(nearest(&equal, 2, &[0, 1], &[2, 3]).iter().all(|(index, _)| *index == 0));
    }
}
