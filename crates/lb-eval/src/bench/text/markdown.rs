//! The report as Markdown.

use std::fmt::Write;

use super::sections::BEFORE_PICTURES;
use super::{Cells, opening, sections};
use crate::bench::aggregate::Summary;
use crate::bench::calibrate::Calibration;

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

/// `plots` are files beside it, with their captions.
pub(in crate::bench) fn markdown(
    summary: &Summary,
    calibration: Option<&Calibration>,
    torn: usize,
    plots: &[(String, String)],
) -> String {
    let mut out = format!("# Report\n\n{}\n\n", opening(summary, torn).join(" "));
    for (at, section) in sections(summary, calibration).iter().enumerate() {
        let _ = writeln!(out, "## {}\n\n{}\n", section.title, section.says);
        for (name, cells) in &section.tables {
            if !name.is_empty() {
                let _ = writeln!(out, "{name}:\n");
            }
            table(&mut out, cells);
        }
        for line in &section.lines {
            let _ = writeln!(out, "- {line}");
        }
        if !section.lines.is_empty() {
            out.push('\n');
        }
        if at + 1 == BEFORE_PICTURES {
            pictures(&mut out, plots);
        }
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

fn pictures(out: &mut String, plots: &[(String, String)]) {
    for (file, caption) in plots {
        let _ = writeln!(out, "![{caption}]({file})\n");
    }
}
