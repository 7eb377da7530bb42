//! How a question is answered, from a short text.

use lb_am::{Budget, baselines::Baseline};
use lb_session::{BriefConfig, Handoff, SelectionSize, TaskState};

use crate::bench::plan::each_once;
use crate::{Error, Result};

/// A handoff, or a published selection.
pub(crate) enum Way {
    Handoff(Box<Handoff>),
    Selection(Selected),
}

/// What a published selection keeps, and what becomes of the task's own state.
#[derive(Clone, Copy)]
pub(crate) struct Selected {
    pub(crate) baseline: Baseline,
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

    /// `snapkv:keep=0.1`, `snapkv:keep=0.1,state=reuse`, else a handoff. `random` is a handoff.
    pub(crate) fn read(text: &str) -> Result<Self> {
        let (name, arguments) = text.split_once(':').unwrap_or((text, ""));
        let baseline = match name.trim().parse::<Baseline>() {
            Ok(Baseline::Random { .. }) | Err(_) => return Ok(Self::Handoff(Box::new(text.parse()?))),
            Ok(baseline) => baseline,
        };
        let wrong = || Error::config("conditions", text, "want a size, as in snapkv:keep=0.1");
        if arguments.trim().is_empty() {
            return Err(wrong());
        }
        // Size and state are written as those of a briefing, and there is nothing else to say.
        let Handoff::LatentBriefing(config) = format!("latent-briefing:{arguments}").parse()? else {
            return Err(wrong());
        };
        let size = match config.compaction.budget {
            Budget::KeepRatio(ratio) => SelectionSize::KeepRatio(ratio),
            Budget::KeptLen(len) => SelectionSize::KeptLen(len),
            _ => return Err(wrong()),
        };
        let state = config.task_state;
        let mut plain = BriefConfig::default().with_task_state(state);
        plain.compaction.budget = config.compaction.budget;
        if *config != plain {
            return Err(wrong());
        }
        Ok(Self::Selection(Selected { baseline, size, state }))
    }
}
