//! A page of every run that has a log.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use lb_orchestrate::RunRecord;

use crate::answers::AnswerRow;
use crate::error::with_causes;
use crate::files::write_file;
use crate::{Error, Result};

/// The pages of the runs' logs.
#[derive(Default)]
pub(super) struct Pages {
    /// By the logs' names, relative to the folder.
    pub(super) links: BTreeMap<String, String>,
    /// How many were made.
    pub(super) made: usize,
    /// Logs without a page, and why.
    pub(super) faults: Vec<String>,
}

/// The page of each log: made if asked, else linked where it is there already.
pub(super) fn pages(dir: &Path, rows: &[AnswerRow], make: bool) -> Result<Pages> {
    let Pages { mut links, mut made, mut faults } = Pages::default();
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
    Ok(Pages { links, made, faults })
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
