//! Models, rules and limits, as a file of the user's has them.

use lb_session::CancelToken;
use serde::{Deserialize, Serialize};

use super::{Signals, Validation};
use crate::{ChatMessage, ChatRequest, Error, Result};

/// Models in the order in which they are asked, and when another order holds.
///
/// ```
/// use lb_orchestrate::ChainConfig;
///
/// let chain: ChainConfig = toml::from_str(
///     r#"
///     reference = "large"
///     [[model]]
///     name = "small"
///     service = "openai"
///     [model.limits]
///     requests = 40
///     [[model]]
///     name = "large"
///     service = "anthropic"
///     [[rule]]
///     order = ["large", "small"]
///     [rule.when]
///     difficulty = [0.6, 1.0]
///     budget_left = [0.2, 1.0]
///     "#,
/// )?;
/// chain.validate()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChainConfig {
    /// The models; the first is asked first.
    #[serde(rename = "model")]
    pub models: Vec<ModelSpec>,
    /// The first whose conditions hold gives the order of a turn; models that it does not name are not asked in it.
    #[serde(rename = "rule")]
    pub rules: Vec<Rule>,
    /// How difficult a turn is taken to be.
    pub difficulty: Difficulty,
    /// What a reply must be.
    pub validation: Validation,
    /// The model whose prices a choice is compared with. Default: the one of the highest price of output.
    pub reference: Option<String>,
    /// Money that the chain may spend, of which [`When::budget_left`] is the rest; needs prices. Default: none.
    pub budget: Option<f64>,
    /// How often all models are asked in turn before it is given up, at least 1. Default: 2.
    pub rounds: usize,
    /// Seconds before the second round; they double. Half of each pause is random. Default: 1.
    pub first_pause_s: f64,
    /// The longest pause in seconds. Default: 30.
    pub longest_pause_s: f64,
    /// Seconds for which a model that failed is asked last. Default: 60.
    pub cool_down_s: f64,
}

impl Default for ChainConfig {
    fn default() -> Self {
        Self {
            models: Vec::new(),
            rules: Vec::new(),
            difficulty: Difficulty::default(),
            validation: Validation::default(),
            reference: None,
            budget: None,
            rounds: 2,
            first_pause_s: 1.0,
            longest_pause_s: 30.0,
            cool_down_s: 60.0,
        }
    }
}

/// A model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// Its name, as the service and the price table have it.
    pub name: String,
    /// Who serves it. Default: `openai`.
    #[serde(default)]
    pub service: Service,
    /// Where. Default: the service's own address, or what its environment variable says.
    #[serde(default)]
    pub base_url: Option<String>,
    /// The environment variable that has the key; a key itself stands in no file. Default: the service's own.
    #[serde(default)]
    pub key_env: Option<String>,
    /// Most tokens of a turn.
    #[serde(default)]
    pub max_tokens: Option<usize>,
    /// Its temperature.
    #[serde(default)]
    pub temperature: Option<f64>,
    /// Repetitions of a request that failed, by the client itself. Default: 1, since there are others to ask.
    #[serde(default = "one")]
    pub retries: usize,
    /// What it may use up.
    #[serde(default)]
    pub limits: ModelLimits,
}

fn one() -> usize {
    1
}

/// Who serves a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Service {
    /// Chat completions as OpenAI has them.
    #[default]
    Openai,
    /// Anthropic's messages.
    Anthropic,
}

/// What one model may use up; none is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelLimits {
    /// Requests, those that failed counted in.
    pub requests: Option<usize>,
    /// Tokens, input and output.
    pub tokens: Option<usize>,
    /// Money, by the price table.
    pub cost: Option<f64>,
    /// Seconds of one request, the client's repetitions counted in.
    pub request_s: Option<f64>,
}

/// An order of models, and when it holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// When. Without conditions: always.
    #[serde(default)]
    pub when: When,
    /// Who is asked, in turn.
    pub order: Vec<String>,
}

/// Conditions; each is from its first number to its second, both counted in, and all must hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct When {
    /// See [`Signals::difficulty`].
    pub difficulty: Option<[f64; 2]>,
    /// See [`Signals::urgency`].
    pub urgency: Option<[f64; 2]>,
    /// See [`Signals::budget_left`].
    pub budget_left: Option<[f64; 2]>,
    /// The turn, from 1.
    pub turn: Option<[f64; 2]>,
}

/// Difficulty as a sum, held between 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Difficulty {
    /// Of every turn. Default: 0.2.
    pub base: f64,
    /// For each error among the last three outputs. Default: 0.25.
    pub per_error: f64,
    /// For a thousand tokens of the conversation, a token taken as four characters. Default: 0.01.
    pub per_thousand_tokens: f64,
    /// For each turn before this one. Default: 0.02.
    pub per_turn: f64,
}

impl Default for Difficulty {
    fn default() -> Self {
        Self { base: 0.2, per_error: 0.25, per_thousand_tokens: 0.01, per_turn: 0.02 }
    }
}

impl When {
    fn ranges(&self) -> [(&'static str, Option<[f64; 2]>); 4] {
        [
            ("difficulty", self.difficulty),
            ("urgency", self.urgency),
            ("budget_left", self.budget_left),
            ("turn", self.turn),
        ]
    }

    pub(super) fn holds(&self, signals: &Signals) -> bool {
        let is = [signals.difficulty, signals.urgency, signals.budget_left, signals.turn as f64];
        let within = |([low, high], value): ([f64; 2], f64)| (low..=high).contains(&value);
        self.ranges().iter().zip(is).filter_map(|((_, range), value)| Some(((*range)?, value))).all(within)
    }
}

impl ChainConfig {
    /// The number of a model.
    pub(super) fn number(&self, name: &str) -> Option<usize> {
        self.models.iter().position(|model| model.name == name)
    }

    /// What a turn looks like that is asked for behind these messages, without a deadline or a budget.
    pub fn signals(&self, messages: &[ChatMessage]) -> Signals {
        let cancel = CancelToken::new();
        let request = ChatRequest { messages, max_tokens: None, deadline: None, cancel: &cancel };
        Signals::of(&request, &self.difficulty, None, 1.0)
    }

    /// The name of the model that is asked first.
    pub fn first_of(&self, signals: &Signals) -> &str {
        let rule = self.rules.iter().find(|rule| rule.when.holds(signals));
        let of_rule = rule.and_then(|rule| rule.order.first()).map(String::as_str);
        of_rule.or_else(|| self.models.first().map(|model| model.name.as_str())).unwrap_or_default()
    }

    /// Checks every range and name.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field; [`Error::Empty`] without models.
    pub fn validate(&self) -> Result<()> {
        if self.models.is_empty() {
            return Err(Error::Empty { arg: "models.model" });
        }
        for (number, model) in self.models.iter().enumerate() {
            if model.name.trim().is_empty() {
                return Err(Error::config("models.model.name", &model.name, "want a name"));
            }
            if self.number(&model.name) != Some(number) {
                return Err(Error::config("models.model.name", &model.name, "is there twice"));
            }
            if let Some(time) = model.limits.request_s.filter(|time| !(*time > 0.0 && time.is_finite())) {
                return Err(Error::config("models.model.limits.request_s", time, "want seconds above 0"));
            }
        }
        let named = self.rules.iter().flat_map(|rule| &rule.order).chain(&self.reference);
        for name in named {
            if self.number(name).is_none() {
                return Err(Error::config("models.rule.order", name, "is none of the models"));
            }
        }
        for rule in &self.rules {
            if rule.order.is_empty() {
                return Err(Error::Empty { arg: "models.rule.order" });
            }
            for (_, range) in rule.when.ranges() {
                if let Some([low, high]) = range
                    && (low.is_nan() || high.is_nan() || low > high)
                {
                    return Err(Error::config(
                        "models.rule.when",
                        format!("[{low}, {high}]"),
                        "want [low, high]",
                    ));
                }
            }
        }
        if self.rounds == 0 {
            return Err(Error::config("models.rounds", 0, "want at least 1"));
        }
        for (field, seconds) in [
            ("models.first_pause_s", self.first_pause_s),
            ("models.longest_pause_s", self.longest_pause_s),
            ("models.cool_down_s", self.cool_down_s),
        ] {
            if !(0.0..=86_400.0).contains(&seconds) {
                return Err(Error::config(field, seconds, "want 0 to 86400 seconds"));
            }
        }
        match self.budget {
            Some(budget) if !(budget > 0.0 && budget.is_finite()) => {
                Err(Error::config("models.budget", budget, "want an amount above 0"))
            }
            _ => self.validation.validate(),
        }
    }

    /// Whether money plays a part.
    pub(super) fn needs_prices(&self) -> bool {
        let by_budget = self.rules.iter().any(|rule| rule.when.budget_left.is_some());
        self.budget.is_some() || by_budget || self.models.iter().any(|model| model.limits.cost.is_some())
    }
}
