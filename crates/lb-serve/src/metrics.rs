//! What a server counts, as Prometheus reads it.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Metric, Registry};

use crate::engine::Usage;

/// A number of things as a gauge has it.
pub(crate) fn count(things: usize) -> i64 {
    i64::try_from(things).unwrap_or(i64::MAX)
}

/// A request by what came of it.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct Answered {
    /// The route, as it is written in the router.
    pub(crate) route: String,
    pub(crate) status: u16,
}

pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) requests: Family<Answered, Counter>,
    pub(crate) seconds: Histogram,
    pub(crate) first_token: Histogram,
    pub(crate) generated: Counter,
    pub(crate) prefilled: Counter,
    pub(crate) reused: Counter,
    pub(crate) saved: Counter,
    pub(crate) refusals: Counter,
    /// Caches of the store that were not taken.
    pub(crate) replays: Counter,
    pub(crate) briefing_seconds: Counter<f64, AtomicU64>,
    pub(crate) running: Gauge,
    pub(crate) waiting: Gauge,
    pub(crate) trajectories: Gauge,
    pub(crate) trajectory_bytes: Gauge,
}

/// A metric that is told of under this name.
fn made<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

impl Metrics {
    pub(crate) fn new() -> Self {
        // 1 ms to 4 minutes.
        let times = || Histogram::new(exponential_buckets(0.001, 2.0, 18));
        let mut registry = Registry::with_prefix("latent_briefing");
        let r = &mut registry;
        Self {
            requests: made(r, "requests", "Requests by route and status", Family::default()),
            seconds: made(
                r,
                "request_seconds",
                "From a request to its answer, or to the first piece of a stream",
                times(),
            ),
            first_token: made(
                r,
                "first_token_seconds",
                "From the beginning of the work to the first token",
                times(),
            ),
            generated: made(r, "generated_tokens", "Tokens of answers", Counter::default()),
            prefilled: made(r, "prefilled_tokens", "Tokens read", Counter::default()),
            reused: made(
                r,
                "reused_tokens",
                "Positions attended to without having been read for it",
                Counter::default(),
            ),
            saved: made(
                r,
                "saved_tokens",
                "Positions of trajectories that briefings left out",
                Counter::default(),
            ),
            refusals: made(r, "refusals", "Jobs that could not be carried out", Counter::default()),
            briefing_seconds: made(r, "briefing_seconds", "Time of making briefings", Counter::default()),
            replays: made(
                r,
                "replays",
                "Caches of the store that were not taken, so that a text was read again",
                Counter::default(),
            ),
            running: made(r, "running", "Answers under way", Gauge::default()),
            waiting: made(r, "waiting", "Jobs that wait", Gauge::default()),
            trajectories: made(r, "trajectories", "Trajectories", Gauge::default()),
            trajectory_bytes: made(
                r,
                "trajectory_bytes",
                "Bytes of their caches in memory",
                Gauge::default(),
            ),
            registry,
        }
    }

    /// A call over a trajectory.
    pub(crate) fn briefed(&self, usage: &Usage) {
        self.reused.inc_by(usage.reused as u64);
        self.saved.inc_by(usage.seq_len.saturating_sub(usage.kept) as u64);
        self.briefing_seconds.inc_by(usage.brief_ms / 1e3);
        self.first_token.observe(usage.read_ms / 1e3);
    }

    /// In Prometheus' text format.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
