//! What may have been meant.

/// `names` by how likely they were meant where `name` was written, equally likely ones in their order.
pub fn nearest_first(name: &str, mut names: Vec<String>) -> Vec<String> {
    names.sort_by_cached_key(|other| distance(name, other));
    names
}

/// Letters to put in, take out, change or swap with their neighbour (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        rows[i][0] = i;
        for j in 1..=b.len() {
            let changed = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = changed.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = least;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::{distance, nearest_first};

    #[test]
    fn distances_count_edits() {
        for (a, b, want) in
            [("", "", 0), ("", "abc", 3), ("tova", "tova", 0), ("tvoa", "tova", 1), ("omp", "comp", 1)]
        {
            assert_eq!((distance(a, b), distance(b, a)), (want, want), "{a} {b}");
        }
        let names = ["shared", "per-layer", "per-head", "omp"].map(str::to_owned);
        assert_eq!(nearest_first("per-haed", names.to_vec())[..2], ["per-head", "per-layer"]);
    }
}
