//! Clients for the models of a chain.

use super::{ChainConfig, ModelChain, ModelSpec, Service};
use crate::api::{Anthropic, AnthropicConfig, ApiKey, OpenAi, OpenAiConfig};
use crate::{Error, Orchestrator, PriceTable, Result};

impl ModelChain {
    /// Clients for all models of `config`. Nothing is sent yet.
    ///
    /// # Errors
    /// Those of [`new`](Self::new) and of the clients; [`Error::Config`] where an environment variable that is named has no key.
    pub fn connect(config: ChainConfig, prices: Option<PriceTable>) -> Result<Self> {
        config.validate()?;
        let clients = config.models.iter().map(client).collect::<Result<Vec<_>>>()?;
        Self::new(config, clients, prices)
    }
}

fn key(spec: &ModelSpec) -> Result<Option<ApiKey>> {
    let Some(variable) = &spec.key_env else { return Ok(None) };
    let missing =
        |_| Error::config("models.model.key_env", variable, "want an environment variable that has a key");
    ApiKey::new(std::env::var(variable).map_err(missing)?).map(Some)
}

fn client(spec: &ModelSpec) -> Result<Box<dyn Orchestrator + Send>> {
    let named = key(spec)?;
    match spec.service {
        Service::Openai => {
            let mut config = match &spec.base_url {
                // A key for the service itself does not go elsewhere by accident.
                Some(url) => OpenAiConfig::at(url, &spec.name),
                None => OpenAiConfig::from_env(&spec.name)?,
            };
            config.key = named.or(config.key);
            (config.max_tokens, config.temperature) = (spec.max_tokens, spec.temperature);
            config.connection.retries.count = spec.retries;
            Ok(Box::new(OpenAi::new(config)?))
        }
        Service::Anthropic => {
            let mut config = match &spec.base_url {
                Some(url) => AnthropicConfig::at(url, &spec.name),
                None => AnthropicConfig::from_env(&spec.name)?,
            };
            config.key = named.or(config.key);
            config.max_tokens = spec.max_tokens.unwrap_or(config.max_tokens);
            config.temperature = spec.temperature;
            config.connection.retries.count = spec.retries;
            Ok(Box::new(Anthropic::new(config)?))
        }
    }
}
