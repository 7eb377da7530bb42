//! What tokens and seconds cost, from a table of the user's.

use std::collections::BTreeMap;
use std::path::Path;

use lb_session::CallTokens;
use serde::{Deserialize, Serialize};

use crate::{Error, Result, Usage};

/// Prices by model. An entry's name may end in `*` and then stands for every model that begins so; the longest match
/// counts.
///
/// ```
/// use lb_orchestrate::{PriceTable, Usage};
///
/// let table = PriceTable::from_toml(
///     r#"
///     currency = "USD"
///     [models."gpt-5*"]
///     input = 1.25          # for a million tokens
///     cached_input = 0.125
///     output = 10.0
///     [workers."*"]
///     second = 0.0003       # of the machine that the worker runs on
///     "#,
/// )?;
/// let usage = Usage { input: 1_000_000, cached: 800_000, output: 10_000, ..Usage::default() };
/// let cost = table.model("gpt-5.1").map(|price| price.of(&usage));
/// assert!((cost.unwrap_or_default() - 0.45).abs() < 1e-9);
/// # Ok::<(), lb_orchestrate::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceTable {
    /// The name of the currency. Default: `USD`.
    #[serde(default = "usd")]
    pub currency: String,
    /// Orchestrators.
    #[serde(default)]
    pub models: BTreeMap<String, ModelPrice>,
    /// Local workers.
    #[serde(default)]
    pub workers: BTreeMap<String, WorkerPrice>,
}

fn usd() -> String {
    "USD".to_owned()
}

/// Prices of an orchestrator, for a million tokens each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelPrice {
    /// Input that is neither read from nor written to a cache.
    pub input: f64,
    /// Input that is read from the provider's cache. Default: the price of input.
    #[serde(default)]
    pub cached_input: Option<f64>,
    /// Input that is written to the provider's cache. Default: the price of input.
    #[serde(default)]
    pub cache_write: Option<f64>,
    /// Output, thoughts counted in.
    pub output: f64,
}

/// Prices of a local worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorkerPrice {
    /// A million tokens that are prefilled.
    pub prefill: f64,
    /// A million tokens that are generated, summaries counted in.
    pub output: f64,
    /// A second of the worker's time.
    pub second: f64,
}

impl ModelPrice {
    /// What `usage` costs.
    pub fn of(&self, usage: &Usage) -> f64 {
        let plain = usage.input.saturating_sub(usage.cached).saturating_sub(usage.cache_written);
        let parts = [
            (plain, self.input),
            (usage.cached, self.cached_input.unwrap_or(self.input)),
            (usage.cache_written, self.cache_write.unwrap_or(self.input)),
            (usage.output, self.output),
        ];
        parts.iter().map(|(tokens, price)| *tokens as f64 * price / 1e6).sum()
    }
}

impl WorkerPrice {
    /// What `tokens` and `seconds` of a worker cost.
    pub fn of(&self, tokens: &CallTokens, seconds: f64) -> f64 {
        let (prefilled, generated) = (tokens.prefilled as f64, (tokens.generated + tokens.drafted) as f64);
        (prefilled * self.prefill + generated * self.output) / 1e6 + seconds * self.second
    }
}

impl PriceTable {
    /// Reads a table.
    ///
    /// # Errors
    /// [`Error::Prices`] where it is no TOML, has an unknown or missing key, or a price that is negative or no number.
    pub fn from_toml(text: &str) -> Result<Self> {
        Self::parse(text, Path::new("the price table"))
    }

    /// Reads a file; see [`from_toml`](Self::from_toml).
    ///
    /// # Errors
    /// [`Error::Prices`] naming the file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let failed = |error| match error {
            lb_session::Error::Document { path, fault } => Error::Prices { path, reason: fault.to_string() },
            other => other.into(),
        };
        Self::parse(&lb_session::read_text(path).map_err(failed)?, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self> {
        let failed = |reason: String| Error::Prices { path: path.to_owned(), reason };
        let table: Self = toml::from_str(text).map_err(|e| failed(e.to_string()))?;
        let check = |name: &str, field: &str, price: f64| {
            let fine = price.is_finite() && price >= 0.0;
            if fine {
                Ok(())
            } else {
                Err(failed(format!("{name}: {field} = {price}: want a price of at least 0")))
            }
        };
        for (name, p) in &table.models {
            check(name, "input", p.input)?;
            check(name, "cached_input", p.cached_input.unwrap_or(0.0))?;
            check(name, "cache_write", p.cache_write.unwrap_or(0.0))?;
            check(name, "output", p.output)?;
        }
        for (name, p) in &table.workers {
            check(name, "prefill", p.prefill)?;
            check(name, "output", p.output)?;
            check(name, "second", p.second)?;
        }
        Ok(table)
    }

    /// The price of an orchestrator, `None` where the table does not know it.
    pub fn model(&self, name: &str) -> Option<ModelPrice> {
        lookup(&self.models, name)
    }

    /// The price of a worker, `None` where the table does not know it.
    pub fn worker(&self, name: &str) -> Option<WorkerPrice> {
        lookup(&self.workers, name)
    }
}

fn lookup<P: Copy>(table: &BTreeMap<String, P>, name: &str) -> Option<P> {
    if let Some(price) = table.get(name) {
        return Some(*price);
    }
    let starts = |entry: &&String| entry.strip_suffix('*').is_some_and(|start| name.starts_with(start));
    let best = table.keys().filter(starts).max_by_key(|entry| entry.len())?;
    table.get(best).copied()
}
