//! Policies of the orchestrator's side, worked out from a record.

use lb_model::Worker;
use lb_orchestrate::{
    ChainConfig, ChatMessage, EarlyEnd, ManagerConfig, PhaseBudget, PhaseMeter, PhaseStep, PhaseUse,
    PriceTable, PromptView, RunRecord, Settled, TurnSeen, Usage,
};

use super::{PolicyRow, model_cost};
use crate::Result;

/// What is worked out.
pub struct Counted<'a> {
    /// Counts the tokens of prompts.
    pub worker: &'a Worker,
    /// Prices; what they do not know is nothing.
    pub prices: &'a PriceTable,
    /// How the history is managed; budgets are those of `shares`.
    pub context: ManagerConfig,
    /// Budgets of a prompt, as shares of what the longest of each run has behind the question.
    pub shares: Vec<f64>,
    /// Models and rules.
    pub models: Option<ChainConfig>,
    /// When a question ends early.
    pub early_end: EarlyEnd,
    /// Phases.
    pub phases: Vec<PhaseBudget>,
}

/// A row for each policy over all records.
///
/// # Errors
/// [`crate::Error::Run`] where a rule or a budget is out of range.
pub fn counted(of: &Counted<'_>, records: &[RunRecord]) -> Result<Vec<PolicyRow>> {
    let mut rows = Vec::new();
    for share in &of.shares {
        rows.push(of.prompts(*share, records)?);
    }
    if let Some(models) = &of.models {
        models.validate()?;
        rows.push(of.routed(models, records));
    }
    rows.push(of.ended(records));
    if !of.phases.is_empty() {
        rows.push(of.phased(records));
    }
    Ok(rows)
}

impl Counted<'_> {
    fn count(&self, text: &str) -> usize {
        self.worker.tokenizer().encode_text(text).map_or(text.len(), |tokens| tokens.len())
    }

    /// Prompts within a budget. What a prompt has in common with the one before it is taken to be read from a cache.
    fn prompts(&self, share: f64, records: &[RunRecord]) -> Result<PolicyRow> {
        let mut row = PolicyRow {
            policy: format!("context manager, prompts at {:.0} %", 100.0 * share),
            tokens_of: "prompts".to_owned(),
            ..PolicyRow::default()
        };
        let (mut cached_before, mut cached) = (0, 0);
        for record in records {
            row.runs += 1;
            let model = record.metadata.root_model.as_str();
            let whole: Vec<usize> = record.turns().map(|turn| self.all(&turn.prompt)).collect();
            let opening =
                record.turns().next().map_or(0, |turn| self.all(&turn.prompt[..turn.prompt.len().min(2)]));
            let longest = whole.iter().copied().max().unwrap_or(0).saturating_sub(opening);
            // What must not be left out is not shared.
            let budget = opening + (longest as f64 * share) as usize;
            let (mut last, mut last_sent): (Vec<ChatMessage>, Vec<String>) = (Vec::new(), Vec::new());
            let mut view = PromptView::new(self.context.clone());
            for (turn, tokens) in record.turns().zip(whole) {
                let count = |text: &str| self.count(text);
                let protected = |index: usize| index < 2;
                let managed = view.of(&turn.prompt, &protected, budget.max(64), &count)?;
                let sent: Vec<String> =
                    managed.messages.iter().map(|message| message.content.clone()).collect();
                let own: Vec<&str> = turn.prompt.iter().map(|message| message.content.as_str()).collect();
                let known: Vec<&str> = last.iter().map(|message| message.content.as_str()).collect();
                let read_before = self.prefix(&own, &known);
                let sent_refs: Vec<&str> = sent.iter().map(String::as_str).collect();
                let known_sent: Vec<&str> = last_sent.iter().map(String::as_str).collect();
                let read = self.prefix(&sent_refs, &known_sent);
                let sent_tokens: usize = sent.iter().map(|text| self.count(text)).sum();
                (row.tokens_before, row.tokens) = (row.tokens_before + tokens, row.tokens + sent_tokens);
                (cached_before, cached) = (cached_before + read_before, cached + read);
                let usage = |input, cached| Usage { input, cached, ..Usage::default() };
                row.cost_before += model_cost(self.prices, model, &usage(tokens, read_before));
                row.cost += model_cost(self.prices, model, &usage(sent_tokens, read));
                (last, last_sent) = (turn.prompt.clone(), sent);
            }
        }
        row.note = format!("prefix in a cache: {cached_before} without, {cached} with");
        Ok(row)
    }

    fn all(&self, messages: &[ChatMessage]) -> usize {
        messages.iter().map(|message| self.count(&message.content)).sum()
    }

    /// Tokens of the messages that both begin with.
    fn prefix(&self, messages: &[&str], before: &[&str]) -> usize {
        messages.iter().zip(before).take_while(|(a, b)| a == b).map(|(text, _)| self.count(text)).sum()
    }

    /// Each turn's recorded tokens at the price of the model that the rules choose, against the reference alone.
    fn routed(&self, models: &ChainConfig, records: &[RunRecord]) -> PolicyRow {
        let mut row = PolicyRow {
            policy: "choice of models".to_owned(),
            tokens_of: "prompts".to_owned(),
            ..PolicyRow::default()
        };
        let price = |name: &str| self.prices.model(name).map_or(0.0, |price| price.output);
        let names = models.models.iter().map(|model| model.name.as_str());
        let dearest = names.max_by(|a, b| price(a).total_cmp(&price(b))).unwrap_or_default();
        let reference = models.reference.as_deref().unwrap_or(dearest);
        let mut chosen: Vec<(String, usize)> = Vec::new();
        for record in records {
            row.runs += 1;
            for turn in record.turns() {
                let signals = models.signals(&turn.prompt);
                let name = models.first_of(&signals).to_owned();
                row.tokens_before += turn.usage.total();
                row.tokens += turn.usage.total();
                row.cost_before += model_cost(self.prices, reference, &turn.usage);
                row.cost += model_cost(self.prices, &name, &turn.usage);
                match chosen.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, turns)) => *turns += 1,
                    None => chosen.push((name, 1)),
                }
            }
        }
        let turns: Vec<String> = chosen.iter().map(|(name, turns)| format!("{name} {turns} turns")).collect();
        row.note = format!("against {reference} alone: {}", turns.join(", "));
        row
    }

    /// Questions that end once turns bring nothing new: what was in `answer` then is the answer.
    fn ended(&self, records: &[RunRecord]) -> PolicyRow {
        let policy = format!("early end after {} idle turns", self.early_end.turns);
        self.cut(policy, records, &mut |record| {
            let (mut settled, mut cut) = (Settled::default(), None);
            for (at, turn) in record.turns().enumerate() {
                let mut blocks = turn.code_blocks.iter().map(|block| &block.result);
                let outputs: Vec<&str> =
                    blocks.clone().flat_map(|block| [block.stdout.as_str(), block.stderr.as_str()]).collect();
                let replies: Vec<&str> = blocks
                    .clone()
                    .flat_map(|block| &block.rlm_calls)
                    .map(|call| call.response.as_str())
                    .collect();
                let draft = blocks.next_back().map_or("", |block| block.answer.content.as_str());
                let idle = settled.saw(&TurnSeen { draft, outputs: &outputs, replies: &replies });
                if turn.final_answer.is_none() && idle >= self.early_end.turns {
                    cut = Some(at + 1);
                    break;
                }
            }
            cut
        })
    }

    /// Questions that end when their phases are over.
    fn phased(&self, records: &[RunRecord]) -> PolicyRow {
        self.cut("phases with budgets".to_owned(), records, &mut |record| {
            let mut meter = PhaseMeter::new(self.phases.clone(), PhaseUse::default());
            let mut used = PhaseUse::default();
            for (at, turn) in record.turns().enumerate() {
                let calls = turn.code_blocks.iter().flat_map(|block| &block.result.rlm_calls);
                let worker: usize =
                    calls.clone().map(|call| call.tokens.prefilled + call.tokens.generated).sum();
                used.turns += 1;
                used.calls += calls.count();
                used.tokens += turn.usage.total() + worker;
                used.cost += model_cost(self.prices, &record.metadata.root_model, &turn.usage);
                if turn.final_answer.is_none() && meter.look(used) == PhaseStep::Over {
                    return Some(at + 1);
                }
            }
            None
        })
    }

    /// Runs that end after as many turns as `cut` says, with one more completion that is asked for the answer.
    fn cut(
        &self,
        policy: String,
        records: &[RunRecord],
        cut: &mut dyn FnMut(&RunRecord) -> Option<usize>,
    ) -> PolicyRow {
        let mut row = PolicyRow {
            policy,
            tokens_of: "orchestrator and worker".to_owned(),
            answers_changed: Some(0),
            ..PolicyRow::default()
        };
        let mut early = 0;
        for record in records {
            row.runs += 1;
            let turns: Vec<_> = record.turns().collect();
            let model = record.metadata.root_model.as_str();
            let tokens = |turns: &[&lb_orchestrate::Iteration]| -> (usize, f64) {
                let usage = |turn: &&lb_orchestrate::Iteration| {
                    let calls = turn.code_blocks.iter().flat_map(|block| &block.result.rlm_calls);
                    let worker: usize = calls.map(|call| call.tokens.prefilled + call.tokens.generated).sum();
                    (turn.usage.total() + worker, model_cost(self.prices, model, &turn.usage))
                };
                turns.iter().map(usage).fold((0, 0.0), |(n, c), (tokens, cost)| (n + tokens, c + cost))
            };
            let (all, cost) = tokens(&turns);
            (row.tokens_before, row.cost_before) = (row.tokens_before + all, row.cost_before + cost);
            let Some(at) = cut(record).filter(|at| *at < turns.len()) else {
                (row.tokens, row.cost) = (row.tokens + all, row.cost + cost);
                continue;
            };
            early += 1;
            let (kept, spent) = tokens(&turns[..at]);
            // The completion that asks for the answer reads what the next turn would have read.
            let last = Usage { output: 0, ..turns[at].usage };
            row.tokens += kept + last.input;
            row.cost += spent + model_cost(self.prices, model, &last);
            let draft =
                turns[at - 1].code_blocks.last().map_or("", |block| block.result.answer.content.trim());
            let changed = record.answer().is_none_or(|answer| answer.trim() != draft);
            row.answers_changed = row.answers_changed.map(|n| n + usize::from(changed));
        }
        row.note = format!("{early} runs ended early; the draft is taken as the answer");
        row
    }
}
