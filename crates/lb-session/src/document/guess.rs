//! Which encoding bytes that are no UTF-8 look like. A guess for a message; nothing is converted by it.

/// Bytes that are looked at.
const LOOK: usize = 1 << 16;

/// Two or four bytes a character without a mark at the beginning, by the zeros between those of Latin letters.
pub(super) fn wide(bytes: &[u8]) -> Option<&'static str> {
    let look = &bytes[..bytes.len().min(LOOK)];
    let zeros =
        |of: usize, from: usize| look.iter().skip(from).step_by(of).filter(|byte| **byte == 0).count();
    if look.len() < 2 || !look.contains(&0) {
        return None;
    }
    // A third of the characters is enough: spaces, digits and punctuation are of this kind in every script.
    let quarter = look.len() / 4;
    if quarter > 0 && zeros(4, 1) + zeros(4, 2) >= 2 * quarter {
        return Some(if zeros(4, 0) > zeros(4, 3) { "UTF-32BE" } else { "UTF-32LE" });
    }
    let (big, little) = (zeros(2, 0), zeros(2, 1));
    let enough = 6 * big.max(little) >= look.len();
    enough.then_some(if big > little { "UTF-16BE" } else { "UTF-16LE" })
}

/// One or two bytes a character.
pub(super) fn narrow(bytes: &[u8]) -> &'static str {
    let look = &bytes[..bytes.len().min(LOOK)];
    let high = |byte: &u8| *byte >= 0x80;
    let all = look.iter().filter(|byte| high(byte)).count().max(1);
    let runs: Vec<&[u8]> = look.chunk_by(|a, b| high(a) == high(b)).filter(|run| high(&run[0])).collect();
    // Letters with accents and typographic marks stand alone between plain letters.
    let alone: usize = runs.iter().filter(|run| run.len() <= 1).map(|run| run.len()).sum();
    let kana = look.windows(2).filter(|pair| matches!(pair[0], 0x82 | 0x83) && pair[1] >= 0x40).count();
    if 4 * kana >= all {
        return "SHIFT_JIS";
    }
    if 2 * alone >= all {
        return "WINDOWS-1252";
    }
    if runs.iter().all(|run| run.len() % 2 == 0 && run.iter().all(|byte| *byte >= 0xA1)) {
        return east_asian(&runs);
    }
    let within = |low: u8, high: u8| look.iter().filter(|byte| (low..=high).contains(*byte)).count();
    let (upper, lower) = (within(0xC0, 0xDF), within(0xE0, 0xFF));
    // Cyrillic letters lie there, the small ones in one half and the capitals in the other.
    if 5 * (upper + lower) >= 4 * all {
        return if lower >= upper { "WINDOWS-1251" } else { "KOI8-R" };
    }
    if look.iter().any(|byte| (0x81..=0xA0).contains(byte)) { "GB18030" } else { "WINDOWS-1252" }
}

/// Pairs of bytes from 0xA1 up: the first one of a pair says the script.
fn east_asian(runs: &[&[u8]]) -> &'static str {
    let firsts: Vec<u8> = runs.iter().flat_map(|run| run.iter().step_by(2).copied()).collect();
    let share = |low: u8, high: u8| {
        let n = firsts.iter().filter(|first| (low..=high).contains(*first)).count();
        n as f64 / firsts.len().max(1) as f64
    };
    // Kana make a third of Japanese; Korean is hangul almost alone.
    if share(0xA4, 0xA5) > 0.2 {
        "EUC-JP"
    } else if share(0xB0, 0xC8) > 0.9 {
        "EUC-KR"
    } else {
        "GB18030"
    }
}
