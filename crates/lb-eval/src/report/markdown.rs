//! The report as Markdown.

use std::fmt::Write;

use lb_io::shown::markdown as markdown_text;

use super::sections::{BEFORE_PICTURES, opening, sections};
use crate::answers::Summary;
use crate::answers::calibrate::Calibration;

/// `plots` are files beside it, with their captions.
pub(super) fn markdown(
    summary: &Summary,
    calibration: Option<&Calibration>,
    torn: usize,
    plots: &[(String, String)],
) -> String {
    let mut out = format!("# Report\n\n{}\n\n", opening(summary, torn).join(" "));
    for (at, section) in sections(summary, calibration).iter().enumerate() {
        let _ = writeln!(out, "## {}\n\n{}\n", section.title, section.says);
        for (name, table) in &section.tables {
            if !name.is_empty() {
                let _ = writeln!(out, "{name}:\n");
            }
            let _ = writeln!(out, "{}", table.markdown());
        }
        for line in &section.lines {
            let _ = writeln!(out, "- {}", markdown_text(line));
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
            let (item, condition, reason) =
                (markdown_text(&f.item), markdown_text(&f.condition), markdown_text(&f.reason));
            let _ = writeln!(out, "- {item}, {condition}, repeat {}: {reason}", f.repeat);
        }
    }
    out
}

fn pictures(out: &mut String, plots: &[(String, String)]) {
    for (file, caption) in plots {
        let _ = writeln!(out, "![{caption}]({file})\n");
    }
}
