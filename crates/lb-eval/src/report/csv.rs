//! The figures as CSV.

use crate::answers::{Figures, Summary};
use crate::stats::bootstrap::Interval;
use crate::table::Table;

/// A figure and, where it has one, its interval.
enum Field {
    Text(String),
    Number(Option<f64>),
    Three(Option<[f64; 3]>),
}

type Column = (&'static str, fn(&Figures) -> Field);

fn of(interval: Option<Interval>) -> Field {
    Field::Three(interval.map(|i| [i.estimate, i.low, i.high]))
}

fn count(n: usize) -> Field {
    Field::Text(n.to_string())
}

fn one(value: f64) -> Field {
    Field::Number(Some(value))
}

const COLUMNS: [Column; 21] = [
    ("condition", |f| Field::Text(f.condition.clone())),
    ("rows", |f| count(f.n)),
    ("items", |f| count(f.items)),
    ("right", |f| count(f.right)),
    ("failures", |f| count(f.failures)),
    ("accuracy", |f| Field::Three(Some([f.accuracy, f.accuracy_ci[0], f.accuracy_ci[1]]))),
    ("difference", |f| of(f.difference)),
    ("mcnemar_p", |f| Field::Number(f.mcnemar.map(|test| test.mid_p))),
    ("retention", |f| of(f.retention)),
    ("worker_median", |f| one(f.worker_median)),
    ("worker_mean", |f| of(Some(f.worker_mean))),
    ("reduction", |f| of(f.reduction)),
    ("orchestrator_mean", |f| one(f.orchestrator_mean)),
    ("total_mean", |f| one(f.total_mean)),
    ("medium_savings", |f| of(f.medium_savings)),
    ("overhead", |f| of(f.overhead)),
    ("brief_s_median", |f| one(f.brief_s)),
    ("keep_ratio", |f| of(f.keep_ratio)),
    ("letter_agreement", |f| {
        Field::Three(f.letters.as_ref().map(|l| [l.agreement, l.agreement_ci[0], l.agreement_ci[1]]))
    }),
    ("letter_kl", |f| of(f.letters.as_ref().map(|l| l.kl))),
    ("letter_mass", |f| Field::Number(f.letters.as_ref().map(|l| l.mass))),
];

/// One line per class and condition; shares from 0 to 1, an empty field where there is no figure.
pub(super) fn csv(summary: &Summary) -> String {
    // Which columns have an interval shows at any condition.
    let Some(first) = summary.conditions.first() else { return String::new() };
    let mut head = vec!["axis".to_owned(), "class".to_owned()];
    for (name, figure) in COLUMNS {
        head.push(name.to_owned());
        if let Field::Three(_) = figure(first) {
            head.extend([format!("{name}_low"), format!("{name}_high")]);
        }
    }
    let mut table = Table::new(head);
    let all = summary.conditions.iter().map(|f| ("all", "", f));
    let groups =
        summary.groups.iter().flat_map(|g| g.conditions.iter().map(|f| (g.axis, g.value.as_str(), f)));
    for (axis, class, f) in all.chain(groups) {
        let mut line = vec![axis.to_owned(), class.to_owned()];
        line.extend(COLUMNS.iter().flat_map(|(_, figure)| fields(figure(f))));
        table.push(line);
    }
    table.csv()
}

fn fields(figure: Field) -> Vec<String> {
    let number = |value: f64| format!("{value:.6}");
    match figure {
        Field::Text(text) => vec![text],
        Field::Number(value) => vec![value.map_or_else(String::new, number)],
        Field::Three(Some(three)) => three.map(number).to_vec(),
        Field::Three(None) => vec![String::new(); 3],
    }
}
