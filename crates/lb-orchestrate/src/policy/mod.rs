//! What a run in production is expected to have: a managed context, remembered answers, several models, phases with budgets, a watch
//! over what it costs. Each part is off, or changes no answer, unless it is asked for.

pub(crate) mod context;
pub(crate) mod memo;
pub(crate) mod models;
pub(crate) mod monitor;
pub(crate) mod phases;
pub(crate) mod prompts;

use std::path::Path;

use serde::{Deserialize, Serialize};

use context::ManagerConfig;
use memo::MemoConfig;
use models::ChainConfig;
use monitor::Alerts;
pub(crate) use phases::validate_phases;
use phases::{EarlyEnd, PhaseBudget};

use crate::{Error, Result};

/// The policies of a run, as a file has them. What is not there is at its default.
///
/// ```
/// use lb_orchestrate::Policies;
///
/// let policies = Policies::from_toml(
///     r#"
///     [context]
///     prompt_tokens = 24000
///     [memo]
///     dir = "answers"
///     [early_end]
///     turns = 2
///     [[phase]]
///     name = "explore"
///     turns = 12
///     [[phase]]
///     name = "check"
///     turns = 4
///     carry_over = 0.5
///     [alerts]
///     at = [0.8]
///     "#,
/// )?;
/// assert_eq!(policies.context.prompt_tokens, Some(24_000));
/// # Ok::<(), lb_orchestrate::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policies {
    /// What of the history is shown again. Default: all of it.
    pub context: ManagerConfig,
    /// Answers of the worker on disk. Default: none.
    pub memo: Option<MemoConfig>,
    /// Several models that orchestrate. Default: the one that the run has.
    pub models: Option<ChainConfig>,
    /// Phases of a question. Default: none.
    #[serde(rename = "phase")]
    pub phases: Vec<PhaseBudget>,
    /// When a question ends early. Default: never.
    pub early_end: Option<EarlyEnd>,
    /// When shares of a budget are said to be gone. Default: at 50, 80 and 95 %.
    pub alerts: Alerts,
}

impl Policies {
    /// Reads a text.
    ///
    /// # Errors
    /// [`Error::Policies`]: no TOML, an unknown key; [`Error::Config`] for values out of range.
    pub fn from_toml(text: &str) -> Result<Self> {
        Self::parse(text, Path::new("the policies"))
    }

    /// Reads a file; see [`from_toml`](Self::from_toml).
    ///
    /// # Errors
    /// [`Error::Policies`] naming the file, [`Error::Config`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = lb_io::files::read_text_at_most(path, lb_io::files::SETTINGS);
        let text =
            text.map_err(|error| Error::Policies { path: path.to_owned(), reason: error.to_string() })?;
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self> {
        let failed =
            |error: toml::de::Error| Error::Policies { path: path.to_owned(), reason: error.to_string() };
        let policies: Self = toml::from_str(text).map_err(failed)?;
        policies.validate()?;
        Ok(policies)
    }

    /// Checks every range.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field.
    pub fn validate(&self) -> Result<()> {
        self.context.validate()?;
        self.memo.as_ref().map_or(Ok(()), MemoConfig::validate)?;
        self.models.as_ref().map_or(Ok(()), ChainConfig::validate)?;
        validate_phases(&self.phases)?;
        self.early_end.as_ref().map_or(Ok(()), EarlyEnd::validate)?;
        self.alerts.validate()
    }
}
