//! Spans: a position is as important as what stands near it.

use std::ops::Range;

use crate::config::Spans;
use crate::error::{Error, Result};
use crate::mask::Score;

/// How positions of a text belong together, for scores and for what is kept.
#[derive(Clone, Debug)]
pub(crate) struct SpanMap {
    spans: Spans,
    /// First position of each unit, the first one 0; empty unless spans are units.
    starts: Vec<u32>,
}

impl SpanMap {
    /// Units need to be told where they begin: strictly ascending, inside the cache. A first unit begins at 0 anyway.
    pub(crate) fn new(spans: Spans, starts: Option<&[u32]>, seq_len: usize) -> Result<Self> {
        if !matches!(spans, Spans::Units(_)) {
            return Ok(Self::windows_of(spans));
        }
        let refuse = |value: String, reason| Err(Error::Config { field: "units", value, reason });
        let Some(given) = starts else { return refuse("none".into(), "must be given for spans of units") };
        if let Some(pair) = given.windows(2).find(|pair| pair[0] >= pair[1]) {
            return refuse(format!("{pair:?}"), "must be strictly ascending");
        }
        if let Some(last) = given.last().filter(|last| **last as usize >= seq_len) {
            return refuse(last.to_string(), "must lie inside the cache");
        }
        let mut starts = given.to_vec();
        if starts.first() != Some(&0) {
            starts.insert(0, 0);
        }
        Ok(Self { spans, starts })
    }

    /// Spans of so many positions.
    pub(crate) fn windows_of(spans: Spans) -> Self {
        Self { spans, starts: Vec::new() }
    }

    /// Scores with those around them.
    pub(crate) fn pool<T: Score>(&self, scores: &[T]) -> Vec<T> {
        match self.spans {
            Spans::Max { width } => windows(scores.len(), width).map(|w| T::largest(&scores[w])).collect(),
            Spans::Mean { width } => windows(scores.len(), width).map(|w| T::mean(&scores[w])).collect(),
            Spans::Faded { width, factor } => {
                let around = windows(scores.len(), width).map(|w| T::largest(&scores[w]));
                scores.iter().zip(around).map(|(own, largest)| own.or_part(largest, factor)).collect()
            }
            Spans::Units(_) => {
                let mut pooled = Vec::with_capacity(scores.len());
                for unit in self.units(scores.len()) {
                    pooled.resize(unit.end, T::largest(&scores[unit]));
                }
                pooled
            }
        }
    }

    /// The units of `seq_len` positions where spans are units.
    pub(crate) fn units(&self, seq_len: usize) -> Vec<Range<usize>> {
        let starts: Vec<usize> = self.starts.iter().map(|s| *s as usize).filter(|s| *s < seq_len).collect();
        let ends = starts.iter().skip(1).copied().chain([seq_len]);
        starts.iter().copied().zip(ends).map(|(start, end)| start..end).collect()
    }

    /// Whether whole units are kept.
    pub(crate) fn whole_units(&self) -> bool {
        !self.starts.is_empty()
    }

    /// The positions that come along when `j` is kept.
    pub(crate) fn around(&self, j: usize, seq_len: usize) -> Range<usize> {
        match self.spans {
            Spans::Max { width } | Spans::Mean { width } | Spans::Faded { width, .. } => {
                window(j, seq_len, width)
            }
            Spans::Units(_) => {
                let next = self.starts.partition_point(|start| *start as usize <= j);
                let end = self.starts.get(next).map_or(seq_len, |start| (*start as usize).min(seq_len));
                self.starts[next - 1] as usize..end
            }
        }
    }
}

fn window(j: usize, len: usize, width: usize) -> Range<usize> {
    j.saturating_sub(width / 2)..(j + width / 2 + 1).min(len)
}

fn windows(len: usize, width: usize) -> impl Iterator<Item = Range<usize>> {
    (0..len).map(move |j| window(j, len, width))
}

#[cfg(test)]
mod tests {
    use super::SpanMap;
    use crate::config::{Spans, Units};

    fn pool(scores: &[f32], spans: Spans, starts: Option<&[u32]>) -> Vec<f32> {
        SpanMap::new(spans, starts, scores.len()).unwrap().pool(scores)
    }

    #[test]
    fn pools_over_a_centred_window_cut_off_at_the_ends() {
        let scores = [5.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0];
        assert_eq!(pool(&scores, Spans::Max { width: 3 }, None), [5.0, 5.0, 1.0, 1.0, 1.0, 0.0, 0.0]);
        assert_eq!(pool(&scores, Spans::OFF, None), scores);
        assert_eq!(pool(&scores, Spans::Max { width: 255 }, None), [5.0; 7]);
        assert!(pool(&[], Spans::Max { width: 9 }, None).is_empty());
        let mean = pool(&scores, Spans::Mean { width: 3 }, None);
        assert!((mean[0] - 2.5).abs() < 1e-6 && (mean[1] - 5.0 / 3.0).abs() < 1e-6);
        assert!(mean[6].abs() < f32::EPSILON);
        let faded = pool(&scores, Spans::Faded { width: 3, factor: 0.1 }, None);
        assert_eq!(faded, [5.0, 0.5, 0.1, 1.0, 0.1, 0.0, 0.0]);
    }

    #[test]
    fn units_share_their_largest_score() {
        let scores = [1.0, 2.0, 0.0, 0.0, 7.0];
        let spans = Spans::Units(Units::Sentences);
        assert_eq!(pool(&scores, spans, Some(&[2, 4])), [2.0, 2.0, 0.0, 0.0, 7.0]);
        assert_eq!(pool(&scores, spans, Some(&[])), [7.0; 5]);
        let map = SpanMap::new(spans, Some(&[2, 4]), 5).unwrap();
        assert_eq!((map.around(0, 5), map.around(3, 5), map.around(4, 5)), (0..2, 2..4, 4..5));
        for bad in [&[3u32, 3][..], &[5]] {
            assert!(SpanMap::new(spans, Some(bad), 5).is_err(), "{bad:?}");
        }
        assert!(SpanMap::new(spans, None, 5).is_err());
    }
}
