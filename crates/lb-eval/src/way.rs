//! How a question is answered, from a short text.

use lb_am::registry::{self, Spec};
use lb_am::{Budget, Selection};
use lb_session::{Error as SessionError, Handoff, HandoffKind, SelectionSize, TaskState};

use crate::conditions::each_once;
use crate::{Error, Result};

/// A handoff, or a selection that is kept as it is.
pub(crate) enum Way {
    Handoff(Box<Handoff>),
    Selection(Selected),
}

/// What a selection keeps, and what becomes of the task's own state.
#[derive(Clone)]
pub(crate) struct Selected {
    pub(crate) selection: Selection,
    pub(crate) size: SelectionSize,
    pub(crate) state: TaskState,
}

impl Way {
    /// Each of `conditions` with its name, none twice.
    pub(crate) fn read_all(conditions: &[String]) -> Result<Vec<(String, Self)>> {
        let names = conditions.iter().map(|text| text.trim().to_owned());
        each_once(names, |name| {
            let way = Self::read(&name)?;
            Ok((name, way))
        })
    }

    /// A handoff, or else any selection of the [`registry`] with a size: `snapkv:keep=0.1`, or
    /// `snapkv:keep=0.1,state=reuse,window=16`, where size and state are written as those of a briefing and the rest is the
    /// selection's. A name that is both, as `random` is, is a handoff.
    pub(crate) fn read(text: &str) -> Result<Self> {
        let name = text.split_once(':').map_or(text, |(name, _)| name).trim();
        if name.parse::<HandoffKind>().is_ok() {
            return Ok(Self::Handoff(Box::new(text.parse()?)));
        }
        if !registry::knows(name) {
            let handoffs = HandoffKind::ALL.into_iter().map(|kind| kind.name().to_owned());
            let names = handoffs.chain(registry::names()).collect();
            let unknown = lb_am::Error::UnknownSelector {
                name: name.to_owned(),
                known: registry::nearest_first(name, names),
            };
            return Err(SessionError::from(unknown).into());
        }
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
        Ok(Self::Selection(Selected { selection, size, state: config.task_state }))
    }
}
