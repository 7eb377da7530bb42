//! Numbers as people read them.

/// 2040 as `2,040`.
pub(super) fn count(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Seconds in the unit that suits them. What no clock can have measured counts as 0.
pub(super) fn seconds(s: f64) -> String {
    match sane(s) {
        0.0 => "0 s".to_owned(),
        s if s < 0.9995e-3 => "< 1 ms".to_owned(),
        s if s < 0.9995 => format!("{:.0} ms", s * 1e3),
        s if s < 59.95 => format!("{s:.1} s"),
        s if s < 3600.0 => format!("{} min {:02} s", (s / 60.0) as u64, (s % 60.0) as u64),
        s => format!("{} h {:02} min", count((s / 3600.0) as usize), (s % 3600.0 / 60.0) as u64),
    }
}

/// A time that a log may hold, without what no clock can have measured.
pub(super) fn sane(seconds: f64) -> f64 {
    if seconds.is_finite() && seconds > 0.0 { seconds.min(1e12) } else { 0.0 }
}

/// A share of 1 in percent.
pub(super) fn percent(share: f64) -> String {
    match 100.0 * share {
        p if !p.is_finite() => "?".to_owned(),
        p if p != 0.0 && p.abs() < 9.95 => format!("{p:.1} %"),
        p => format!("{p:.0} %"),
    }
}

/// Bytes in the unit that suits them.
pub(super) fn bytes(n: usize) -> String {
    match n as f64 {
        b if b < 1024.0 => format!("{n} B"),
        b if b < 1024.0 * 1024.0 => format!("{:.0} KiB", b / 1024.0),
        b if b < 1024.0 * 1024.0 * 1024.0 => format!("{:.1} MiB", b / (1024.0 * 1024.0)),
        b => format!("{:.2} GiB", b / (1024.0 * 1024.0 * 1024.0)),
    }
}

/// When, to the minute.
pub(super) fn moment(rfc3339: &str) -> String {
    match chrono::DateTime::parse_from_rfc3339(rfc3339) {
        Ok(at) => at.to_utc().format("%Y-%m-%d %H:%M UTC").to_string(),
        Err(_) => super::visible::short(rfc3339, 40),
    }
}

/// The middle one.
pub(super) fn median(mut numbers: Vec<f64>) -> Option<f64> {
    numbers.retain(|n| n.is_finite());
    numbers.sort_by(f64::total_cmp);
    let (low, high) = (numbers.get(numbers.len().checked_sub(1)? / 2)?, numbers.get(numbers.len() / 2)?);
    Some(f64::midpoint(*low, *high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(["0", "999", "1,000", "1,234,567"], [0, 999, 1000, 1_234_567].map(count)[..]);
        let times = [f64::NAN, -1.0, 1e-5, 0.0123, 0.9999, 59.94, 61.0, 7322.0].map(seconds);
        assert_eq!(times, ["0 s", "0 s", "< 1 ms", "12 ms", "1.0 s", "59.9 s", "1 min 01 s", "2 h 02 min"]);
        assert_eq!([0.0, 0.0312, 0.104, 1.0].map(percent), ["0 %", "3.1 %", "10 %", "100 %"]);
        assert_eq!([12, 4096, 3 << 20].map(bytes), ["12 B", "4 KiB", "3.0 MiB"]);
        assert_eq!(moment("2026-11-21T16:20:59.5+02:00"), "2026-11-21 14:20 UTC");
        assert_eq!(moment("soon\u{7}"), "soon\\u{7}");
    }

    #[test]
    fn the_middle_one() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, f64::NAN, 1.0]), Some(2.0));
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
    }
}
