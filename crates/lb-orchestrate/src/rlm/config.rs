//! How a loop is set up.

use std::path::PathBuf;

use crate::rlm::{Limits, Protocol};
use crate::{
    BoundaryPolicy, CancelToken, Choices, Error, Handoff, PriceTable, Result, SessionConfig, Source,
};

/// How a loop is set up; see [`Rlm::new`](crate::Rlm::new).
#[derive(Clone, Debug)]
pub struct RlmConfig {
    /// How the orchestrator says that it is done. Default: [`Protocol::Answer`].
    pub protocol: Protocol,
    /// How the trajectory reaches the worker. Default: a briefing with the defaults of a compaction.
    pub handoff: Handoff,
    /// What the run may use up.
    pub limits: Limits,
    /// The worker's side: what enters its cache, the wording, how it generates. Default: everything enters; code is
    /// cut at 512 tokens, output and replies at 1,024.
    pub session: SessionConfig,
    /// Calls the run off.
    pub cancel: CancelToken,
    /// Where the log goes. Default: nowhere.
    pub log_dir: Option<PathBuf>,
    /// Whether the log has a map of every briefing: two numbers for each position of the trajectory. Default: true.
    pub log_briefings: bool,
    /// What tokens cost. Needed where a limit is money.
    pub prices: Option<PriceTable>,
    /// Most tokens of one turn of the orchestrator. Default: what it was configured with.
    pub turn_tokens: Option<usize>,
    /// Characters of a call's prompt that enter the trajectory beside its reply. Default: 200.
    pub reply_prompt_chars: usize,
    /// Choices whose chances every briefed call of the worker reads, for the log. Default: none.
    pub choices: Option<Choices>,
    /// Stands behind the system prompt: what the orchestrator should know of the task, in the user's words.
    pub instructions: Option<String>,
}

impl Default for RlmConfig {
    fn default() -> Self {
        let policy = BoundaryPolicy::default()
            .with_cap(Source::Code, 512)
            .with_cap(Source::Tool, 1024)
            .with_cap(Source::Reply, 1024);
        Self {
            protocol: Protocol::default(),
            handoff: Handoff::briefing(lb_am::Compaction::default()),
            limits: Limits::default(),
            session: SessionConfig { policy, ..SessionConfig::default() },
            cancel: CancelToken::new(),
            log_dir: None,
            log_briefings: true,
            prices: None,
            turn_tokens: None,
            reply_prompt_chars: 200,
            choices: None,
            instructions: None,
        }
    }
}

impl RlmConfig {
    /// Checks every range; see also [`SessionConfig`].
    ///
    /// # Errors
    /// [`Error::Config`] naming the field.
    pub fn validate(&self) -> Result<()> {
        self.limits.validate()?;
        if self.turn_tokens == Some(0) {
            return Err(Error::config("turn_tokens", 0, "want at least 1"));
        }
        if self.prices.is_none() && self.limits.limits_cost() {
            return Err(Error::config("prices", "none", "a limit of money needs a price table"));
        }
        Ok(())
    }
}
