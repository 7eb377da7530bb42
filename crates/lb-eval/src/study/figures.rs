//! From cells to tables and files.

use std::collections::BTreeMap;
use std::fmt::Write;

use lb_am::HeadBudgets;

use super::Cell;
use crate::episodes::Kind;
use crate::stats::{Accuracy, grouped, mean, median, paired_difference, wilson};
use crate::table::cells::{accuracy, difference, percent};
use crate::table::{Column, Table};

/// All cells of one method and size.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Name of the method.
    pub method: String,
    /// Keep ratio asked for; 0 where the method sizes itself.
    pub asked: f64,
    /// Questions.
    pub n: usize,
    /// Mean keep ratio.
    pub keep_ratio: f64,
    /// Mean ratio of bytes.
    pub bytes_ratio: f64,
    /// Mean relative error of the attention output on held-out queries.
    pub error: f64,
    /// Mean relative error of the softmax mass on them.
    pub mass_error: f64,
    /// Mean negative log-probability of the right answer.
    pub nll: f64,
    /// Share of exact answers.
    pub accuracy: f64,
    /// Its 95 % interval.
    pub ci95: [f64; 2],
    /// Difference in accuracy to the full cache on the same questions, and its 95 % interval.
    pub against_full: Option<[f64; 3]>,
    /// Median milliseconds.
    pub ms: f64,
    /// Share of exact answers and their count by kind.
    pub kinds: BTreeMap<Kind, (f64, usize)>,
    /// The same for questions about one fact that are asked in other words than the log's.
    pub paraphrased: (f64, usize),
}

/// One figure for each method and size, in the order of first appearance.
pub fn figures(cells: &[Cell]) -> Vec<Figure> {
    let groups = grouped(cells, |cell| (cell.method.as_str(), cell.asked.to_bits()));
    let full: BTreeMap<(u64, usize), bool> = cells
        .iter()
        .filter(|cell| cell.method == "full cache")
        .map(|cell| ((cell.episode, cell.question), cell.right))
        .collect();
    groups.into_iter().map(|((method, _), group)| figure(method, &group, &full)).collect()
}

fn figure(method: &str, cells: &[&Cell], full: &BTreeMap<(u64, usize), bool>) -> Figure {
    let n = cells.len();
    let mean = |of: fn(&Cell) -> f64| cells.iter().map(|cell| of(cell)).sum::<f64>() / n as f64;
    let share = |cells: &[&&Cell]| cells.iter().filter(|cell| cell.right).count() as f64 / cells.len() as f64;
    let right = cells.iter().filter(|cell| cell.right).count();
    let pairs: Vec<(bool, bool)> = cells
        .iter()
        .filter_map(|cell| full.get(&(cell.episode, cell.question)).map(|full| (cell.right, *full)))
        .collect();
    let of_kind = |kind: Kind| cells.iter().filter(|cell| cell.kind == kind).collect::<Vec<_>>();
    Figure {
        method: method.to_owned(),
        asked: cells[0].asked,
        n,
        keep_ratio: mean(|cell| cell.keep_ratio),
        bytes_ratio: mean(|cell| cell.bytes_ratio),
        error: mean(|cell| cell.error),
        mass_error: mean(|cell| cell.mass_error),
        nll: mean(|cell| cell.nll),
        accuracy: right as f64 / n as f64,
        ci95: wilson(right, n),
        against_full: (!pairs.is_empty()).then(|| paired_difference(&pairs)),
        ms: median(cells.iter().map(|cell| cell.ms)),
        paraphrased: {
            let cells: Vec<&&Cell> = cells.iter().filter(|cell| cell.paraphrased == Some(true)).collect();
            (if cells.is_empty() { 0.0 } else { share(&cells) }, cells.len())
        },
        kinds: Kind::ALL
            .into_iter()
            .map(|kind| (kind, of_kind(kind)))
            .filter(|(_, cells)| !cells.is_empty())
            .map(|(kind, cells)| (kind, (share(&cells), cells.len())))
            .collect(),
    }
}

/// Methods down, sizes across: `error` (of the attention output) and accuracy in each field.
pub fn table(figures: &[Figure]) -> String {
    let mut sizes: Vec<f64> = figures.iter().map(|f| f.asked).filter(|asked| *asked > 0.0).collect();
    sizes.sort_by(|a, b| b.total_cmp(a));
    sizes.dedup();
    let mut header = vec!["error / accuracy".to_owned()];
    header.extend(sizes.iter().map(|size| format!("{:.0} %", 100.0 * size)));
    header.push("ms".to_owned());
    let mut table = Table::new(&header);
    for method in methods(figures) {
        let of_method: Vec<&Figure> =
            figures.iter().filter(|f| f.method == method && f.asked > 0.0).collect();
        if of_method.is_empty() {
            continue;
        }
        let mut row = vec![method.to_owned()];
        row.extend(sizes.iter().map(|size| {
            let found = of_method.iter().find(|f| f.asked.total_cmp(size).is_eq());
            found.map_or_else(String::new, |f| format!("{:.3} / {:.1} %", f.error, 100.0 * f.accuracy))
        }));
        row.push(format!("{:.1}", median(of_method.iter().map(|f| f.ms))));
        table.push(row);
    }
    table.to_string()
}

/// One line per method at one size, kinds of question apart, with intervals.
pub fn kinds_table(figures: &[Figure], asked: f64) -> String {
    let at: Vec<&Figure> =
        figures.iter().filter(|f| f.asked.total_cmp(&asked).is_eq() || f.method == "full cache").collect();
    let kinds: Vec<Kind> =
        Kind::ALL.into_iter().filter(|kind| at.iter().any(|f| f.kinds.contains_key(kind))).collect();
    let mut header = vec![
        format!("{:.0} % kept", 100.0 * asked),
        "accuracy".to_owned(),
        "against the full cache".to_owned(),
        "nats".to_owned(),
    ];
    let count = |kind: &Kind| at.first().and_then(|f| f.kinds.get(kind)).map_or(0, |(_, n)| *n);
    header.extend(kinds.iter().map(|kind| format!("{} ({})", kind.name(), count(kind))));
    let paraphrased = at.first().map_or(0, |f| f.paraphrased.1);
    header.push(format!("paraphrased ({paraphrased})"));
    let mut table = Table::new(&header);
    for figure in at {
        let mut row = vec![
            figure.method.clone(),
            accuracy(Accuracy { accuracy: figure.accuracy, ci95: figure.ci95, n: figure.n }),
            figure.against_full.map_or_else(String::new, difference),
            format!("{:.2}", figure.nll),
        ];
        let of_kind = |kind| figure.kinds.get(kind).map_or_else(String::new, |(share, _)| percent(*share));
        row.extend(kinds.iter().map(of_kind));
        row.push(percent(figure.paraphrased.0));
        table.push(row);
    }
    table.to_string()
}

/// Error targets: the ratio that each method came to, its own estimate of the error and the error measured, with the
/// share of questions in which the target held.
pub fn targets_table(cells: &[Cell]) -> String {
    let of = |figure: &Figure| cells.iter().filter(|cell| cell.method == figure.method).collect::<Vec<_>>();
    let columns: &[Column<'_, Figure>] = &[
        ("target", &|f| f.method.clone()),
        ("questions", &|f| f.n.to_string()),
        ("keep ratio", &|f| format!("{:.3}", median(of(f).iter().map(|cell| cell.keep_ratio)))),
        ("estimated", &|f| {
            let estimated: Vec<f64> = of(f).iter().filter_map(|cell| cell.estimated).collect();
            if estimated.is_empty() { String::new() } else { format!("{:.3}", mean(estimated)) }
        }),
        ("measured", &|f| format!("{:.3}", f.error)),
        ("measured, 90 %", &|f| {
            let mut errors: Vec<f64> = of(f).iter().map(|cell| cell.error).collect();
            errors.sort_by(f64::total_cmp);
            format!("{:.3}", errors[(errors.len() - 1) * 9 / 10])
        }),
        ("accuracy", &|f| percent(f.accuracy)),
    ];
    Table::of(&figures(cells), columns).to_string()
}

/// Shares of a whole budget, layers down and KV heads across, as multiples of an equal share.
pub fn head_budgets_table(budgets: &HeadBudgets) -> String {
    let heads = budgets.shares.iter().map(Vec::len).max().unwrap_or(0);
    let mut header = vec!["times an equal share".to_owned()];
    header.extend((0..heads).map(|head| format!("head {head}")));
    let mut table = Table::new(&header);
    let count = budgets.shares.iter().map(Vec::len).sum::<usize>() as f64;
    let sum: f64 = budgets.shares.iter().flatten().sum();
    for (layer, shares) in budgets.shares.iter().enumerate() {
        let mut row = vec![format!("layer {layer}")];
        row.extend(shares.iter().map(|share| format!("{:.2}", share / sum * count)));
        table.push(row);
    }
    table.to_string()
}

/// Names in the order of first appearance.
pub fn methods(figures: &[Figure]) -> Vec<&str> {
    grouped(figures, |figure| figure.method.as_str()).into_iter().map(|(name, _)| name).collect()
}

/// One line per method and size; kinds as `accuracy_<kind>`.
pub fn csv(figures: &[Figure]) -> String {
    let mut text = String::from(
        "method,asked,questions,keep_ratio,bytes_ratio,error,mass_error,nll,accuracy,ci_low,ci_high,ms",
    );
    for kind in Kind::ALL {
        let _ = write!(text, ",accuracy_{0},n_{0}", kind.name());
    }
    text.push_str(",accuracy_paraphrased,n_paraphrased\n");
    for f in figures {
        let _ = write!(
            text,
            "\"{}\",{},{},{:.6},{:.6},{:.6},{:.6},{:.6},{:.6},{:.6},{:.6},{:.3}",
            f.method,
            f.asked,
            f.n,
            f.keep_ratio,
            f.bytes_ratio,
            f.error,
            f.mass_error,
            f.nll,
            f.accuracy,
            f.ci95[0],
            f.ci95[1],
            f.ms
        );
        for kind in Kind::ALL {
            let (share, n) = f.kinds.get(&kind).copied().unwrap_or((f64::NAN, 0));
            let _ = if n > 0 { write!(text, ",{share:.6},{n}") } else { write!(text, ",,0") };
        }
        let _ = writeln!(text, ",{:.6},{}", f.paraphrased.0, f.paraphrased.1);
    }
    text
}
