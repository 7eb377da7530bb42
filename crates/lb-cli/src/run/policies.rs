//! The policies of a run, from a file and from the command line.

use std::collections::BTreeMap;
use std::path::PathBuf;

use lb_orchestrate::{Alerts, EarlyEnd, MemoConfig, Policies, PromptLibrary, Rendered};

use crate::Result;
use crate::exit::Usage;

/// What a run in production is expected to have. What the command line says wins over the file.
#[derive(clap::Args)]
#[command(next_help_heading = "Policies")]
pub(crate) struct PolicyArgs {
    /// A file of policies (TOML): [context], [memo], [models], [[phase]], [early_end], [alerts].
    #[arg(long, value_name = "FILE")]
    policies: Option<PathBuf>,
    /// Tokens of a prompt of the orchestrator; what is older and matters less is shortened, and the log says what.
    #[arg(long, value_name = "TOKENS")]
    prompt_budget: Option<usize>,
    /// Tokens of all that enters the trajectory.
    #[arg(long, value_name = "TOKENS")]
    trajectory_budget: Option<usize>,
    /// Remember the worker's answers in this folder, across runs.
    #[arg(long, value_name = "DIR")]
    memo: Option<PathBuf>,
    /// Whose answers they are.
    #[arg(long, value_name = "NAME", requires = "memo")]
    memo_tenant: Option<String>,
    /// Ask for the answer after so many turns that brought nothing new.
    #[arg(long, value_name = "TURNS")]
    early_end: Option<usize>,
    /// Do not say when shares of a budget are gone.
    #[arg(long)]
    no_alerts: bool,
    /// Do not print the tables of tokens by phase, agent and decision.
    #[arg(long)]
    pub(crate) no_tables: bool,
    /// A library of prompts (TOML).
    #[arg(long, value_name = "FILE", requires = "prompt")]
    prompts: Option<PathBuf>,
    /// The question is made from this prompt of the library: NAME, the latest version, or NAME@VERSION.
    #[arg(long, value_name = "NAME", requires = "prompts", conflicts_with = "question")]
    prompt: Option<String>,
    /// A variable of the prompt; may be given several times.
    #[arg(long = "set", value_name = "NAME=VALUE", requires = "prompt")]
    variables: Vec<String>,
}

impl PolicyArgs {
    pub(crate) fn policies(&self) -> Result<Policies> {
        let mut policies = self.policies.as_ref().map(Policies::open).transpose()?.unwrap_or_default();
        policies.context.prompt_tokens = self.prompt_budget.or(policies.context.prompt_tokens);
        policies.context.trajectory_tokens = self.trajectory_budget.or(policies.context.trajectory_tokens);
        if let Some(dir) = &self.memo {
            policies.memo = Some(MemoConfig { dir: dir.clone(), ..policies.memo.unwrap_or_default() });
        }
        if let (Some(memo), Some(tenant)) = (&mut policies.memo, &self.memo_tenant) {
            memo.tenant.clone_from(tenant);
        }
        if let Some(turns) = self.early_end {
            policies.early_end = Some(EarlyEnd { turns });
        }
        if self.no_alerts {
            policies.alerts = Alerts::off();
        }
        policies.validate()?;
        Ok(policies)
    }

    /// The question, where it is made from a prompt.
    pub(crate) fn prompt(&self) -> Result<Option<Rendered>> {
        let (Some(file), Some(name)) = (&self.prompts, &self.prompt) else { return Ok(None) };
        let mut values = BTreeMap::new();
        for variable in &self.variables {
            let Some((name, value)) = variable.split_once('=') else {
                return Err(Usage(format!("--set {variable}: want NAME=VALUE")).into());
            };
            values.insert(name.to_owned(), value.to_owned());
        }
        Ok(Some(PromptLibrary::open(file)?.render(name, &values)?))
    }
}
