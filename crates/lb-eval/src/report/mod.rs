//! The report of answered questions, from their rows alone: Markdown, a self-contained page, CSV, JSON, pictures.

mod cells;
mod csv;
mod families;
mod markdown;
mod page;
mod plot;
mod run_pages;
mod sections;
mod tables;

use std::path::{Path, PathBuf};

use lb_io::files::{TEXT, read_at_most};
use serde::Serialize;

use crate::answers::calibrate::{Calibration, Rule, calibrate};
use crate::answers::{AnswerRow, Summary, summarise};
use crate::files::write_file;
use crate::pipeline::read_rows;
use crate::stats::bootstrap::Bootstrap;
use crate::{Error, Result};

/// How to report.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The condition to compare with; `full-kv` by default, or the first where there is none.
    pub reference: Option<String>,
    /// Settings of the intervals.
    pub bootstrap: Bootstrap,
    /// How settings are chosen per class.
    pub rule: Rule,
    /// Make a page of every run that has a log, under `pages`.
    pub pages: bool,
}

impl Default for Options {
    fn default() -> Self {
        let bootstrap = Bootstrap { resamples: 4_000, ..Bootstrap::default() };
        Self { reference: None, bootstrap, rule: Rule::default(), pages: false }
    }
}

/// What was written.
#[derive(Clone, Debug, PartialEq)]
pub struct ReportFiles {
    /// The page.
    pub html: PathBuf,
    /// The same as Markdown.
    pub markdown: PathBuf,
    /// A line per class and condition.
    pub csv: PathBuf,
    /// All figures.
    pub json: PathBuf,
    /// Pictures.
    pub plots: Vec<PathBuf>,
    /// Pages of runs that were made.
    pub pages: usize,
    /// Logs of which no page could be made, and why.
    pub faults: Vec<String>,
    /// The figures themselves.
    pub summary: Summary,
    /// What calibration brings, where the rows allow one.
    pub calibration: Option<Calibration>,
}

#[derive(Serialize)]
struct Whole<'a> {
    summary: &'a Summary,
    calibration: Option<&'a Calibration>,
    torn_bytes: usize,
}

/// Reads `rows.jsonl` in `dir` and writes `report.md`, `report.html`, `summary.csv`, `summary.json` and pictures beside it,
/// each whole or not at all.
///
/// # Errors
/// As [`read_rows`], [`summarise`] and [`calibrate`]; [`Error::Io`] where a file cannot be written, [`Error::Plot`] where a
/// picture cannot be drawn.
pub fn report(dir: impl AsRef<Path>, options: &Options) -> Result<ReportFiles> {
    let dir = dir.as_ref();
    let read = read_rows::<AnswerRow>(dir)?;
    let reference = options.reference.as_deref();
    let summary = summarise(&read.rows, reference, &options.bootstrap)?;
    let calibration = calibrate(&read.rows, reference, &options.rule, &options.bootstrap)?;
    let pages = run_pages::pages(dir, &read.rows, options.pages)?;
    let mut plots = Vec::new();
    for picture in plot::pictures(&summary) {
        let path = dir.join(picture.file);
        plot::draw(&picture, &path)?;
        plots.push((picture, path));
    }
    let captions: Vec<(String, String)> =
        plots.iter().map(|(p, _)| (p.file.to_owned(), p.caption.clone())).collect();
    let file = |name: &str, content: &[u8]| {
        let path = dir.join(name);
        write_file(&path, content).map(|()| path)
    };
    let whole = Whole { summary: &summary, calibration: calibration.as_ref(), torn_bytes: read.torn };
    let json = serde_json::to_vec_pretty(&whole).map_err(|source| Error::Json {
        path: dir.join("summary.json"),
        line_number: 0,
        source,
    })?;
    let view = page::View {
        summary: &summary,
        calibration: calibration.as_ref(),
        torn: read.torn,
        rows: &read.rows,
        links: &pages.links,
        plots: plots
            .iter()
            .map(|(p, path)| {
                let bytes =
                    read_at_most(path, TEXT).map_err(|source| Error::Io { path: path.clone(), source })?;
                Ok((p.caption.as_str(), page::data_uri(&bytes)))
            })
            .collect::<Result<_>>()?,
    };
    Ok(ReportFiles {
        markdown: file(
            "report.md",
            markdown::markdown(&summary, calibration.as_ref(), read.torn, &captions).as_bytes(),
        )?,
        csv: file("summary.csv", csv::csv(&summary).as_bytes())?,
        json: file("summary.json", &json)?,
        html: file("report.html", page::render(&view)?.as_bytes())?,
        plots: plots.into_iter().map(|(_, path)| path).collect(),
        pages: pages.made,
        faults: pages.faults,
        summary,
        calibration,
    })
}
