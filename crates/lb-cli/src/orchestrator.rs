//! Who orchestrates: a program, a service, a model on this machine, a record.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use lb_model::Worker;
use lb_orchestrate::Orchestrator;
use lb_orchestrate::api::{Anthropic, AnthropicConfig, OpenAi, OpenAiConfig};

use crate::Result;
use crate::exit::Usage;
use crate::worker::{WorkerArgs, worker};

/// Which orchestrator, and its model.
#[derive(clap::Args)]
pub(crate) struct OrchestratorArgs {
    /// program, openai, anthropic, local, chain (of `run`: the models of --policies), or replay:LOG
    #[arg(long, value_name = "KIND", default_value = "program")]
    pub(crate) orchestrator: Kind,
    /// The orchestrator's model: a service's name for it; of `local`, a checkpoint, by default the worker's.
    #[arg(long, value_name = "MODEL", alias = "model")]
    pub(crate) orchestrator_model: Option<String>,
}

#[derive(Clone, PartialEq)]
pub(crate) enum Kind {
    Program,
    OpenAi,
    Anthropic,
    Local,
    Chain,
    Replay(PathBuf),
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "program" => Ok(Self::Program),
            "openai" => Ok(Self::OpenAi),
            "anthropic" => Ok(Self::Anthropic),
            "local" => Ok(Self::Local),
            "chain" => Ok(Self::Chain),
            other => match other.strip_prefix("replay:") {
                Some(log) => Ok(Self::Replay(log.into())),
                None => Err("want program, openai, anthropic, local, chain or replay:LOG".to_owned()),
            },
        }
    }
}

impl Kind {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Program => "program",
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Local => "local",
            Self::Chain => "chain",
            Self::Replay(_) => "replay",
        }
    }
}

/// Makes an orchestrator for each run.
pub(crate) type Maker = Arc<dyn Fn() -> lb_orchestrate::Result<Box<dyn Orchestrator + Send>> + Send + Sync>;

impl OrchestratorArgs {
    fn model(&self) -> Result<String> {
        let missing =
            || Usage(format!("--orchestrator {} needs --orchestrator-model", self.orchestrator.name()));
        Ok(self.orchestrator_model.clone().ok_or_else(missing)?)
    }

    /// A service behind an API; `None` for the other kinds. What cannot be is said now, before anything is made.
    pub(crate) fn service(&self) -> Result<Option<Maker>> {
        Ok(match self.orchestrator {
            Kind::OpenAi => {
                let config = OpenAiConfig::from_env(self.model()?)?;
                OpenAi::new(config.clone())?;
                Some(Arc::new(move || Ok(Box::new(OpenAi::new(config.clone())?))))
            }
            Kind::Anthropic => {
                let config = AnthropicConfig::from_env(self.model()?)?;
                Anthropic::new(config.clone())?;
                Some(Arc::new(move || Ok(Box::new(Anthropic::new(config.clone())?))))
            }
            _ => None,
        })
    }

    /// The checkpoint of a local orchestrator, the worker's weights where it is the same; `None` for the other kinds.
    pub(crate) fn local(&self, of: &WorkerArgs, weights: &Worker) -> Result<Option<Worker>> {
        if self.orchestrator != Kind::Local {
            return Ok(None);
        }
        let named = of.worker.as_ref().map(|path| path.to_string_lossy());
        match &self.orchestrator_model {
            Some(name) if named.as_deref() != Some(name) => Ok(Some(worker(Some(name))?)),
            // The built-in worker cannot write code.
            None if of.is_embedded() => self.model().map(|_| None),
            _ => Ok(Some(weights.clone())),
        }
    }
}
