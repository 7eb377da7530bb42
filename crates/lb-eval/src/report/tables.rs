//! Tables of the report: each is its columns.

use super::cells::{dash, interval, points, share, thousands};
use super::families::families;
use crate::answers::calibrate::{Calibration, Class, Share};
use crate::answers::{Figures, Letters, Noise, Power, Summary};
use crate::stats::bootstrap::Interval;
use crate::table::{Column, Table};

pub(super) fn accuracy(conditions: &[Figures]) -> Table {
    let columns: &[Column<'_, Figures>] = &[
        ("condition", &|f| f.condition.clone()),
        ("rows", &|f| f.n.to_string()),
        ("failed", &|f| f.failures.to_string()),
        ("accuracy, %", &|f| share(f.accuracy, f.accuracy_ci)),
        ("to the reference, points", &|f| points(f.difference)),
        ("McNemar p", &|f| match f.mcnemar {
            Some(test) if test.mid_p < 0.001 => "< 0.001".to_owned(),
            Some(test) => format!("{:.3}", test.mid_p),
            None => dash(),
        }),
        ("retention, %", &|f| interval(f.retention)),
    ];
    Table::of(conditions, columns)
}

pub(super) fn token(conditions: &[Figures]) -> Table {
    let columns: &[Column<'_, Figures>] = &[
        ("condition", &|f| f.condition.clone()),
        ("median savings, medium documents, %", &|f| interval(f.medium_savings)),
        ("worker tokens saved, %", &|f| interval(f.reduction)),
        ("retention, %", &|f| interval(f.retention)),
        ("overhead, % of reading", &|f| interval(f.overhead)),
        ("accuracy, %", &|f| share(f.accuracy, f.accuracy_ci)),
    ];
    Table::of(conditions, columns)
}

/// One line per condition whose letters can be compared.
pub(super) fn letter(conditions: &[Figures]) -> Table {
    let columns: &[Column<'_, (&Figures, &Letters)>] = &[
        ("condition", &|(f, _)| f.condition.clone()),
        ("pairs", &|(_, l)| l.pairs.to_string()),
        ("same letter, %", &|(_, l)| share(l.agreement, l.agreement_ci)),
        ("KL, nats", &|(_, l)| format!("{:.3} [{:.3}, {:.3}]", l.kl.estimate, l.kl.low, l.kl.high)),
        ("on letters, %", &|(_, l)| format!("{:.1}", 100.0 * l.mass)),
    ];
    let compared: Vec<_> = conditions.iter().filter_map(|f| Some((f, f.letters.as_ref()?))).collect();
    Table::of(&compared, columns)
}

pub(super) fn cost(conditions: &[Figures]) -> Table {
    let mean =
        |i: Interval| format!("{} [{}, {}]", thousands(i.estimate), thousands(i.low), thousands(i.high));
    let columns: &[Column<'_, Figures>] = &[
        ("condition", &|f| f.condition.clone()),
        ("worker, median", &|f| thousands(f.worker_median)),
        ("worker, mean", &|f| mean(f.worker_mean)),
        ("orchestrator, mean", &|f| thousands(f.orchestrator_mean)),
        ("total, mean", &|f| thousands(f.total_mean)),
        ("kept, median %", &|f| interval(f.keep_ratio)),
        ("briefing s, median", &|f| format!("{:.3}", f.brief_s)),
    ];
    Table::of(conditions, columns)
}

/// One line per condition, one column per class of `axis`.
pub(super) fn group(summary: &Summary, axis: &str, cell: fn(&Figures) -> String) -> Table {
    let groups: Vec<_> = summary.groups.iter().filter(|g| g.axis == axis).collect();
    let mut first = vec!["condition".to_owned()];
    first.extend(groups.iter().map(|g| {
        let items = g.conditions.iter().map(|f| f.items).max().unwrap_or(0);
        format!("{} ({items} items)", g.value)
    }));
    let mut table = Table::new(first);
    for f in &summary.conditions {
        let mut line = vec![f.condition.clone()];
        line.extend(
            groups
                .iter()
                .map(|g| g.conditions.iter().find(|c| c.condition == f.condition).map_or_else(dash, cell)),
        );
        table.push(line);
    }
    table
}

/// One line per family of settings: the fewest worker tokens whose accuracy is surely no more than the margin below the
/// reference's, over all items and in each kind.
pub(super) fn margin(summary: &Summary) -> Table {
    let kinds: Vec<_> = summary.groups.iter().filter(|g| g.axis == "kind").collect();
    let mut first = vec!["family".to_owned(), "all items".to_owned()];
    if kinds.len() > 1 {
        first.extend(kinds.iter().map(|g| g.value.clone()));
        first.push("every kind".to_owned());
    }
    let holds = |f: &Figures| f.difference.is_some_and(|d| d.low > -summary.margin);
    let of = |group: &'_ [Figures], name: &str| group.iter().find(|f| f.condition == name).cloned();
    let mut table = Table::new(first);
    for (name, members) in families(summary) {
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
        table.push(line);
    }
    table
}

pub(super) fn power(summary: &Summary) -> Table {
    let columns: &[Column<'_, Power>] = &[
        ("condition", &|p| p.condition.clone()),
        ("pairs", &|p| p.pairs.to_string()),
        ("disagreeing, %", &|p| format!("{:.1}", 100.0 * p.discordance)),
        ("pairs for 3 points", &|p| {
            p.for_three_points.map_or_else(|| "cannot differ so much".to_owned(), |n| thousands(n as f64))
        }),
        ("smallest difference here, points", &|p| {
            p.smallest.map_or_else(|| "none".to_owned(), |d| format!("{:.1}", 100.0 * d))
        }),
    ];
    Table::of(&summary.power, columns)
}

pub(super) fn noise(summary: &Summary) -> Table {
    let variance = |i: Interval| format!("{:.4} [{:.4}, {:.4}]", i.estimate, i.low, i.high);
    let columns: &[Column<'_, Noise>] = &[
        ("condition", &|n| n.condition.clone()),
        ("orchestrator, variance", &|n| variance(n.orchestrator)),
        ("handoff, variance", &|n| variance(n.handoff)),
        ("orchestrator's share, %", &|n| interval(n.share)),
    ];
    Table::of(&summary.noise, columns)
}

pub(super) fn calibration(calibration: &Calibration) -> Table {
    let of = |s: &Share| if s.n == 0 { dash() } else { share(s.accuracy, s.ci) };
    let columns: &[Column<'_, (String, &Class)>] = &[
        ("class", &|(name, _)| name.clone()),
        ("chosen", &|(_, class)| {
            let mark = match (class.too_few, class.none_held) {
                (true, _) => " (too few)",
                (false, true) => " (none held)",
                _ => "",
            };
            format!("{}{mark}", class.value)
        }),
        ("range of the choice", &|(_, class)| {
            format!("{} to {}", class.value_range[0], class.value_range[1])
        }),
        ("validation items", &|(_, class)| class.items.to_string()),
        ("validation, %", &|(_, class)| of(&class.validation)),
        ("reference there, %", &|(_, class)| of(&class.validation_reference)),
        ("test rows", &|(_, class)| class.test.n.to_string()),
        ("test, %", &|(_, class)| of(&class.test)),
        ("single setting, %", &|(_, class)| of(&class.test_single)),
        ("to the reference, points", &|(_, class)| points(class.difference)),
    ];
    let single = ("all, the single setting".to_owned(), &calibration.single);
    let classes = calibration.classes.iter().map(|c| (format!("{} {}", c.length, c.difficulty), c));
    let lines: Vec<_> = std::iter::once(single).chain(classes).collect();
    Table::of(&lines, columns)
}
