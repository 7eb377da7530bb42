//! How long to wait before a request is repeated.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, SystemTime};

use ureq::http::HeaderMap;

/// The pause before request `sent` + 1 (`sent` from 1) where the server names none: it doubles from `first` up to `longest`, and
/// half of it is random.
pub fn backoff(first: Duration, longest: Duration, sent: usize) -> Duration {
    let doublings = u32::try_from(sent.saturating_sub(1)).unwrap_or(u32::MAX).min(31);
    let longest = first.saturating_mul(1 << doublings).min(longest);
    longest / 2 + (longest / 2).mul_f64(random())
}

/// From 0 to 1; the standard library's random hash keys are random enough to spread requests.
fn random() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 11;
    bits as f64 / (1_u64 << 53) as f64
}

/// How long a reply asks to wait: milliseconds (`retry-after-ms`), seconds, or until a date (`retry-after`).
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let number = |name| text(headers, name).and_then(|value| value.parse::<f64>().ok());
    let milliseconds = number("retry-after-ms").map(|ms| ms / 1e3);
    if let Some(seconds) = milliseconds.or_else(|| number("retry-after")) {
        return Duration::try_from_secs_f64(seconds.max(0.0)).ok();
    }
    let date = httpdate::parse_http_date(text(headers, "retry-after")?).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

/// When a spent limit begins anew, as the hub says it: `ratelimit: "api";r=0;t=55`, seconds in `t`.
pub fn rate_limit_reset(headers: &HeaderMap) -> Option<Duration> {
    let limit = text(headers, "ratelimit")?;
    let field = |name| limit.split(';').find_map(|part| part.trim().strip_prefix(name)?.parse::<u64>().ok());
    (field("r=") == Some(0)).then(|| field("t=").map(Duration::from_secs)).flatten()
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_the_hub_are_read() {
        for (value, expected) in [
            (r#""api";r=0;t=55"#, Some(55)),
            (r#""resolvers";r=0; t=7"#, Some(7)),
            (r#""api";r=12;t=55"#, None),
            (r#""api";r=0"#, None),
            ("soon", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("ratelimit", value.parse().unwrap());
            assert_eq!(rate_limit_reset(&headers), expected.map(Duration::from_secs), "{value}");
        }
    }

    #[test]
    fn pauses_double_and_are_bounded() {
        let (first, longest) = (Duration::from_secs(1), Duration::from_secs(8));
        for (sent, most) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 8), (usize::MAX, 8)] {
            let (pause, most) = (backoff(first, longest, sent), Duration::from_secs(most));
            assert!(pause >= most / 2 && pause <= most, "{sent}: {pause:?}");
        }
    }
}
