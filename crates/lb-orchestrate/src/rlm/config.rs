//! How a loop is set up.

use std::path::PathBuf;

use lb_session::{BoundaryPolicy, CancelToken, Choices, Handoff, PromptFormat, SessionConfig, Source};

use crate::rlm::{AnsweredCalls, Limits, PromptProfile, Protocol, SharedWork};
use crate::{
    Alerts, AnswerMemo, EarlyEnd, Error, ManagerConfig, PhaseBudget, Policies, PriceTable, PromptUsed, Result,
};

/// What a worker is told before each question that a small orchestrator asks; before the document it would be forgotten.
const READER: &str = "Answer in a few words, copied from the document.\nQuestion: ";

/// How a loop is set up; see [`Rlm::new`](crate::Rlm::new).
#[derive(Clone, Debug)]
pub struct RlmConfig {
    /// How the orchestrator says that it is done. Default: [`Protocol::Answer`].
    pub protocol: Protocol,
    /// For which kind of orchestrator the texts are written. Default: [`PromptProfile::Standard`].
    pub profile: PromptProfile,
    /// Whether the first answer of a question is refused, with a text that says what to do, where no worker was asked
    /// before. Default: false.
    pub ask_first: bool,
    /// Whether the worker reads the documents before the first turn, as a part of the trajectory, paragraph by paragraph,
    /// where they take at most half of its positions: a call then needs no piece of them. Default: false.
    pub brief_documents: bool,
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
    /// Calls in common with other runs of the same worker and configuration. Default: none.
    pub answered: Option<AnsweredCalls>,
    /// What of the history is shown again, to the orchestrator and to the worker. Default: all of it.
    pub context: ManagerConfig,
    /// Answers of the worker that are remembered on disk. Default: none.
    pub memo: Option<AnswerMemo>,
    /// Phases of a question with budgets of their own. Behind the last one the answer is asked for. Default: none.
    pub phases: Vec<PhaseBudget>,
    /// Asks for the answer where further turns bring nothing new. Default: never.
    pub early_end: Option<EarlyEnd>,
    /// At which shares of a limit that is said. Default: 50, 80 and 95 %.
    pub alerts: Alerts,
    /// The prompt of a library that the question was made from, for the log. Default: none.
    pub prompt_used: Option<PromptUsed>,
}

impl Default for RlmConfig {
    fn default() -> Self {
        let policy = BoundaryPolicy::default()
            .with_cap(Source::Code, 512)
            .with_cap(Source::Tool, 1024)
            .with_cap(Source::Reply, 1024);
        Self {
            protocol: Protocol::default(),
            profile: PromptProfile::default(),
            ask_first: false,
            brief_documents: false,
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
            answered: None,
            context: ManagerConfig::default(),
            memo: None,
            phases: Vec::new(),
            early_end: None,
            alerts: Alerts::default(),
            prompt_used: None,
        }
    }
}

impl RlmConfig {
    /// Set up for an orchestrator of a few billion parameters: [`PromptProfile::Small`], no answer before a question to
    /// the worker, documents read by the worker, six turns of at most 200 tokens, and a worker that answers in few words.
    #[must_use]
    pub fn small() -> Self {
        let mut config = Self {
            profile: PromptProfile::Small,
            ask_first: true,
            brief_documents: true,
            turn_tokens: Some(200),
            limits: Limits { iterations: 6, ..Limits::default() },
            ..Self::default()
        };
        let (preamble, task_prefix) = ("Document:\n".to_owned(), READER.to_owned());
        config.session.format = PromptFormat { preamble, task_prefix, ..PromptFormat::default() };
        config.session.generate.max_new_tokens = 48;
        // Code and its output say once more what was asked and replied.
        let worth_reading = [Source::Artifact, Source::Finding, Source::Reply];
        config.session.policy =
            BoundaryPolicy::nothing().admitting(worth_reading).with_cap(Source::Reply, 256);
        config
    }

    /// Takes over what other runs of the same worker and configuration have done, and gives what this one does.
    #[must_use]
    pub fn sharing(mut self, work: &SharedWork) -> Self {
        self.session.shared = Some(work.caches.clone());
        self.answered = Some(work.calls.clone());
        self
    }

    /// Takes over what a file of policies says of the loop; which models orchestrate is the orchestrator's matter.
    ///
    /// # Errors
    /// [`Error::Memo`] where the folder of remembered answers cannot be used.
    pub fn with_policies(mut self, policies: &Policies) -> Result<Self> {
        self.memo = policies.memo.clone().map(AnswerMemo::open).transpose()?;
        self.context = policies.context.clone();
        self.phases.clone_from(&policies.phases);
        self.early_end = policies.early_end;
        self.alerts = policies.alerts.clone();
        Ok(self)
    }

    /// Checks every range; see also [`SessionConfig`].
    ///
    /// # Errors
    /// [`Error::Config`] naming the field.
    pub fn validate(&self) -> Result<()> {
        self.limits.validate()?;
        if self.turn_tokens == Some(0) {
            return Err(Error::config("turn_tokens", 0, "want at least 1"));
        }
        self.context.validate()?;
        crate::policy::validate_phases(&self.phases)?;
        self.early_end.as_ref().map_or(Ok(()), EarlyEnd::validate)?;
        self.alerts.validate()?;
        let by_phase = self.phases.iter().any(|phase| phase.cost.is_some());
        if self.prices.is_none() && (self.limits.limits_cost() || by_phase) {
            return Err(Error::config("prices", "none", "a limit of money needs a price table"));
        }
        Ok(())
    }
}
