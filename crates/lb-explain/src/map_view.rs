//! The map of one briefing, small enough for a page with a thousand of them.

use std::fmt::Write;

use lb_session::BriefingMap;
use serde::Serialize;

use super::figures::{count, percent};
use super::seen::{Path, Seen};
use super::visible::visible;

/// Columns of a strip.
const COLUMNS: usize = 240;
/// Characters of kept text that are shown where nothing draws the map.
const EXCERPT: usize = 480;

/// How a briefing is drawn.
#[derive(Debug, Serialize)]
pub(super) struct MapView {
    pub(super) kept: String,
    pub(super) of: String,
    pub(super) percent: String,
    pub(super) strip: Strip,
    /// Why there is no text, or not all of it.
    pub(super) note: Option<&'static str>,
    pub(super) excerpt: Vec<KeptSpan>,
    /// The script's data, where the text is known and the page has room for it.
    pub(super) data: Option<MapData>,
}

/// What the script draws a map from.
#[derive(Debug, Serialize)]
pub(super) struct MapData {
    /// Segments that had entered.
    upto: usize,
    /// Those among them that were not in the cache, `from-to from-to`, the end excluded.
    without: String,
    /// `kept_by` of every position and then `heat` of every position, a byte each, in base64.
    map: String,
}

/// Where in the trajectory what was kept lies: paths of one row, by density, and under them the sources.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Strip {
    pub(super) columns: usize,
    /// From little to much; empty where there is none of it.
    pub(super) levels: [String; 4],
    pub(super) sources: Vec<Band>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Band {
    pub(super) source: &'static str,
    pub(super) path: String,
}

/// A stretch of kept text; `None` stands for what was dropped in between.
#[derive(Debug, Serialize)]
pub(super) struct KeptSpan {
    text: String,
    heat: String,
    gap: bool,
}

pub(super) const NOT_WHOLE: &str = "The log's map of this briefing is damaged.";
const COMPACTED: &str = "Only where in the trajectory the kept positions lie is known here, not their text: the worker's cache held another \
     number of positions than the log has tokens, as when the oldest part was compacted to make room.";
const NO_ROOM: &str = "The page is full: this map is left out, but for its strip and its beginning.";

/// The view of `map`, whose call began when there were `upto` segments; `room` is what is left of the page's positions.
pub(super) fn view(
    map: &BriefingMap,
    path: &mut Path<'_>,
    upto: usize,
    head: &[String],
    room: &mut usize,
) -> MapView {
    let positions = map.kept_by.len();
    let whole = positions > 0 && map.heat.len() == positions && map.seq_len == positions;
    let seen = if whole { path.seen(upto, positions) } else { None };
    let (mut note, mut excerpt, mut data) = (None, Vec::new(), None);
    match &seen {
        None => note = Some(if whole { COMPACTED } else { NOT_WHOLE }),
        Some(seen) => {
            excerpt = kept_text(map, path, seen, head);
            if *room >= positions {
                *room -= positions;
                data = Some(map_data(map, seen));
            } else {
                note = Some(NO_ROOM);
            }
        }
    }
    MapView {
        kept: count(map.kept_len),
        of: count(map.seq_len),
        percent: percent(map.keep_ratio),
        strip: strip(map, seen.as_ref().map(|seen| (seen, &*path, head.len())), COLUMNS),
        note,
        excerpt,
        data,
    }
}

fn map_data(map: &BriefingMap, seen: &Seen) -> MapData {
    let bytes: Vec<u8> = map.kept_by.iter().chain(&map.heat).map(|share| (*share).min(100)).collect();
    let mut without = String::new();
    for gone in &seen.without {
        // Writing to a string cannot fail.
        let _ = write!(without, "{}-{} ", gone.start, gone.end);
    }
    MapData { upto: seen.upto, without: without.trim_end().to_owned(), map: base64(&bytes) }
}

/// The kept text from its beginning, as far as it is shown without the script.
fn kept_text(map: &BriefingMap, path: &Path<'_>, seen: &Seen, head: &[String]) -> Vec<KeptSpan> {
    let segments = seen.segments().flat_map(|number| &path.entered()[number].pieces);
    let pieces = head.iter().chain(segments).zip(map.kept_by.iter().zip(&map.heat));
    let (mut out, mut chars, mut gap) = (Vec::<KeptSpan>::new(), 0, false);
    for (piece, (kept_by, heat)) in pieces {
        if *kept_by == 0 {
            gap = true;
            continue;
        }
        let text = visible(piece).replace('\n', " ");
        chars += text.chars().count();
        let heat = format!("{:.1}", f64::from((*heat).min(100)) / 100.0);
        match out.last_mut().filter(|last| !gap && last.heat == heat) {
            Some(last) => last.text.push_str(&text),
            None => out.push(KeptSpan { text, heat, gap }),
        }
        gap = false;
        if chars > EXCERPT {
            break;
        }
    }
    out
}

/// The strip of a map in `columns` columns, or as many as it has positions.
fn strip(map: &BriefingMap, seen: Option<(&Seen, &Path<'_>, usize)>, columns: usize) -> Strip {
    let positions = map.kept_by.len();
    let columns = columns.min(positions).max(1);
    let column = |number: usize| number * positions / columns..(number + 1) * positions / columns;
    let density = |number: usize| {
        let shares = &map.kept_by[column(number)];
        let sum: usize = shares.iter().map(|share| usize::from((*share).min(100))).sum();
        match sum as f64 / shares.len().max(1) as f64 {
            0.0 => None,
            d if d <= 15.0 => Some(0),
            d if d <= 35.0 => Some(1),
            d if d <= 65.0 => Some(2),
            _ => Some(3),
        }
    };
    let mut levels: [String; 4] = Default::default();
    runs(columns, density, |level, from, len| draw(&mut levels[level], from, len));
    let mut sources = Vec::<Band>::new();
    if let Some((seen, path, head)) = seen {
        // Whose position each column begins with.
        let mut of_column = Vec::with_capacity(columns);
        let lengths = std::iter::once(("template", head))
            .chain(seen.segments().map(|n| (path.entered()[n].source.tag(), path.entered()[n].pieces.len())));
        let mut end = 0;
        for (source, len) in lengths {
            end += len;
            while of_column.len() < columns && column(of_column.len()).start < end {
                of_column.push(source);
            }
        }
        runs(
            columns,
            |number| of_column.get(number).copied(),
            |source, from, len| {
                let at = sources.iter().position(|band| band.source == source).unwrap_or(sources.len());
                if at == sources.len() {
                    sources.push(Band { source, path: String::new() });
                }
                draw(&mut sources[at].path, from, len);
            },
        );
    }
    Strip { columns, levels, sources }
}

/// Calls `each` with value, start and length of every run of equal values.
fn runs<T: PartialEq>(
    columns: usize,
    value: impl Fn(usize) -> Option<T>,
    mut each: impl FnMut(T, usize, usize),
) {
    let mut from = 0;
    while from < columns {
        let this = value(from);
        let len = (from + 1..columns).take_while(|number| value(*number) == this).count() + 1;
        if let Some(this) = this {
            each(this, from, len);
        }
        from += len;
    }
}

fn draw(path: &mut String, from: usize, len: usize) {
    // Writing to a string cannot fail.
    let _ = write!(path, "M{from} 0h{len}");
}

/// Base64 with padding (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let word =
            group.iter().enumerate().fold(0_u32, |word, (at, byte)| word | u32::from(*byte) << (16 - 8 * at));
        for at in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * at)) as usize & 63];
            out.push(if at <= group.len() { char::from(letter) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        let pairs = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
        ];
        for (plain, coded) in pairs {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn a_strip_is_drawn_in_runs() {
        let kept_by = [vec![0; 5], vec![100; 3], vec![10; 2]].concat();
        let map = BriefingMap { seq_len: 10, kept_len: 3, keep_ratio: 0.3, heat: vec![0; 10], kept_by };
        let drawn = strip(&map, None, 240);
        assert_eq!((drawn.columns, &drawn.levels), (10, &["M8 0h2", "", "", "M5 0h3"].map(String::from)));
        let empty = BriefingMap { seq_len: 0, kept_len: 0, keep_ratio: 0.0, heat: vec![], kept_by: vec![] };
        assert_eq!(strip(&empty, None, 240).columns, 1);
    }
}
