//! A layer for `tracing` that keeps one line about a run up to date.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Where a run stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing {
    /// The turn that was last carried through or is under way.
    pub turn: usize,
    /// Tokens of the orchestrator's prompts.
    pub input: usize,
    /// Of them, those that were read from a cache.
    pub cached: usize,
    /// Tokens that it wrote.
    pub output: usize,
    /// Worker calls.
    pub calls: usize,
    /// Tokens that the worker computed.
    pub worker: usize,
    /// Findings that were noted.
    pub findings: usize,
    /// Money, where prices are known.
    pub cost: Option<f64>,
    /// Its currency.
    pub currency: String,
    /// Seconds.
    pub seconds: f64,
    /// The largest share of a limit of the run that is gone; 0 without limits.
    pub share: f64,
    /// Which limit that is.
    pub of: String,
    /// The last alert.
    pub alert: Option<String>,
}

impl Standing {
    /// Money for each finding; none where there is no price or no finding yet.
    pub fn cost_per_finding(&self) -> Option<f64> {
        Some(self.cost? / (self.findings > 0).then_some(self.findings as f64)?)
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { turn, input, cached, output, calls, worker, findings, seconds, share, .. } = self;
        write!(
            f,
            "turn {turn} | orchestrator {input} in ({cached} cached), {output} out | {calls} calls, {worker} worker tokens | \
             {findings} findings | {seconds:.0} s"
        )?;
        if let Some(cost) = self.cost {
            write!(f, " | {cost:.4} {}", self.currency)?;
        }
        if let Some(each) = self.cost_per_finding() {
            write!(f, ", {each:.4} a finding")?;
        }
        if !self.of.is_empty() {
            write!(f, " | {:.0} % of the {}", 100.0 * share, self.of)?;
        }
        match &self.alert {
            Some(alert) => write!(f, " | {alert}"),
            None => Ok(()),
        }
    }
}

/// Hears what the loop tells of its books (target `latent_briefing::books`) and of alerts (`latent_briefing::alerts`), and hands each new
/// standing to a function: a line of a terminal, a page, a counter.
///
/// ```
/// use lb_orchestrate::Monitor;
/// use tracing_subscriber::layer::SubscriberExt;
///
/// let monitor = Monitor::new(|standing| eprintln!("{standing}"));
/// let _subscriber = tracing_subscriber::registry().with(monitor);
/// ```
pub struct Monitor {
    standing: Mutex<Standing>,
    show: Box<dyn Fn(&Standing) + Send + Sync>,
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").field("standing", &self.standing()).finish_non_exhaustive()
    }
}

const BOOKS: &str = "latent_briefing::books";
const ALERTS: &str = "latent_briefing::alerts";

impl Monitor {
    /// Calls `show` with every new standing.
    pub fn new(show: impl Fn(&Standing) + Send + Sync + 'static) -> Self {
        Self { standing: Mutex::default(), show: Box::new(show) }
    }

    /// The last standing.
    pub fn standing(&self) -> Standing {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<S: Subscriber> Layer<S> for Monitor {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let target = event.metadata().target();
        if target != BOOKS && target != ALERTS {
            return;
        }
        let now = {
            let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
            event.record(&mut Fields(&mut standing));
            standing.clone()
        };
        (self.show)(&now);
    }
}

struct Fields<'a>(&'a mut Standing);

impl Visit for Fields<'_> {
    fn record_u64(&mut self, field: &Field, value: u64) {
        let value = usize::try_from(value).unwrap_or(usize::MAX);
        let standing = &mut *self.0;
        let place = match field.name() {
            "turn" => &mut standing.turn,
            "input" => &mut standing.input,
            "cached" => &mut standing.cached,
            "output" => &mut standing.output,
            "calls" => &mut standing.calls,
            "worker" => &mut standing.worker,
            "findings" => &mut standing.findings,
            _ => return,
        };
        *place = value;
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        match field.name() {
            "cost" => self.0.cost = value.is_finite().then_some(value),
            "seconds" => self.0.seconds = value,
            "share" => self.0.share = value,
            _ => {}
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "currency" => value.clone_into(&mut self.0.currency),
            "of" => value.clone_into(&mut self.0.of),
            "alert" => self.0.alert = Some(value.to_owned()),
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}
