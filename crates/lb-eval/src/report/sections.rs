//! What the report says, in order, for every form that it takes.

use serde::Serialize;

use super::cells::{interval, points, share};
use super::tables;
use crate::answers::calibrate::{Calibration, ENOUGH};
use crate::answers::{CELLS, Clusters, Summary};
use crate::table::Table;

/// A heading, what it is about, tables with their names, and sentences behind them.
#[derive(Serialize)]
pub(super) struct Section {
    pub(super) title: &'static str,
    pub(super) says: String,
    pub(super) tables: Vec<(String, Table)>,
    pub(super) lines: Vec<String>,
}

impl Section {
    fn new(title: &'static str, says: &str, table: Table) -> Self {
        Self { title, says: says.to_owned(), tables: vec![(String::new(), table)], lines: Vec::new() }
    }
}

/// Pictures stand behind this many sections.
pub(super) const BEFORE_PICTURES: usize = 3;

/// Sections that there are rows for.
pub(super) fn sections(summary: &Summary, calibration: Option<&Calibration>) -> Vec<Section> {
    let conditions = &summary.conditions;
    let mut sections = vec![
        Section::new(
            "Accuracy",
            "Retention is accuracy over that of the reference.",
            tables::accuracy(conditions),
        ),
        Section::new(
            "Savings, reduction, retention, overhead, accuracy",
            "Savings are of worker and orchestrator, worker tokens of the worker alone, both against text replay on the same \
             items. Overhead is the time of making briefings over the time that text replay takes to read its prompts.",
            tables::token(conditions),
        ),
        Section::new(
            "Tokens and time of an item",
            "What a worker attends to and writes, all calls of an item.",
            tables::cost(conditions),
        ),
    ];
    let letters = tables::letter(conditions);
    if !letters.is_empty() {
        sections.push(Section::new("Letters", &letters_says(summary), letters));
    }
    let classes = class_tables(summary);
    if !classes.is_empty() {
        let says = "Accuracy in %, with Wilson's interval, and paired differences in points.".to_owned();
        sections.push(Section { title: "By class", says, tables: classes, lines: Vec::new() });
    }
    let margin = tables::margin(summary);
    if !margin.is_empty() {
        sections.push(Section::new("Settings that hold", &margin_says(summary), margin));
    }
    if !summary.power.is_empty() {
        let says = "At level 0.05 and power 0.8, for the share of pairs on which a condition and the reference disagree.";
        sections.push(Section::new("What this many items can show", says, tables::power(summary)));
    }
    if !summary.noise.is_empty() {
        let says = "Variance of a score between runs of the orchestrator of one item, and between this condition and the \
                    reference on the same turns, each taken from its own mean.";
        sections.push(Section::new(
            "Noise of the orchestrator and of the handoff",
            says,
            tables::noise(summary),
        ));
    }
    if let Some(calibration) = calibration {
        let table = tables::calibration(calibration);
        let section = Section::new("Calibration", &calibration_says(calibration), table);
        sections.push(Section { lines: calibration_lines(calibration), ..section });
    }
    sections
}

/// The tables of classes: accuracy and, but for domains, the difference to the reference.
fn class_tables(summary: &Summary) -> Vec<(String, Table)> {
    let mut tables = Vec::new();
    for axis in ["length", "difficulty", "kind", CELLS, "domain"] {
        let classes = summary.groups.iter().filter(|g| g.axis == axis).count();
        if classes == 0 {
            continue;
        }
        let accuracy = tables::group(summary, axis, |f| share(f.accuracy, f.accuracy_ci));
        tables.push((format!("By {axis}"), accuracy));
        if axis != "domain" && summary.conditions.len() > 1 {
            let differences = tables::group(summary, axis, |f| points(f.difference));
            let name = format!("By {axis}: points to {}", summary.reference);
            tables.push((name, differences.without(&summary.reference)));
        }
    }
    tables
}

fn letters_says(summary: &Summary) -> String {
    format!(
        "What the worker thinks of the choices before it writes: the chances of the next token behind the task and \
         \"The correct answer is (\", over the letters alone. How often the likeliest letter is that of {0}, KL({0} || \
         condition), and what the letters have among all tokens.",
        summary.reference
    )
}

fn margin_says(summary: &Summary) -> String {
    format!(
        "Of settings that differ in one number, the one with the fewest worker tokens whose 95 % interval of the difference to \
         {} ends above -{:.1} points.",
        summary.reference,
        100.0 * summary.margin
    )
}

fn calibration_says(calibration: &Calibration) -> String {
    format!(
        "Of {} the setting with the fewest worker tokens whose accuracy on the validation part is at most {:.1} points below \
         {}, per class of length and difficulty. Values from light to aggressive: {}.",
        calibration.family,
        100.0 * calibration.tolerance,
        calibration.reference,
        calibration.values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    )
}

/// What calibration amounts to.
fn calibration_lines(calibration: &Calibration) -> Vec<String> {
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
