//! The report as Markdown and as CSV.

use std::fmt::Write;

use super::aggregate::{CELLS, Clusters, Figures, Summary};
use super::calibrate::{Calibration, Class, ENOUGH, Share, family};
use crate::stats::bootstrap::Interval;

/// Cells of a table, the first row its head.
pub(super) type Cells = Vec<Vec<String>>;

/// A share with its interval, in percent.
pub(super) fn share(value: f64, [low, high]: [f64; 2]) -> String {
    format!("{:.1} [{:.1}, {:.1}]", 100.0 * value, 100.0 * low, 100.0 * high)
}

pub(super) fn interval(interval: Option<Interval>) -> String {
    interval.map_or_else(dash, |i| share(i.estimate, [i.low, i.high]))
}

/// A difference in points, with its sign.
pub(super) fn points(interval: Option<Interval>) -> String {
    // Minus zero is zero.
    let p = |v: f64| (1000.0 * v).round() / 10.0 + 0.0;
    interval.map_or_else(dash, |i| format!("{:+.1} [{:+.1}, {:+.1}]", p(i.estimate), p(i.low), p(i.high)))
}

pub(super) fn dash() -> String {
    "–".to_owned()
}

pub(super) fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && digit != '-' && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn head(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

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

/// The tables of classes: accuracy and, but for domains, the difference to the reference.
pub(super) fn class_tables(summary: &Summary) -> Vec<(String, Cells)> {
    let mut tables = Vec::new();
    for axis in ["length", "difficulty", "kind", CELLS, "domain"] {
        let classes = summary.groups.iter().filter(|g| g.axis == axis).count();
        if classes == 0 {
            continue;
        }
        let cells = group_cells(summary, axis, |f| share(f.accuracy, f.accuracy_ci));
        tables.push((format!("By {axis}"), cells));
        if axis != "domain" && summary.conditions.len() > 1 {
            let mut cells = group_cells(summary, axis, |f| points(f.difference));
            cells.retain(|line| line[0] != summary.reference);
            tables.push((format!("By {axis}: points to {}", summary.reference), cells));
        }
    }
    tables
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

/// Conditions that differ in one number, by family; the fewest worker tokens first.
pub(super) fn families(summary: &Summary) -> Vec<(String, Vec<(f64, String)>)> {
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

pub(super) fn margin_says(summary: &Summary) -> String {
    format!(
        "Of settings that differ in one number, the one with the fewest worker tokens whose 95 % interval of the difference to \
         {} ends above -{:.1} points.",
        summary.reference,
        100.0 * summary.margin
    )
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

/// What calibration amounts to.
pub(super) fn calibration_lines(calibration: &Calibration) -> Vec<String> {
    let few = calibration.classes.iter().filter(|c| c.too_few).count();
    let mut lines = vec![format!(
        "On the test part, settings per class are right on {} % of {} rows: {} points against the single setting {}, \
         and save {} % of its worker tokens.",
        share(calibration.per_class.accuracy, calibration.per_class.ci),
        calibration.per_class.n,
        points(calibration.difference),
        calibration.single.value,
        interval(calibration.saved),
    )];
    if few > 0 {
        lines.push(format!(
            "{few} of {} classes have fewer than {ENOUGH} validation items; they take the single setting.",
            calibration.classes.len()
        ));
    }
    lines.extend(calibration.findings.iter().cloned());
    lines
}

/// What was run, in a few sentences.
pub(super) fn opening(summary: &Summary, torn: usize) -> Vec<String> {
    let mut lines = vec![format!(
        "{} items about {} documents, {} conditions, {} {} of the orchestrator each; every condition answers the same \
         items over the same turns. The reference is {}.",
        summary.items,
        summary.documents,
        summary.conditions.len(),
        summary.repeats,
        if summary.repeats == 1 { "run" } else { "runs" },
        summary.reference,
    )];
    lines.push(match summary.clusters {
        Clusters::Document => "Brackets hold 95 % intervals: Wilson's for an accuracy, a bootstrap that draws whole documents for \
                               differences, ratios and medians."
            .to_owned(),
        Clusters::Item => "Brackets hold 95 % intervals: Wilson's for an accuracy, a bootstrap of items for differences, ratios \
                           and medians. All rows are of one document or name none, so that they hold for items like these."
            .to_owned(),
    });
    if summary.datasets.iter().any(|d| d.contains("synthetic")) {
        lines.push("The items are synthetic: generated, not from a published set.".to_owned());
    }
    if !summary.failures.is_empty() {
        let n: usize = summary.conditions.iter().map(|f| f.n).sum();
        lines.push(format!("{} of {n} rows have no answer; they count as wrong.", summary.failures.len()));
    }
    if torn > 0 {
        lines.push(format!("The last line of the rows was cut off ({torn} bytes) and is left out."));
    }
    let short = summary.conditions.iter().filter(|f| f.items < summary.items).count();
    if short > 0 {
        lines.push(format!(
            "{short} conditions lack some of the items: the run is not complete, or was not paired. Differences are over \
             the rows that both have."
        ));
    }
    lines
}

/// The heading of each section with what it says.
pub(super) const SAYS: [(&str, &str); 8] = [
    ("Accuracy", "Retention is accuracy over that of the reference."),
    (
        "Savings, reduction, retention, overhead, accuracy",
        "Savings are of worker and orchestrator, worker tokens of the worker alone, both against text replay on the same \
         items. Overhead is the time of making briefings over the time that text replay takes to read its prompts.",
    ),
    ("Tokens and time of an item", "What a worker attends to and writes, all calls of an item."),
    ("By class", "Accuracy in %, with Wilson's interval, and paired differences in points."),
    (
        "What this many items can show",
        "At level 0.05 and power 0.8, for the share of pairs on which a condition and the reference disagree.",
    ),
    (
        "Noise of the orchestrator and of the handoff",
        "Variance of a score between runs of the orchestrator of one item, and between this condition and the reference on \
         the same turns, each taken from its own mean.",
    ),
    ("Calibration", ""),
    ("Settings that hold", ""),
];

fn table(out: &mut String, cells: &Cells) {
    for (at, line) in cells.iter().enumerate() {
        let escaped: Vec<String> = line.iter().map(|c| c.replace('|', "\\|").replace('\n', " ")).collect();
        let _ = writeln!(out, "| {} |", escaped.join(" | "));
        if at == 0 {
            let _ = writeln!(out, "|---|{}", "---:|".repeat(line.len().saturating_sub(1)));
        }
    }
    out.push('\n');
}

fn section(out: &mut String, at: usize, cells: &Cells) {
    let (title, says) = SAYS[at];
    let _ = writeln!(out, "## {title}\n\n{says}\n");
    table(out, cells);
}

/// The report as Markdown.
pub(super) fn markdown(
    summary: &Summary,
    calibration: Option<&Calibration>,
    torn: usize,
    plots: &[(String, String)],
) -> String {
    let mut out = format!("# Report\n\n{}\n\n", opening(summary, torn).join(" "));
    section(&mut out, 0, &accuracy_cells(&summary.conditions));
    section(&mut out, 1, &token_cells(&summary.conditions));
    section(&mut out, 2, &cost_cells(&summary.conditions));
    for (file, caption) in plots {
        let _ = writeln!(out, "![{caption}]({file})\n");
    }
    let _ = writeln!(out, "## {}\n\n{}\n", SAYS[3].0, SAYS[3].1);
    for (name, cells) in class_tables(summary) {
        let _ = writeln!(out, "{name}:\n");
        table(&mut out, &cells);
    }
    let margin = margin_cells(summary);
    if margin.len() > 1 {
        let _ = writeln!(out, "## {}\n\n{}\n", SAYS[7].0, margin_says(summary));
        table(&mut out, &margin);
    }
    if !summary.power.is_empty() {
        section(&mut out, 4, &power_cells(summary));
    }
    if !summary.noise.is_empty() {
        section(&mut out, 5, &noise_cells(summary));
    }
    if let Some(calibration) = calibration {
        let _ = writeln!(out, "## {}\n\n{}\n", SAYS[6].0, calibration_says(calibration));
        table(&mut out, &calibration_cells(calibration));
        for line in calibration_lines(calibration) {
            let _ = writeln!(out, "- {line}");
        }
        out.push('\n');
    }
    if !summary.failures.is_empty() {
        let _ = writeln!(out, "## Rows without an answer\n");
        for f in &summary.failures {
            let reason = f.reason.replace('\n', " ");
            let _ = writeln!(out, "- `{}`, {}, repeat {}: {reason}", f.item, f.condition, f.repeat);
        }
    }
    out
}

pub(super) fn calibration_says(calibration: &Calibration) -> String {
    format!(
        "Of {} the setting with the fewest worker tokens whose accuracy on the validation part is at most {:.1} points below \
         {}, per class of length and difficulty. Values from light to aggressive: {}.",
        calibration.family,
        100.0 * calibration.tolerance,
        calibration.reference,
        calibration.values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    )
}

fn field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

/// One line per class and condition; shares from 0 to 1, an empty field where there is no figure.
pub(super) fn csv(summary: &Summary) -> String {
    let mut out = String::from(
        "axis,class,condition,rows,items,right,failures,accuracy,accuracy_low,accuracy_high,difference,difference_low,\
         difference_high,mcnemar_p,retention,retention_low,retention_high,worker_median,worker_mean,worker_mean_low,\
         worker_mean_high,reduction,reduction_low,reduction_high,orchestrator_mean,total_mean,medium_savings,\
         medium_savings_low,medium_savings_high,overhead,overhead_low,overhead_high,brief_s_median,keep_ratio,\
         keep_ratio_low,keep_ratio_high\n",
    );
    for f in &summary.conditions {
        csv_line(&mut out, "all", "", f);
    }
    for group in &summary.groups {
        for f in &group.conditions {
            csv_line(&mut out, group.axis, &group.value, f);
        }
    }
    out
}

fn csv_line(out: &mut String, axis: &str, class: &str, f: &Figures) {
    let number = |v: f64| format!("{v:.6}");
    let three = |i: Option<Interval>| match i {
        Some(i) => [i.estimate, i.low, i.high].map(number).join(","),
        None => ",,".to_owned(),
    };
    let fields = [
        axis.to_owned(),
        field(class),
        field(&f.condition),
        f.n.to_string(),
        f.items.to_string(),
        f.right.to_string(),
        f.failures.to_string(),
        number(f.accuracy),
        number(f.accuracy_ci[0]),
        number(f.accuracy_ci[1]),
        three(f.difference),
        f.mcnemar.map_or_else(String::new, |m| number(m.mid_p)),
        three(f.retention),
        number(f.worker_median),
        three(Some(f.worker_mean)),
        three(f.reduction),
        number(f.orchestrator_mean),
        number(f.total_mean),
        three(f.medium_savings),
        three(f.overhead),
        number(f.brief_s),
        three(f.keep_ratio),
    ];
    let _ = writeln!(out, "{}", fields.join(","));
}
