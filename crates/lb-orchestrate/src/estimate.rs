//! What a run will cost, before it starts.

use std::time::Instant;

use lb_model::{GenerateOptions, PrefillOptions, Worker};
use lb_session::{CallTokens, Handoff, SummaryScope};
use serde::{Deserialize, Serialize};

use crate::log::RunRecord;
use crate::{Error, ModelPrice, Result, Usage, WorkerPrice};

/// What an average turn is taken to be. The defaults are guesses; [`from_record`](Self::from_record) takes the averages of a
/// run of yours.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Assumptions {
    /// Tokens of system prompt and question. Default: 900.
    pub opening: f64,
    /// Tokens that the orchestrator writes in a turn. Default: 350.
    pub reply: f64,
    /// Tokens that the REPL shows after a turn. Default: 500.
    pub output: f64,
    /// Share of the conversation so far that the provider reads from its cache. Default: 0.9.
    pub cached: f64,
    /// Worker calls in a turn. Default: 3.
    pub calls: f64,
    /// Tokens of a call's prompt and document. Default: 800.
    pub prompt: f64,
    /// Tokens of a worker's answer. Default: 60.
    pub answer: f64,
    /// Share of the trajectory that a call attends to. Default: 0.1 for a briefing.
    pub keep_ratio: f64,
}

impl Default for Assumptions {
    fn default() -> Self {
        Self {
            opening: 900.0,
            reply: 350.0,
            output: 500.0,
            cached: 0.9,
            calls: 3.0,
            prompt: 800.0,
            answer: 60.0,
            keep_ratio: 0.1,
        }
    }
}

impl Assumptions {
    /// The averages of a recorded run. What it does not tell (no turns, no calls) is left at its default.
    pub fn from_record(record: &RunRecord) -> Self {
        let mut made = Self::default();
        let turns: Vec<_> = record.turns().collect();
        let n = turns.len() as f64;
        let calls: Vec<_> =
            turns.iter().flat_map(|t| &t.code_blocks).flat_map(|b| &b.result.rlm_calls).collect();
        if let [first, ..] = turns.as_slice() {
            let input: usize = turns.iter().map(|t| t.usage.input).sum();
            let cached: usize = turns.iter().map(|t| t.usage.cached).sum();
            made.opening = first.usage.input as f64;
            made.reply = turns.iter().map(|t| t.usage.output).sum::<usize>() as f64 / n;
            let last = turns.last().map_or(0, |t| t.usage.input) as f64;
            made.output =
                if n > 1.0 { ((last - made.opening) / (n - 1.0) - made.reply).max(0.0) } else { made.output };
            made.cached = if input > 0 { cached as f64 / input as f64 } else { made.cached };
            made.calls = calls.len() as f64 / n;
        }
        if !calls.is_empty() {
            let m = calls.len() as f64;
            let sum =
                |f: fn(&CallTokens) -> usize| calls.iter().map(|c| f(&c.tokens)).sum::<usize>() as f64 / m;
            made.answer = sum(|t| t.generated);
            made.prompt = (sum(|t| t.attended) - sum(|t| t.reused)).max(0.0);
            let kept: Vec<f64> = calls.iter().filter_map(|c| Some(c.briefing.as_ref()?.keep_ratio)).collect();
            if !kept.is_empty() {
                made.keep_ratio = kept.iter().sum::<f64>() / kept.len() as f64;
            }
        }
        made
    }

    fn validate(&self) -> Result<()> {
        let fields = [
            ("assumptions.opening", self.opening, f64::MAX),
            ("assumptions.reply", self.reply, f64::MAX),
            ("assumptions.output", self.output, f64::MAX),
            ("assumptions.cached", self.cached, 1.0),
            ("assumptions.calls", self.calls, f64::MAX),
            ("assumptions.prompt", self.prompt, f64::MAX),
            ("assumptions.answer", self.answer, f64::MAX),
            ("assumptions.keep_ratio", self.keep_ratio, 1.0),
        ];
        for (field, value, most) in fields {
            if !(0.0..=most).contains(&value) || !value.is_finite() {
                return Err(Error::config(
                    field,
                    value,
                    "want a finite number of at least 0, a share at most 1",
                ));
            }
        }
        Ok(())
    }
}

/// How fast a worker is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerSpeed {
    /// Tokens read in a second.
    pub prefill: f64,
    /// Tokens generated in a second.
    pub decode: f64,
}

impl WorkerSpeed {
    /// Measures it with a prompt of 256 tokens and 16 generated ones, after a pass that warms up.
    ///
    /// # Errors
    /// [`Error::Model`].
    pub fn measure(worker: &Worker) -> Result<Self> {
        let filler = worker.tokenizer().encode_text("The keeper of the ledger works in the north. ")?;
        let room = worker.config().position_limit().saturating_sub(32).clamp(1, 256);
        let prompt: Vec<u32> = filler.iter().copied().cycle().take(room).collect();
        let mut speed = Self { prefill: 0.0, decode: 0.0 };
        for _ in 0..2 {
            let mut cache = worker.model().new_cache();
            let start = Instant::now();
            let logits =
                worker.model().prefill(&prompt, &mut cache, &PrefillOptions::default(), &mut |_, _| {})?;
            let read = start.elapsed().as_secs_f64();
            let options = GenerateOptions::greedy(16);
            let made = worker.generate_from_logits(&mut cache, &logits, &options, &mut |_, _| true)?;
            let tokens = (made.tokens.len() + 1) as f64;
            speed.prefill = prompt.len() as f64 / read.max(1e-9);
            speed.decode = tokens / made.decode.as_secs_f64().max(1e-9);
        }
        Ok(speed)
    }
}

/// What a run of a number of turns will cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EstimatedRun {
    /// Turns.
    pub turns: usize,
    /// The orchestrator's tokens.
    pub orchestrator: Usage,
    /// Worker calls.
    pub calls: usize,
    /// The worker's tokens; `prefilled` has the trajectory, read once, counted in.
    pub worker: CallTokens,
    /// Seconds of the worker, where its speed is known.
    pub worker_s: Option<f64>,
    /// Money, where the prices are known.
    pub cost: Option<f64>,
}

/// An estimate: a short run, a likely one, and one that uses all its turns.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// A third of the likely turns.
    pub low: EstimatedRun,
    /// The likely turns.
    pub likely: EstimatedRun,
    /// All turns.
    pub high: EstimatedRun,
}

/// What an [`Estimate`] depends on.
#[derive(Clone, Debug)]
pub struct EstimateInputs {
    /// What an average turn is.
    pub assumptions: Assumptions,
    /// Turns that are likely, at least 1.
    pub likely_turns: usize,
    /// Turns at most; see [`Limits::iterations`](crate::Limits::iterations).
    pub iterations: usize,
    /// How the trajectory reaches the worker.
    pub handoff: Handoff,
    /// Price of the orchestrator.
    pub model: Option<ModelPrice>,
    /// Price of the worker.
    pub worker: Option<WorkerPrice>,
    /// Speed of the worker.
    pub speed: Option<WorkerSpeed>,
}

impl Estimate {
    /// Estimates.
    ///
    /// ```
    /// use lb_orchestrate::{Assumptions, Estimate, EstimateInputs, ModelPrice};
    /// use lb_session::Handoff;
    ///
    /// let inputs = EstimateInputs {
    ///     assumptions: Assumptions::default(),
    ///     likely_turns: 8,
    ///     iterations: 30,
    ///     handoff: Handoff::TextReplay,
    ///     model: Some(ModelPrice { input: 1.25, cached_input: Some(0.125), cache_write: None, output: 10.0 }),
    ///     worker: None,
    ///     speed: None,
    /// };
    /// let estimate = Estimate::of(&inputs)?;
    /// assert!(estimate.low.cost < estimate.high.cost);
    /// # Ok::<(), lb_orchestrate::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] for an assumption out of range or no turns.
    pub fn of(inputs: &EstimateInputs) -> Result<Self> {
        inputs.assumptions.validate()?;
        if inputs.iterations == 0 || inputs.likely_turns == 0 {
            return Err(Error::config(
                "likely_turns",
                inputs.likely_turns,
                "want at least 1, as for iterations",
            ));
        }
        let likely = inputs.likely_turns.min(inputs.iterations);
        Ok(Self {
            low: of_turns(inputs, likely.div_ceil(3)),
            likely: of_turns(inputs, likely),
            high: of_turns(inputs, inputs.iterations),
        })
    }
}

fn of_turns(inputs: &EstimateInputs, turns: usize) -> EstimatedRun {
    let a = &inputs.assumptions;
    // What a turn adds to the conversation, and to the trajectory, which has the answers besides.
    let (grows, learns) = (a.reply + a.output, a.reply + a.output + a.calls * a.answer);
    let (mut input, mut attended, mut prefilled, mut reused, mut drafted) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for turn in 0..turns {
        let before = turn as f64;
        input += a.opening + before * grows;
        let trajectory = before * learns + a.reply;
        let (sees, reads) = match &inputs.handoff {
            Handoff::None => (0.0, a.prompt),
            Handoff::TextReplay => (trajectory, trajectory + a.prompt),
            Handoff::Summary(config) => {
                let (long, each) = (config.max_tokens as f64, config.scope == SummaryScope::Task);
                drafted += if each { a.calls * long } else { long };
                (long, long + a.prompt)
            }
            // The task is read once for the briefing and once over it.
            Handoff::LatentBriefing(_) | Handoff::RenewedBriefing(_) => {
                (a.keep_ratio * trajectory, 2.0 * a.prompt)
            }
            // A pass over the text where it has grown, or for every call; passages of twice the size, and what is kept of them,
            // are read again, for a question with it and without it.
            Handoff::SelectiveContext(_) | Handoff::LlmLingua(_) | Handoff::LongLlmLingua(_) => {
                let (kept, calls) = (a.keep_ratio * trajectory, a.calls.max(1.0));
                let made = match &inputs.handoff {
                    Handoff::SelectiveContext(_) => trajectory / calls,
                    Handoff::LlmLingua(_) => (trajectory + 3.0 * kept) / calls,
                    _ => trajectory + 6.0 * kept,
                };
                (kept, made + kept + a.prompt)
            }
            Handoff::Notes | Handoff::Bm25 { .. } | Handoff::Sentences { .. } => {
                (a.keep_ratio * trajectory, a.keep_ratio * trajectory + a.prompt)
            }
            Handoff::Squeeze(config) => {
                let (long, k) = (config.tokens as f64, config.k as f64);
                drafted += a.calls * (k * long + config.draft as f64);
                (long, (k + 1.0) * (long + a.prompt))
            }
            Handoff::Recent(_) | Handoff::Random { .. } => (a.keep_ratio * trajectory, a.prompt),
            // The full cache, and what is not known here.
            _ => (trajectory, a.prompt),
        };
        attended += a.calls * (sees + a.prompt);
        prefilled += a.calls * reads + learns;
        reused += if inputs.handoff.is_text() { 0.0 } else { a.calls * sees };
    }
    let count = |x: f64| x.round().max(0.0) as usize;
    let calls = a.calls * turns as f64;
    let orchestrator = Usage {
        input: count(input),
        cached: count(input * a.cached),
        output: count(turns as f64 * a.reply),
        ..Usage::default()
    };
    let worker = CallTokens {
        attended: count(attended),
        prefilled: count(prefilled),
        reused: count(reused),
        drafted: count(drafted),
        generated: count(calls * a.answer),
    };
    let made = drafted + calls * a.answer;
    let worker_s = inputs.speed.map(|speed| prefilled / speed.prefill + made / speed.decode);
    let worker_cost = inputs.worker.map_or(0.0, |price| price.of(&worker, worker_s.unwrap_or(0.0)));
    let cost = inputs.model.map(|price| price.of(&orchestrator) + worker_cost);
    EstimatedRun { turns, orchestrator, calls: count(calls), worker, worker_s, cost }
}
