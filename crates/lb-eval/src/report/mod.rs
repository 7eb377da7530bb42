//! The report of a run, from its rows alone.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use lb_io::files::{TEXT, read_at_most};
use lb_orchestrate::RunRecord;
use serde::Serialize;

use super::aggregate::{Summary, aggregate};
use super::calibrate::{Calibration, Rule, calibrate};
use super::{BenchRow, page, plot, read_rows, text};
use crate::report::{with_causes, write_file};
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
/// As [`read_rows`], [`aggregate`] and [`calibrate`]; [`Error::Io`] where a file cannot be written, [`Error::Plot`] where a
/// picture cannot be drawn.
pub fn report(dir: impl AsRef<Path>, options: &Options) -> Result<ReportFiles> {
    let dir = dir.as_ref();
    let read = read_rows(dir)?;
    let reference = options.reference.as_deref();
    let summary = aggregate(&read.rows, reference, &options.bootstrap)?;
    let calibration = calibrate(&read.rows, reference, &options.rule, &options.bootstrap)?;
    let (links, made, faults) = pages(dir, &read.rows, options.pages)?;
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
        links: &links,
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
            text::markdown(&summary, calibration.as_ref(), read.torn, &captions).as_bytes(),
        )?,
        csv: file("summary.csv", text::csv(&summary).as_bytes())?,
        json: file("summary.json", &json)?,
        html: file("report.html", page::render(&view)?.as_bytes())?,
        plots: plots.into_iter().map(|(_, path)| path).collect(),
        pages: made,
        faults,
        summary,
        calibration,
    })
}

/// The page of each log, relative to `dir`: made if asked, else linked where it is there already.
fn pages(
    dir: &Path,
    rows: &[BenchRow],
    make: bool,
) -> Result<(BTreeMap<String, String>, usize, Vec<String>)> {
    let (mut links, mut faults, mut made) = (BTreeMap::new(), Vec::new(), 0);
    let folder = dir.join("pages");
    if make {
        std::fs::create_dir_all(&folder).map_err(|source| Error::Io { path: folder.clone(), source })?;
    }
    for log in rows.iter().filter_map(|r| r.log.as_deref()) {
        if links.contains_key(log) {
            continue;
        }
        let inside =
            Path::new(log).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        if !inside {
            faults.push(format!("{log}: the log is not in the folder of the rows"));
            continue;
        }
        let name = file_name(log);
        let path = folder.join(&name);
        if make {
            match page_of(&dir.join(log)) {
                Ok(page) => {
                    write_file(&path, page.as_bytes())?;
                    made += 1;
                }
                Err(error) => {
                    faults.push(with_causes(&error));
                    continue;
                }
            }
        }
        if path.is_file() {
            links.insert(log.to_owned(), format!("pages/{name}"));
        }
    }
    Ok((links, made, faults))
}

/// The page of a run.
fn page_of(log: &Path) -> Result<String> {
    Ok(lb_explain::run_page(&RunRecord::open(log)?)?)
}

/// A name of its own for each log: what is no letter or digit in it becomes its code, and a long one is cut to its end.
fn file_name(log: &str) -> String {
    let mut name = String::new();
    for c in log.trim_end_matches(".jsonl").chars() {
        match c {
            c if c.is_ascii_alphanumeric() || c == '-' => name.push(c),
            c => name.extend(["_".to_owned(), format!("{:x}", u32::from(c))]),
        }
    }
    let from = name.len().saturating_sub(180);
    format!("{}.html", &name[from..])
}
