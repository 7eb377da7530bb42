//! Conditions that differ in one number.

use super::{Figures, Summary};

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

/// Conditions that differ in one number, by family; the fewest worker tokens first.
pub(crate) fn families(summary: &Summary) -> Vec<(String, Vec<(f64, String)>)> {
    let mut families: Vec<(String, Vec<(f64, &Figures)>)> = Vec::new();
    for f in &summary.conditions {
        let Some((name, value)) = family(&f.condition) else { continue };
        match families.iter_mut().find(|(other, _)| *other == name) {
            Some((_, members)) => members.push((value, f)),
            None => families.push((name, vec![(value, f)])),
        }
    }
    families.retain(|(_, members)| members.len() > 1);
    let sorted = |(name, mut members): (String, Vec<(f64, &Figures)>)| {
        members.sort_by(|a, b| a.1.worker_mean.estimate.total_cmp(&b.1.worker_mean.estimate));
        (name, members.into_iter().map(|(value, f)| (value, f.condition.clone())).collect())
    };
    families.into_iter().map(sorted).collect()
}

/// Which family a report is about: the one with the most members, ours where several have as many.
pub(crate) fn weight(name: &str, members: usize) -> (usize, bool) {
    (members, name.starts_with("latent-briefing"))
}

/// For each condition what stands for it in a picture, and its number: a family, or itself where it has none.
pub(crate) fn lines(summary: &Summary) -> Vec<(usize, String)> {
    let families = families(summary);
    let mut labels: Vec<String> = Vec::new();
    let line = |f: &Figures| {
        let own = families.iter().find(|(_, members)| members.iter().any(|(_, c)| *c == f.condition));
        let label = own.map_or(&f.condition, |(name, _)| name);
        let index = labels.iter().position(|other| other == label).unwrap_or_else(|| {
            labels.push(label.clone());
            labels.len() - 1
        });
        (index, label.clone())
    };
    summary.conditions.iter().map(line).collect()
}
