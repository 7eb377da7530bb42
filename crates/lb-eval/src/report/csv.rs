//! The figures as CSV.

use crate::answers::{Figures, Summary};
use crate::stats::bootstrap::Interval;
use crate::table::Table;

/// One line per class and condition; shares from 0 to 1, an empty field where there is no figure.
pub(super) fn csv(summary: &Summary) -> String {
    let all = summary.conditions.iter().map(|f| fields("all", "", f));
    let classes =
        summary.groups.iter().flat_map(|g| g.conditions.iter().map(|f| fields(g.axis, &g.value, f)));
    let lines: Vec<_> = all.chain(classes).collect();
    let mut table = Table::new(lines.iter().take(1).flatten().map(|(name, _)| name));
    for line in lines {
        table.push(line.into_iter().map(|(_, text)| text).collect());
    }
    table.csv()
}

/// The fields of a line, with their names.
fn fields(axis: &str, class: &str, f: &Figures) -> Vec<(String, String)> {
    let number = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.6}"));
    let text = |name: &str, text: &dyn ToString| vec![(name.to_owned(), text.to_string())];
    let one = |name: &str, value: Option<f64>| text(name, &number(value));
    let share = |name: &str, value: Option<f64>, ci: Option<[f64; 2]>| {
        let ends = [("_low", ci.map(|ci| ci[0])), ("_high", ci.map(|ci| ci[1]))];
        let ends = ends.map(|(end, value)| (format!("{name}{end}"), number(value)));
        [one(name, value), ends.to_vec()].concat()
    };
    let interval =
        |name: &str, i: Option<Interval>| share(name, i.map(|i| i.estimate), i.map(|i| [i.low, i.high]));
    let letters = f.letters.as_ref();
    let fields = [
        text("axis", &axis),
        text("class", &class),
        text("condition", &f.condition),
        text("rows", &f.n),
        text("items", &f.items),
        text("right", &f.right),
        text("failures", &f.failures),
        share("accuracy", Some(f.accuracy), Some(f.accuracy_ci)),
        interval("difference", f.difference),
        one("mcnemar_p", f.mcnemar.map(|test| test.mid_p)),
        interval("retention", f.retention),
        one("worker_median", Some(f.worker_median)),
        interval("worker_mean", Some(f.worker_mean)),
        interval("reduction", f.reduction),
        one("orchestrator_mean", Some(f.orchestrator_mean)),
        one("total_mean", Some(f.total_mean)),
        interval("medium_savings", f.medium_savings),
        interval("overhead", f.overhead),
        one("brief_s_median", Some(f.brief_s)),
        interval("keep_ratio", f.keep_ratio),
        share("letter_agreement", letters.map(|l| l.agreement), letters.map(|l| l.agreement_ci)),
        interval("letter_kl", letters.map(|l| l.kl)),
        one("letter_mass", letters.map(|l| l.mass)),
    ];
    fields.concat()
}
