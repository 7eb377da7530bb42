//! Episodes from files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::decisions::{decisions, team};
use super::episode::{Episode, Given, Turn};
use super::fields::{self, Row};
use crate::datasets::reader::Records;
use crate::datasets::{Fault, ItemFault, MAX_ITEM_BYTES};
use crate::fault::FileFault;
use crate::logs::{self, LoadOptions, LogItem};
use crate::{Error, Result};

/// What a file or a folder holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loaded {
    /// The episodes, in the order in which they begin.
    pub episodes: Vec<Episode>,
    /// What is none, and turns that are at fault.
    pub faults: Vec<ItemFault>,
    /// Fields that nobody here knows.
    pub ignored: BTreeSet<String>,
    /// What else did not enter as it stood there.
    pub notes: Vec<String>,
}

/// Reads episodes: one a line (`turns`), one turn a line or row (`episode`, `agent`, `response`), or logs of one run each
/// ([`logs::load`]), whose agents are those that wrote them. Steps of one recorded log, which have a task and a target, are the turns of its
/// orchestrator.
///
/// # Errors
/// [`Error::Io`] and [`Error::Dataset`] for a file that cannot be read on, or that holds no episode.
pub fn load(path: &Path) -> Result<Loaded> {
    let mut loaded = Loaded::default();
    if path.is_dir() || !own(path, &mut loaded)? {
        loaded = of_logs(path)?;
    }
    if loaded.episodes.is_empty() {
        let source = FileFault::Structure { line: 1, expected: "episodes of agents, or their logs" };
        return Err(Error::Dataset { path: path.to_path_buf(), source });
    }
    Ok(loaded)
}

/// Whether the file is in a form of our own, and what it holds then.
fn own(path: &Path, loaded: &mut Loaded) -> Result<bool> {
    let mut records = match Records::open(path, false, MAX_ITEM_BYTES) {
        Err(Error::Dataset { source: FileFault::Structure { .. } | FileFault::Unknown { .. }, .. }) => {
            return Ok(false);
        }
        opened => opened?,
    };
    let (mut rows, mut seen) = (Rows::default(), BTreeMap::new());
    while let Some((line, _, record)) = records.next(path)? {
        let map = match record {
            Ok(map) => map,
            Err((id, fault)) => {
                loaded.faults.push(ItemFault { id, line, fault });
                continue;
            }
        };
        let made = if map.contains_key("turns") {
            fields::episode(&map, &line.to_string(), &mut loaded.ignored).map(Some)
        } else if map.contains_key("episode") && map.contains_key("agent") {
            fields::row(&map, &mut loaded.ignored).map(|row| {
                rows.add(row, &mut loaded.episodes);
                None
            })
        } else if loaded.episodes.is_empty() {
            // A log of another form, as is all that follows.
            return Ok(false);
        } else {
            Err(Fault::Missing { field: "turns".to_owned() })
        };
        match made {
            Ok(Some(episode)) => match seen.insert(episode.id.clone(), line) {
                Some(first_line) => {
                    let fault = Fault::DuplicateId { first_line };
                    loaded.faults.push(ItemFault { id: Some(episode.id), line, fault });
                }
                None => loaded.episodes.push(episode),
            },
            Ok(None) => {}
            Err(fault) => {
                let id = ["id", "episode"].iter().find_map(|key| map.get(*key)?.as_str());
                loaded.faults.push(ItemFault { id: id.map(str::to_owned), line, fault });
            }
        }
    }
    rows.end(&mut loaded.episodes);
    Ok(!loaded.episodes.is_empty() || !loaded.faults.is_empty())
}

/// Turns that stand by themselves, gathered into their episodes.
#[derive(Default)]
struct Rows {
    of: BTreeMap<String, usize>,
    numbers: BTreeMap<usize, Vec<Option<i64>>>,
}

impl Rows {
    fn add(&mut self, row: Row, episodes: &mut Vec<Episode>) {
        let at = *self.of.entry(row.episode.clone()).or_insert_with(|| {
            episodes.push(Episode { id: row.episode.clone(), ..Episode::default() });
            episodes.len() - 1
        });
        let episode = &mut episodes[at];
        if let Some(task) = row.task.filter(|_| episode.task.is_empty()) {
            episode.task = task;
        }
        episode.outcome = row.outcome.or_else(|| episode.outcome.take());
        episode.turns.push(row.turn);
        self.numbers.entry(at).or_default().push(row.number);
    }

    /// Turns that say where they stand are put there.
    fn end(self, episodes: &mut [Episode]) {
        for (at, numbers) in self.numbers {
            let turns = std::mem::take(&mut episodes[at].turns);
            let mut numbered: Vec<(Option<i64>, Turn)> = numbers.into_iter().zip(turns).collect();
            if numbered.iter().all(|(number, _)| number.is_some()) {
                numbered.sort_by_key(|(number, _)| *number);
            }
            episodes[at].turns = numbered.into_iter().map(|(_, turn)| turn).collect();
            fields::share(&mut episodes[at]);
        }
    }
}

/// Logs of runs, each an episode; steps of one document are its turns.
fn of_logs(path: &Path) -> Result<Loaded> {
    let read = logs::load(path, &LoadOptions::default())?;
    let mut episodes: Vec<Episode> = Vec::new();
    let mut steps: BTreeMap<String, usize> = BTreeMap::new();
    for item in read.items {
        if item.target.trim().is_empty() {
            episodes.push(of_run(item));
            continue;
        }
        let at = *steps.entry(item.document.clone()).or_insert_with(|| {
            episodes.push(Episode { id: item.document.clone(), ..Episode::default() });
            episodes.len() - 1
        });
        episodes[at].turns.push(of_step(item));
    }
    for at in steps.into_values() {
        // The shortest trajectory is the earliest step.
        episodes[at].turns.sort_by_key(|turn| match &turn.context {
            Given::Own(segments) => segments.len(),
            Given::Shared(count) => *count,
        });
    }
    let notes = read.notes.iter().map(ToString::to_string).collect();
    Ok(Loaded { episodes, faults: read.faults, ignored: BTreeSet::new(), notes })
}

/// A step whose continuation is known: the orchestrator wrote it.
fn of_step(item: LogItem) -> Turn {
    Turn {
        agent: "orchestrator".to_owned(),
        decisions: decisions(&item.target, &team(&item.trajectory)),
        context: Given::Own(item.trajectory),
        instruction: item.task,
        response: item.target,
        ..Turn::default()
    }
}

/// A whole run: everyone who is named, or else what a segment is, wrote it with all before it at hand.
fn of_run(item: LogItem) -> Episode {
    let turn = |(number, segment): (usize, &lb_session::Segment)| {
        use lb_session::Source::{Code, Finding, Reasoning, Reply, Tool};
        let agent = match (&segment.name, segment.source) {
            (Some(name), _) => name.split(" (").next().unwrap_or(name).to_owned(),
            (None, Reply | Reasoning | Code | Finding) => "orchestrator".to_owned(),
            (None, Tool) => "tool".to_owned(),
            (None, _) => return None,
        };
        let response = segment.text.clone();
        Some(Turn { agent, context: Given::Shared(number), response, ..Turn::default() })
    };
    let turns = item.trajectory.iter().enumerate().filter_map(turn).collect();
    Episode { id: item.id, task: item.task, transcript: item.trajectory, turns, outcome: None }
}
