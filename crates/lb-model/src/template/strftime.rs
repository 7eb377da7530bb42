//! Dates as Python's `strftime` writes them in the C locale.

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// A moment in UTC, in the parts that formats ask for.
struct Moment {
    year: i64,
    month: i64,
    day: i64,
    day_of_year: i64,
    weekday: i64,
    seconds: i64,
}

/// Formats `time` (UTC). Knows the directives `aAbBdeHIjmMpSuwyYDFTR%` and glibc's `-` (no padding); any other
/// directive is `None`.
pub(super) fn format(time: SystemTime, format: &str) -> Option<String> {
    let moment = Moment::new(time);
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut directive = chars.next()?;
        let padded = directive != '-';
        if !padded {
            directive = chars.next()?;
        }
        moment.write(&mut out, directive, padded)?;
    }
    Some(out)
}

impl Moment {
    fn new(time: SystemTime) -> Self {
        let whole = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX / 2);
        let seconds = match time.duration_since(UNIX_EPOCH) {
            Ok(after) => whole(after),
            Err(before) => -whole(before.duration() + Duration::from_nanos(999_999_999)),
        };
        let days = seconds.div_euclid(86_400);
        let (year, month, day) = civil(days);
        let day_of_year = days - days_before(year, 1, 1) + 1;
        let weekday = (days + 4).rem_euclid(7);
        Self { year, month, day, day_of_year, weekday, seconds: seconds.rem_euclid(86_400) }
    }

    fn write(&self, out: &mut String, directive: char, padded: bool) -> Option<()> {
        let (hour, minute, second) = (self.seconds / 3600, self.seconds / 60 % 60, self.seconds % 60);
        let mut number = |value: i64, width: usize| {
            let width = if padded { width } else { 0 };
            write!(out, "{value:0width$}").ok()
        };
        match directive {
            'd' => number(self.day, 2),
            'm' => number(self.month, 2),
            'Y' => number(self.year, 1),
            'y' => number(self.year.rem_euclid(100), 2),
            'H' => number(hour, 2),
            'I' => number((hour + 11) % 12 + 1, 2),
            'M' => number(minute, 2),
            'S' => number(second, 2),
            'j' => number(self.day_of_year, 3),
            'w' => number(self.weekday, 1),
            'u' => number((self.weekday + 6) % 7 + 1, 1),
            'e' => write!(out, "{:1$}", self.day, if padded { 2 } else { 0 }).ok(),
            'b' | 'B' | 'a' | 'A' | 'p' | '%' => {
                out.push_str(self.name(directive, hour));
                Some(())
            }
            'F' => write!(out, "{}-{:02}-{:02}", self.year, self.month, self.day).ok(),
            'D' => write!(out, "{:02}/{:02}/{:02}", self.month, self.day, self.year.rem_euclid(100)).ok(),
            'T' => write!(out, "{hour:02}:{minute:02}:{second:02}").ok(),
            'R' => write!(out, "{hour:02}:{minute:02}").ok(),
            _ => None,
        }
    }

    fn name(&self, directive: char, hour: i64) -> &'static str {
        let (month, day) = (MONTHS[self.month as usize - 1], DAYS[self.weekday as usize]);
        match directive {
            'b' => &month[..3],
            'B' => month,
            'a' => &day[..3],
            'A' => day,
            'p' if hour < 12 => "AM",
            'p' => "PM",
            _ => "%",
        }
    }
}

/// Year, month and day of a day counted from 1970-01-01, by 400-year eras that begin in March.
fn civil(days: i64) -> (i64, i64, i64) {
    let from_era_start = days + 719_468;
    let (era, day_of_era) = (from_era_start.div_euclid(146_097), from_era_start.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// The inverse of [`civil`].
fn days_before(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}
