//! Tables: the first row is the head.

use super::{Cells, dash, head, interval, points, share, thousands};
use crate::bench::aggregate::{Figures, Summary};
use crate::bench::calibrate::{Calibration, Class, Share};
use crate::bench::families::families;
use crate::stats::bootstrap::Interval;

pub(super) fn accuracy_cells(conditions: &[Figures]) -> Cells {
    let mut cells = vec![head(&[
        "condition",
        "rows",
        "failed",
        "accuracy, %",
        "to the reference, points",
        "McNemar p",
        "retention, %",
    ])];
    cells.extend(conditions.iter().map(|f| {
        vec![
            f.condition.clone(),
            f.n.to_string(),
            f.failures.to_string(),
            share(f.accuracy, f.accuracy_ci),
            points(f.difference),
            f.mcnemar.map_or_else(dash, |m| {
                if m.mid_p < 0.001 { "< 0.001".to_owned() } else { format!("{:.3}", m.mid_p) }
            }),
            interval(f.retention),
        ]
    }));
    cells
}

pub(super) fn token_cells(conditions: &[Figures]) -> Cells {
    let mut cells = vec![head(&[
        "condition",
        "median savings, medium documents, %",
        "worker tokens saved, %",
        "retention, %",
        "overhead, % of reading",
        "accuracy, %",
    ])];
    cells.extend(conditions.iter().map(|f| {
        vec![
            f.condition.clone(),
            interval(f.medium_savings),
            interval(f.reduction),
            interval(f.retention),
            interval(f.overhead),
            share(f.accuracy, f.accuracy_ci),
        ]
    }));
    cells
}

/// One line per condition whose letters can be compared.
pub(super) fn letter_cells(conditions: &[Figures]) -> Cells {
    let mut cells = vec![head(&["condition", "pairs", "same letter, %", "KL, nats", "on letters, %"])];
    cells.extend(conditions.iter().filter_map(|f| {
        let letters = f.letters.as_ref()?;
        let kl = letters.kl;
        Some(vec![
            f.condition.clone(),
            letters.pairs.to_string(),
            share(letters.agreement, letters.agreement_ci),
            format!("{:.3} [{:.3}, {:.3}]", kl.estimate, kl.low, kl.high),
            format!("{:.1}", 100.0 * letters.mass),
        ])
    }));
    cells
}

pub(super) fn cost_cells(conditions: &[Figures]) -> Cells {
    let mut cells = vec![head(&[
        "condition",
        "worker, median",
        "worker, mean",
        "orchestrator, mean",
        "total, mean",
        "kept, median %",
        "briefing s, median",
    ])];
    cells.extend(conditions.iter().map(|f| {
        let mean = f.worker_mean;
        vec![
            f.condition.clone(),
            thousands(f.worker_median),
            format!("{} [{}, {}]", thousands(mean.estimate), thousands(mean.low), thousands(mean.high)),
            thousands(f.orchestrator_mean),
            thousands(f.total_mean),
            interval(f.keep_ratio),
            format!("{:.3}", f.brief_s),
        ]
    }));
    cells
}

/// One line per condition, one column per class of `axis`.
pub(super) fn group_cells(summary: &Summary, axis: &str, cell: fn(&Figures) -> String) -> Cells {
    let groups: Vec<_> = summary.groups.iter().filter(|g| g.axis == axis).collect();
    let mut first = vec!["condition".to_owned()];
    first.extend(groups.iter().map(|g| {
        let items = g.conditions.iter().map(|f| f.items).max().unwrap_or(0);
        format!("{} ({items} items)", g.value)
    }));
    let mut cells = vec![first];
    for f in &summary.conditions {
        let mut line = vec![f.condition.clone()];
        line.extend(
            groups
                .iter()
                .map(|g| g.conditions.iter().find(|c| c.condition == f.condition).map_or_else(dash, cell)),
        );
        cells.push(line);
    }
    cells
}

/// One line per family of settings: the fewest worker tokens whose accuracy is surely no more than the margin below the
/// reference's, over all items and in each kind.
pub(super) fn margin_cells(summary: &Summary) -> Cells {
    let kinds: Vec<_> = summary.groups.iter().filter(|g| g.axis == "kind").collect();
    let mut first = vec!["family".to_owned(), "all items".to_owned()];
    if kinds.len() > 1 {
        first.extend(kinds.iter().map(|g| g.value.clone()));
        first.push("every kind".to_owned());
    }
    let holds = |f: &Figures| f.difference.is_some_and(|d| d.low > -summary.margin);
    let of = |group: &'_ [Figures], name: &str| group.iter().find(|f| f.condition == name).cloned();
    let mut cells = vec![first];
    for members in families(summary) {
        let (name, members) = members;
        // The most aggressive first.
        let among = |group: &[Figures]| {
            let found = members
                .iter()
                .find_map(|(value, condition)| Some((value, of(group, condition).filter(holds)?)));
            found.map_or_else(|| "none".to_owned(), |(value, f)| format!("{value}: {}", points(f.difference)))
        };
        let mut line = vec![name.clone(), among(&summary.conditions)];
        if kinds.len() > 1 {
            line.extend(kinds.iter().map(|g| among(&g.conditions)));
            let every = |condition: &str| {
                kinds.iter().all(|g| of(&g.conditions, condition).is_some_and(|f| holds(&f)))
            };
            let found = members.iter().find(|(_, condition)| every(condition));
            line.push(found.map_or_else(|| "none".to_owned(), |(value, _)| value.to_string()));
        }
        cells.push(line);
    }
    cells
}

pub(super) fn power_cells(summary: &Summary) -> Cells {
    let mut cells = vec![head(&[
        "condition",
        "pairs",
        "disagreeing, %",
        "pairs for 3 points",
        "smallest difference here, points",
    ])];
    cells.extend(summary.power.iter().map(|p| {
        vec![
            p.condition.clone(),
            p.pairs.to_string(),
            format!("{:.1}", 100.0 * p.discordance),
            p.for_three_points.map_or_else(|| "cannot differ so much".to_owned(), |n| thousands(n as f64)),
            p.smallest.map_or_else(|| "none".to_owned(), |d| format!("{:.1}", 100.0 * d)),
        ]
    }));
    cells
}

pub(super) fn noise_cells(summary: &Summary) -> Cells {
    let mut cells =
        vec![head(&["condition", "orchestrator, variance", "handoff, variance", "orchestrator's share, %"])];
    let variance = |i: Interval| format!("{:.4} [{:.4}, {:.4}]", i.estimate, i.low, i.high);
    cells.extend(summary.noise.iter().map(|n| {
        vec![n.condition.clone(), variance(n.orchestrator), variance(n.handoff), interval(n.share)]
    }));
    cells
}

pub(super) fn calibration_cells(calibration: &Calibration) -> Cells {
    let mut cells = vec![head(&[
        "class",
        "chosen",
        "range of the choice",
        "validation items",
        "validation, %",
        "reference there, %",
        "test rows",
        "test, %",
        "single setting, %",
        "to the reference, points",
    ])];
    let of = |s: &Share| if s.n == 0 { dash() } else { share(s.accuracy, s.ci) };
    let line = |class: &Class, name: String| {
        let mark = match (class.too_few, class.none_held) {
            (true, _) => " (too few)",
            (false, true) => " (none held)",
            _ => "",
        };
        vec![
            name,
            format!("{}{mark}", class.value),
            format!("{} to {}", class.value_range[0], class.value_range[1]),
            class.items.to_string(),
            of(&class.validation),
            of(&class.validation_reference),
            class.test.n.to_string(),
            of(&class.test),
            of(&class.test_single),
            points(class.difference),
        ]
    };
    cells.push(line(&calibration.single, "all, the single setting".to_owned()));
    cells.extend(calibration.classes.iter().map(|c| line(c, format!("{} {}", c.length, c.difficulty))));
    cells
}
