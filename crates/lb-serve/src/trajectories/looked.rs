//! What a call kept of a trajectory, for who wants to look at it.

use lb_model::Worker;
use lb_session::Briefing;
use serde::Serialize;
use utoipa::ToSchema;

use crate::engine::Usage;

/// A call over a trajectory; positions take five bytes each.
#[derive(Clone, Debug)]
pub(crate) struct Looked {
    pub(crate) at: u64,
    task: String,
    usage: Usage,
    tokens: Vec<u32>,
    /// By position, the share of the heads that have it, of 255.
    kept_by: Vec<u8>,
}

/// The same for a page.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Shown {
    /// Seconds since 1970.
    at: u64,
    /// What was asked, cut to 200 characters.
    task: String,
    /// What it cost.
    usage: Usage,
    /// The trajectory's text in tokens.
    pieces: Vec<String>,
    /// By token, the share of the heads that kept it, 0 to 1.
    kept_by: Vec<f32>,
}

impl Looked {
    pub(crate) fn of(briefing: &Briefing, tokens: &[u32], task: &str, usage: &Usage) -> Self {
        let kept_by = briefing.kept_by().iter().map(|share| (share.clamp(0.0, 1.0) * 255.0) as u8).collect();
        let task = task.chars().take(200).collect();
        Self { at: super::now(), task, usage: usage.clone(), tokens: tokens.to_vec(), kept_by }
    }

    pub(crate) fn shown(&self, worker: &Worker) -> Shown {
        Shown {
            at: self.at,
            task: self.task.clone(),
            usage: self.usage.clone(),
            pieces: worker.tokenizer().pieces(&self.tokens),
            kept_by: self.kept_by.iter().map(|share| f32::from(*share) / 255.0).collect(),
        }
    }
}
