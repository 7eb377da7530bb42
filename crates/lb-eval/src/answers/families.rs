//! Conditions that differ in one number.

/// The family of a condition with its number taken out, and the number: `tau=*` and 4 of `tau=4`.
pub fn family(condition: &str) -> Option<(String, f64)> {
    let digits = |text: &str| text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (at, n, value) = condition.match_indices('=').find_map(|(at, _)| {
        let rest = &condition[at + 1..];
        let n = digits(rest);
        rest[..n].parse::<f64>().ok().filter(|v| v.is_finite()).map(|v| (at + 1, n, v))
    })?;
    Some((format!("{}*{}", &condition[..at], &condition[at + n..]), value))
}

/// Which family a report is about: the one with the most members, ours where several have as many.
pub fn weight(name: &str, members: usize) -> (usize, bool) {
    (members, name.starts_with("latent-briefing"))
}
