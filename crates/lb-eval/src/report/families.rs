//! The conditions of a report that differ in one number.

use crate::answers::calibrate::family;
use crate::answers::{Figures, Summary};
use crate::stats::grouped;

/// Conditions that differ in one number, by family; the fewest worker tokens first.
pub(super) fn families(summary: &Summary) -> Vec<(String, Vec<(f64, String)>)> {
    let members = summary.conditions.iter().filter_map(|f| {
        let (name, value) = family(&f.condition)?;
        Some((name, value, f))
    });
    let members: Vec<(String, f64, &Figures)> = members.collect();
    let sorted = |(name, mut members): (&str, Vec<&(String, f64, &Figures)>)| {
        members.sort_by(|(.., a), (.., b)| a.worker_mean.estimate.total_cmp(&b.worker_mean.estimate));
        (name.to_owned(), members.into_iter().map(|(_, value, f)| (*value, f.condition.clone())).collect())
    };
    let families = grouped(&members, |(name, ..)| name.as_str()).into_iter();
    families.filter(|(_, members)| members.len() > 1).map(sorted).collect()
}

/// For each condition what stands for it in a picture, and its number: a family, or itself where it has none.
pub(super) fn lines(summary: &Summary) -> Vec<(usize, String)> {
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
