//! Asking models in turn.

use std::fmt;
use std::time::{Duration, Instant};

use super::report::{ChainReport, Choice, Fall, ModelReport, ModelUse};
use super::{ChainConfig, Signals};
use crate::orchestrator::TurnGuard;
use crate::{ChatRequest, Completion, Error, Orchestrator, PriceTable, Result, Usage};

/// An orchestrator that is several: each turn is asked of the first model that may be asked, and of the next where that fails, takes too
/// long, or says what cannot be used. After a round without a reply it waits and asks all again, within the deadline.
pub struct ModelChain {
    config: ChainConfig,
    members: Vec<Member>,
    prices: Option<PriceTable>,
    name: String,
    /// The longest time until a deadline that was seen.
    whole: Option<Duration>,
    report: ChainReport,
}

struct Member {
    client: Box<dyn Orchestrator + Send>,
    /// Until when it is asked last.
    cools_until: Option<Instant>,
}

impl fmt::Debug for ModelChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelChain").field("config", &self.config).finish_non_exhaustive()
    }
}

/// What one member did with a request.
enum Asked {
    Taken(Completion),
    Refused { usage: Usage, why: String },
    Failed { why: String, passes: bool },
}

impl ModelChain {
    /// `clients` are the models of `config`, in its order.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field; where there are fewer or more clients than models, or prices that the configuration needs
    /// are missing.
    pub fn new(
        config: ChainConfig,
        clients: Vec<Box<dyn Orchestrator + Send>>,
        prices: Option<PriceTable>,
    ) -> Result<Self> {
        config.validate()?;
        if clients.len() != config.models.len() {
            return Err(Error::config("models.model", clients.len(), "want a client for each model"));
        }
        let price = |name: &str| prices.as_ref().and_then(|table| table.model(name));
        if config.needs_prices()
            && let Some(unknown) = config.models.iter().find(|model| price(&model.name).is_none())
        {
            return Err(Error::config(
                "models.budget",
                &unknown.name,
                "a limit of money needs a price of every model",
            ));
        }
        let output = |name: &str| price(name).map_or(0.0, |price| price.output);
        let dearest = config.models.iter().map(|model| model.name.as_str());
        let dearest = dearest.max_by(|a, b| output(a).total_cmp(&output(b))).map(str::to_owned);
        let reference = config.reference.clone().or(dearest).filter(|name| price(name).is_some());
        let blank =
            |model: &super::ModelSpec| ModelReport { model: model.name.clone(), ..ModelReport::default() };
        let report = ChainReport {
            currency: prices.as_ref().map(|table| table.currency.clone()),
            reference,
            models: config.models.iter().map(blank).collect(),
            choices: Vec::new(),
        };
        let name = config.models.iter().map(|model| model.name.as_str()).collect::<Vec<_>>().join(" > ");
        let members = clients.into_iter().map(|client| Member { client, cools_until: None }).collect();
        Ok(Self { config, members, prices, name, whole: None, report })
    }

    /// What it did so far.
    pub fn report(&self) -> &ChainReport {
        &self.report
    }

    fn budget_left(&self) -> f64 {
        let Some(budget) = self.config.budget else { return 1.0 };
        let spent: f64 = self.report.models.iter().filter_map(|model| model.cost).sum();
        (1.0 - spent / budget).clamp(0.0, 1.0)
    }

    /// Who is asked, in turn, and by which rule; those that have just failed come last.
    fn order(&self, signals: &Signals) -> (Vec<usize>, Option<usize>) {
        let rule = self.config.rules.iter().position(|rule| rule.when.holds(signals));
        let all = || (0..self.members.len()).collect();
        let of_rule = |rule: usize| {
            self.config.rules[rule].order.iter().filter_map(|name| self.config.number(name)).collect()
        };
        let mut order: Vec<usize> = rule.map_or_else(all, of_rule);
        let now = Instant::now();
        order.sort_by_key(|number| self.members[*number].cools_until.is_some_and(|until| until > now));
        (order, rule.map(|rule| rule + 1))
    }

    /// Why a model may not be asked, if so.
    fn spent(&self, number: usize) -> Option<String> {
        let (limits, so_far) = (&self.config.models[number].limits, &self.report.models[number]);
        let reached = |what: &str| Some(format!("its limit of {what} is reached"));
        if limits.requests.is_some_and(|most| so_far.requests >= most) {
            return reached("requests");
        }
        if limits.tokens.is_some_and(|most| so_far.usage.total() >= most) {
            return reached("tokens");
        }
        if limits.cost.is_some_and(|most| so_far.cost.unwrap_or(0.0) >= most) {
            return reached("money");
        }
        None
    }

    fn ask(&mut self, number: usize, request: &ChatRequest<'_>) -> Result<Asked> {
        let spec = &self.config.models[number];
        let own =
            spec.limits.request_s.and_then(|time| Instant::now().checked_add(Duration::from_secs_f64(time)));
        let deadline = [request.deadline, own].into_iter().flatten().min();
        let start = Instant::now();
        let completed = self.members[number].client.complete(&ChatRequest { deadline, ..*request });
        let report = &mut self.report.models[number];
        report.requests += 1;
        report.seconds += start.elapsed().as_secs_f64();
        let price = self.prices.as_ref().and_then(|table| table.model(&spec.name));
        let mut count = |usage: &Usage| {
            report.usage += *usage;
            if let Some(price) = price {
                report.cost = Some(report.cost.unwrap_or(0.0) + price.of(usage));
            }
        };
        let asked = match completed {
            Ok(completion) => {
                count(&completion.usage);
                match self.config.validation.refuses(&completion) {
                    None => Asked::Taken(completion),
                    Some(why) => Asked::Refused { usage: completion.usage, why },
                }
            }
            // The turn is over, whoever is asked.
            Err(Error::Cancelled) => return Err(Error::Cancelled),
            Err(error @ Error::Timeout { .. }) if request.deadline.is_some_and(|at| at <= Instant::now()) => {
                return Err(error);
            }
            Err(error) => Asked::Failed { passes: is_temporary(&error), why: error.to_string() },
        };
        let report = &mut self.report.models[number];
        match &asked {
            Asked::Taken(_) => report.taken += 1,
            Asked::Refused { .. } => report.refused += 1,
            Asked::Failed { .. } => report.failed += 1,
        }
        let cools = matches!(asked, Asked::Failed { .. });
        let until = Instant::now().checked_add(Duration::from_secs_f64(self.config.cool_down_s));
        self.members[number].cools_until = until.filter(|_| cools);
        Ok(asked)
    }

    fn cost(&self, model: &str, usage: &Usage) -> Option<f64> {
        Some(self.prices.as_ref()?.model(model)?.of(usage))
    }

    fn note(&mut self, mut choice: Choice, by_model: &[ModelUse]) {
        for used in by_model {
            choice.usage += used.usage;
        }
        choice.cost = by_model.iter().map(|used| self.cost(&used.model, &used.usage)).sum();
        let taken = by_model.iter().find(|used| used.refused.is_none());
        let reference = self.report.reference.clone();
        choice.reference_cost = taken.zip(reference).and_then(|(used, name)| self.cost(&name, &used.usage));
        self.report.choices.push(choice);
    }

    /// Asks everyone in turn, once.
    fn round(
        &mut self,
        order: &[usize],
        request: &ChatRequest<'_>,
        choice: &mut Choice,
        by_model: &mut Vec<ModelUse>,
    ) -> Result<(Option<Completion>, bool)> {
        let mut again = false;
        for &number in order {
            let model = self.config.models[number].name.clone();
            if let Some(why) = self.spent(number) {
                self.report.models[number].passed_over += 1;
                choice.fell.push(Fall { model, why });
                continue;
            }
            match self.ask(number, request)? {
                Asked::Taken(completion) => {
                    by_model.push(ModelUse { model: model.clone(), usage: completion.usage, refused: None });
                    choice.model = Some(model);
                    return Ok((Some(completion), false));
                }
                Asked::Refused { usage, why } => {
                    again = true;
                    by_model.push(ModelUse { model: model.clone(), usage, refused: Some(why.clone()) });
                    choice.fell.push(Fall { model, why });
                }
                Asked::Failed { why, passes } => {
                    again |= passes;
                    choice.fell.push(Fall { model, why });
                }
            }
        }
        Ok((None, again))
    }

    fn pause(&self, round: usize) -> Duration {
        let doubled = self.config.first_pause_s * 2f64.powi(i32::try_from(round).unwrap_or(30).min(30));
        let most = doubled.min(self.config.longest_pause_s);
        Duration::from_secs_f64(most * (0.5 + 0.5 * rand::random::<f64>()))
    }
}

/// Whether the same request may succeed later.
fn is_temporary(error: &Error) -> bool {
    match error {
        #[cfg(feature = "api")]
        Error::Api { failure, .. } => failure.is_temporary(),
        Error::Timeout { .. } => true,
        _ => false,
    }
}

impl Orchestrator for ModelChain {
    fn model(&self) -> &str {
        &self.name
    }

    fn backend(&self) -> &'static str {
        "chain"
    }

    fn models(&self) -> Vec<&str> {
        self.config.models.iter().map(|model| model.name.as_str()).collect()
    }

    fn choices(&self) -> Option<&ChainReport> {
        Some(&self.report)
    }

    /// # Errors
    /// [`Error::NoModel`] with what came of each, [`Error::Cancelled`], [`Error::Timeout`].
    fn complete(&mut self, request: &ChatRequest<'_>) -> Result<Completion> {
        let guard = TurnGuard::of(request);
        guard.check()?;
        let left = request.deadline.map(|at| at.saturating_duration_since(Instant::now()));
        self.whole = self.whole.max(left);
        let signals = Signals::of(request, &self.config.difficulty, self.whole, self.budget_left());
        let (_, rule) = self.order(&signals);
        let mut choice = Choice { signals, rule, ..Choice::default() };
        let mut by_model = Vec::new();
        let mut ended = Ok(());
        for round in 0..self.config.rounds {
            if round > 0
                && let Err(error) = guard.pause(self.pause(round - 1))
            {
                ended = Err(error);
                break;
            }
            let (order, _) = self.order(&signals);
            match self.round(&order, request, &mut choice, &mut by_model) {
                Ok((Some(mut completion), _)) => {
                    completion.usage = Usage::default();
                    for used in &by_model {
                        completion.usage += used.usage;
                    }
                    completion.by_model.clone_from(&by_model);
                    self.note(choice, &by_model);
                    return Ok(completion);
                }
                Ok((None, true)) => {}
                // Nobody will answer however often they are asked.
                Ok((None, false)) => break,
                Err(error) => {
                    ended = Err(error);
                    break;
                }
            }
        }
        let tried: Vec<String> =
            choice.fell.iter().map(|fall| format!("{}: {}", fall.model, fall.why)).collect();
        self.note(choice, &by_model);
        ended?;
        Err(Error::NoModel { tried: tried.join("; ") })
    }
}
