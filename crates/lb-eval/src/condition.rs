//! How a question is answered, from a short text that is its name in rows and reports as well.
//!
//! A condition is a handoff (`full-kv`, `latent-briefing:keep=0.1`, everything that [`Handoff`] reads), any selection of the
//! [registry] with a size (`snapkv:keep=0.1`, `snapkv:keep=64,state=reuse,window=16`), which keeps what it selects as it is,
//! [`HIERARCHICAL`] (`hierarchical:keep=0.1,held=0.3`, a [`Hierarchy`]), two handoffs of which the second reads what the first writes
//! (`selective-context:keep=0.5+latent-briefing:keep=0.2`, a [`Chain`]), or [`DIRECT`]. Size and state are written as those of a briefing,
//! the rest is the selection's. A name that is both, as `random` is, is a handoff.
//!
//! ```
//! use lb_eval::condition::{Condition, at_each_size, split_conditions};
//!
//! let names = at_each_size(split_conditions("full-kv,bm25:0.1,passage=40,snapkv:keep=*"), &[0.1, 0.05])?;
//! assert_eq!(names, ["full-kv", "bm25:0.1,passage=40", "snapkv:keep=0.1", "snapkv:keep=0.05"]);
//! let conditions = Condition::read_all(&names)?;
//! assert_eq!(conditions[1].to_string(), "bm25:0.1,passage=40");
//! # Ok::<(), lb_eval::Error>(())
//! ```

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use lb_am::registry::{self, Spec};
use lb_am::{Budget, Compaction, Selection};
use lb_session::{Error as SessionError, Handoff, HandoffKind, SelectionSize, TaskState};

use crate::chain::{self, Chain};
use crate::hierarchy::{HIERARCHICAL, Hierarchy};
use crate::{Error, Result};

/// The condition without a loop: the worker alone reads the prompt of the published protocol, cut in its middle.
pub const DIRECT: &str = "direct";

/// How questions are answered, with the name that rows have.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// As text.
    pub name: String,
    /// What it does.
    pub way: Way,
}

/// What the worker has to answer with.
#[derive(Clone, Debug, PartialEq)]
pub enum Way {
    /// [`DIRECT`].
    Direct,
    /// What a handoff gives.
    Handoff(Box<Handoff>),
    /// What a selection keeps.
    Selection(Selected),
    /// What two levels of compaction leave.
    Hierarchical(Hierarchy),
    /// What the second of two handoffs gives of what the first writes.
    Chain(Box<Chain>),
    /// As many positions as a briefing keeps for the same question, chosen without a look at it. Not from text.
    SameSize {
        /// The briefing.
        briefing: Box<Compaction>,
        /// By lot, from this number and the question's; without it the most recent.
        seed: Option<u64>,
    },
}

/// What a selection keeps, and what becomes of the task's own state.
#[derive(Clone, Debug, PartialEq)]
pub struct Selected {
    /// The selection.
    pub selection: Selection,
    /// How much of the trajectory.
    pub size: SelectionSize,
    /// Whether the task is read anew over what is kept, or its state over the full cache is kept.
    pub state: TaskState,
}

impl Selected {
    /// Whether it looks at the task's queries.
    pub(crate) fn reads_task(&self) -> bool {
        self.selection.selector().needs().queries
    }
}

impl FromStr for Selected {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let spec: Spec = text.parse().map_err(SessionError::from)?;
        let (mut ours, mut own) = (Vec::new(), Spec::new(spec.name()));
        for (key, value) in spec.arguments() {
            if ["keep", "state"].contains(&key.as_str()) {
                ours.push(format!("{key}={value}"));
            } else {
                own = own.with(key, value);
            }
        }
        let wrong = || Error::config("conditions", text, "want a size, as in snapkv:keep=0.1");
        if !ours.iter().any(|argument| argument.starts_with("keep")) {
            return Err(wrong());
        }
        let Handoff::LatentBriefing(config) = format!("latent-briefing:{}", ours.join(",")).parse()? else {
            return Err(wrong());
        };
        let size = match config.compaction.budget {
            Budget::KeepRatio(ratio) => SelectionSize::KeepRatio(ratio),
            Budget::KeptLen(len) => SelectionSize::KeptLen(len),
            _ => return Err(wrong()),
        };
        let selection = registry::build(&own).map_err(SessionError::from)?;
        Ok(Self { selection, size, state: config.task_state })
    }
}

impl Condition {
    /// A handoff under its plain name, without its settings.
    pub fn handoff(handoff: Handoff) -> Self {
        Self { name: handoff.name().to_owned(), way: Way::Handoff(Box::new(handoff)) }
    }

    /// The six conditions of the main table, the briefing last. `seed` is that of the random positions.
    pub fn main_table(compaction: &Compaction, seed: u64) -> Vec<Self> {
        let same_size = |name: &str, seed| {
            let briefing = Box::new(compaction.clone());
            Self { name: name.to_owned(), way: Way::SameSize { briefing, seed } }
        };
        vec![
            Self::handoff(Handoff::None),
            Self::handoff(Handoff::FullKv),
            Self::handoff(Handoff::TextReplay),
            same_size("recent", None),
            same_size("random", Some(seed)),
            Self::handoff(Handoff::briefing(compaction.clone())),
        ]
    }

    /// One condition of each text, none twice.
    ///
    /// # Errors
    /// [`Error::Config`] for none and for one that is there twice; those of [`from_str`](Self::from_str).
    pub fn read_all(texts: &[impl AsRef<str>]) -> Result<Vec<Self>> {
        let mut seen = BTreeSet::new();
        let read = |text: &str| {
            if seen.insert(text.to_owned()) {
                return text.parse();
            }
            Err(Error::config("conditions", text, "is there twice"))
        };
        let all: Vec<Self> =
            texts.iter().map(|text| text.as_ref().trim()).map(read).collect::<Result<_>>()?;
        if all.is_empty() { Err(Error::config("conditions", "none", "want at least one")) } else { Ok(all) }
    }

    /// The handoff, where it is one.
    pub fn as_handoff(&self) -> Option<&Handoff> {
        match &self.way {
            Way::Handoff(handoff) => Some(handoff),
            _ => None,
        }
    }

    /// Whether another model than the worker has to write for it.
    pub(crate) fn wants_orchestrator(&self) -> bool {
        matches!(&self.way, Way::Chain(chain) if chain.by_orchestrator)
    }

    /// What is said where it means nothing.
    pub(crate) fn refused(&self, reason: &'static str) -> Error {
        Error::config("conditions", &self.name, reason)
    }
}

impl FromStr for Condition {
    type Err = Error;

    /// # Errors
    /// [`Error::Config`] for a selection without a size; [`Error::Session`] for a name that is none, with those that there
    /// are, and for what stands behind a name.
    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        let name = text.split_once(':').map_or(text, |(name, _)| name).trim();
        let way = if text == DIRECT {
            Way::Direct
        } else if chain::is_one(text) {
            Way::Chain(Box::new(text.parse()?))
        } else if name.parse::<HandoffKind>().is_ok() {
            Way::Handoff(Box::new(text.parse()?))
        } else if name == HIERARCHICAL {
            Way::Hierarchical(text.parse()?)
        } else if registry::knows(name) {
            Way::Selection(text.parse()?)
        } else {
            let ours = HandoffKind::ALL.into_iter().map(HandoffKind::name).chain([DIRECT, HIERARCHICAL]);
            let names = ours.map(str::to_owned).chain(registry::names()).collect();
            let (known, name) = (registry::nearest_first(name, names), name.to_owned());
            return Err(SessionError::from(lb_am::Error::UnknownSelector { name, known }).into());
        };
        Ok(Self { name: text.to_owned(), way })
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Conditions of one text: `;` between them, or `,` before a name, `full-kv,bm25:0.1,passage=40,snapkv:keep=0.1`.
pub fn split_conditions(text: &str) -> Vec<String> {
    let named = |piece: &str| {
        let name = piece.split_once(':').map_or(piece, |(name, _)| name).trim();
        name == DIRECT || name == HIERARCHICAL || name.parse::<HandoffKind>().is_ok() || registry::knows(name)
    };
    let mut conditions: Vec<String> = Vec::new();
    for part in text.split(';') {
        for (at, piece) in part.split(',').enumerate() {
            match conditions.last_mut().filter(|_| at > 0 && !named(piece)) {
                Some(last) => *last = format!("{last},{piece}"),
                None => conditions.push(piece.trim().to_owned()),
            }
        }
    }
    conditions
}

/// Each name with `keep=*` at every one of `sizes`, in their order.
///
/// # Errors
/// [`Error::Config`] where there is such a name and no size.
pub fn at_each_size(names: Vec<String>, sizes: &[f64]) -> Result<Vec<String>> {
    const ANY: &str = "keep=*";
    let mut all = Vec::new();
    for name in names {
        match sizes {
            _ if !name.contains(ANY) => all.push(name),
            [] => return Err(Error::config("keep", "none", "want sizes for keep=*, as in 0.1,0.05")),
            sizes => all.extend(sizes.iter().map(|size| name.replace(ANY, &format!("keep={size}")))),
        }
    }
    Ok(all)
}
