//! Every question by every method at every size, and the files that keep what came of it.

use std::path::Path;

use lb_am::HeadBudgets;
use lb_io::files::{TEXT, read_text_at_most};
use lb_model::Worker;
use lb_session::{OpenSession, Segment};

use super::{Asked, Cell, HeadSensitivity, Method, Probe};
use crate::episodes::{Episode, EpisodeConfig};
use crate::files::write_file;
use crate::{Error, Result};

/// Which held-out episodes are asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Study {
    /// Seed of the first episode.
    pub seed: u64,
    /// Episodes.
    pub episodes: u64,
    /// Questions an episode.
    pub questions: usize,
    /// Shortest and longest log in words.
    pub words: (usize, usize),
}

impl Study {
    /// Answers every question by each method: at each of `ratios`, or once where the method sizes itself. `progress`
    /// hears the episodes done.
    ///
    /// # Errors
    /// [`Error::Config`] without a ratio or for one outside (0, 1]; [`Error::Session`] where a log does not fit the
    /// worker or a method is out of range.
    pub fn run(
        &self,
        worker: &Worker,
        methods: &[Method],
        ratios: &[f64],
        progress: &mut dyn FnMut(u64),
    ) -> Result<Vec<Cell>> {
        let Some(first) = ratios.first() else {
            return Err(Error::config("keep_ratio", "none", "want at least one"));
        };
        if let Some(bad) = ratios.iter().find(|ratio| !(**ratio > 0.0 && **ratio <= 1.0)) {
            return Err(Error::config("keep_ratio", bad, "want a ratio in (0, 1]"));
        }
        let mut cells = Vec::new();
        self.each(worker, progress, &mut |probe, asked| {
            for method in methods {
                let sizes = if method.sizes_itself() { std::slice::from_ref(first) } else { ratios };
                for ratio in sizes {
                    cells.push(probe.run(asked, method, *ratio)?);
                }
            }
            Ok(())
        })?;
        Ok(cells)
    }

    /// Measures how much the size of each head matters.
    ///
    /// # Errors
    /// Those of [`run`](Self::run).
    pub fn head_sensitivity(
        &self,
        worker: &Worker,
        progress: &mut dyn FnMut(u64),
    ) -> Result<HeadSensitivity> {
        let mut sensitivity = HeadSensitivity::default();
        self.each(worker, progress, &mut |probe, asked| sensitivity.add(probe, asked))?;
        Ok(sensitivity)
    }

    fn each(
        &self,
        worker: &Worker,
        progress: &mut dyn FnMut(u64),
        look: &mut dyn FnMut(&mut Probe<'_>, &Asked) -> Result<()>,
    ) -> Result<()> {
        let config = EpisodeConfig::held_out(self.words, self.questions);
        for number in 0..self.episodes {
            let episode = Episode::generate(self.seed.wrapping_add(number), &config)?;
            let mut session = worker.session()?;
            session.extend_all(episode.lines.iter().map(Segment::from), &mut |_, _| {})?;
            let mut probe = Probe::new(worker, &episode, session)?;
            for question in 0..episode.questions.len() {
                let asked = probe.ask(question)?;
                look(&mut probe, &asked)?;
            }
            progress(number + 1);
        }
        Ok(())
    }
}

/// Writes one cell a line, as JSON; the whole file or nothing.
///
/// # Errors
/// [`Error::Io`] names the file.
pub fn write_cells(path: &Path, cells: &[Cell]) -> Result<()> {
    let mut text = String::new();
    for cell in cells {
        text.push_str(&serde_json::to_string(cell).expect("plain fields"));
        text.push('\n');
    }
    write_file(path, text.as_bytes())
}

/// Reads what [`write_cells`] wrote.
///
/// # Errors
/// [`Error::Io`] names the file, [`Error::Json`] the line.
pub fn read_cells(path: &Path) -> Result<Vec<Cell>> {
    let lines = read(path)?;
    let cell = |(number, line): (usize, &str)| {
        let line_number = number + 1;
        serde_json::from_str(line).map_err(|source| Error::Json {
            path: path.to_owned(),
            line_number,
            source,
        })
    };
    lines.lines().enumerate().map(cell).collect()
}

/// Reads head budgets.
///
/// # Errors
/// [`Error::Io`] names the file, [`Error::Compaction`] what is wrong with it.
pub fn read_head_budgets(path: &Path) -> Result<HeadBudgets> {
    Ok(HeadBudgets::from_json(&read(path)?)?)
}

fn read(path: &Path) -> Result<String> {
    read_text_at_most(path, TEXT).map_err(|source| Error::Io { path: path.to_owned(), source })
}
