//! What the policies have to say before and after a turn.

use super::loop_state::count;
use super::{Rlm, prompts};
use crate::log::{BlockResult, ManagedPrompt};
use crate::policy::monitor;
use crate::rlm::{Ending, Event};
use crate::{ChatMessage, PhaseMeter, PhaseStep, PhaseUse, Result, TurnSeen};

impl Rlm {
    /// The conversation as it is sent; none where that is all of it.
    pub(super) fn managed_prompt(
        &mut self,
        on_event: &mut dyn FnMut(&Event<'_>),
    ) -> Result<Option<(Vec<ChatMessage>, ManagedPrompt)>> {
        let config = &self.shared.config.context;
        let Some(budget) = config.prompt_tokens else { return Ok(None) };
        let worker = self.shared.session.worker().clone();
        let (opening, question) = (self.opening, self.question.as_ref().map(|question| question.opened_at));
        let protected = |index: usize| index < opening || question == Some(index);
        let count = count(worker.tokenizer());
        let view = self.conversation.view(&self.messages, &protected, budget, config, &count)?;
        self.shared.shelved.extend(view.shelved);
        if view.managed.left_out.is_empty() {
            return Ok(None);
        }
        on_event(&Event::PromptManaged(&view.managed));
        Ok(Some((view.messages, view.managed.into())))
    }

    /// Gives the REPL the texts that pointers name.
    pub(super) fn shelve(&mut self) -> Result<()> {
        for (name, text) in std::mem::take(&mut self.shared.shelved) {
            self.repl.set_text(&name, &text)?;
        }
        Ok(())
    }

    /// Says which shares of budgets are gone, and where the run stands.
    pub(super) fn watch(&mut self, turn: usize, on_event: &mut dyn FnMut(&Event<'_>)) {
        for alert in self.shared.alerts() {
            on_event(&Event::Alert(&alert));
        }
        let (ledger, limits) = (&self.shared.books.ledger, &self.shared.config.limits);
        monitor::tell(ledger, limits, turn, self.shared.findings);
    }

    /// Where the question is among its phases, if there are any.
    pub(super) fn look_at_phases(&mut self) -> Option<PhaseStep> {
        if self.shared.config.phases.is_empty() {
            return None;
        }
        let spent = self.shared.books.ledger.spent();
        let question = self.question.as_mut()?;
        let used =
            PhaseUse { turns: question.turns, tokens: spent.tokens, calls: spent.calls, cost: spent.cost };
        let phases = &self.shared.config.phases;
        let mut first = false;
        let meter = question.meter.get_or_insert_with(|| {
            first = true;
            PhaseMeter::new(phases.clone(), used)
        });
        let step = meter.look(used);
        Some(match (step, meter.phase()) {
            (PhaseStep::Same, Some(name)) if first => {
                PhaseStep::Began { name: name.to_owned(), allowance: meter.allowance() }
            }
            (step, _) => step,
        })
    }

    /// Whether the answer is asked for now; what the orchestrator is told of a phase that begins.
    pub(super) fn before_turn(
        &mut self,
        on_event: &mut dyn FnMut(&Event<'_>),
    ) -> (Option<Ending>, Option<String>) {
        let idle = self.question.as_ref().map_or(0, |question| question.settled.idle());
        if self.shared.config.early_end.is_some_and(|early| idle >= early.turns) {
            return (Some(Ending::Settled), None);
        }
        match self.look_at_phases() {
            Some(PhaseStep::Over) => (Some(Ending::PhasesOver), None),
            Some(PhaseStep::Began { name, allowance }) => {
                on_event(&Event::PhaseBegan { name: &name, allowance: &allowance });
                (None, Some(prompts::phase(&name, &allowance)))
            }
            Some(PhaseStep::Same) | None => (None, None),
        }
    }

    pub(super) fn phase(&self) -> Option<String> {
        self.question.as_ref()?.meter.as_ref()?.phase().map(str::to_owned)
    }

    /// Takes in what a turn brought.
    pub(super) fn settle<'a>(&mut self, blocks: impl Iterator<Item = &'a BlockResult>) {
        if self.shared.config.early_end.is_none() {
            return;
        }
        let Some(question) = &mut self.question else { return };
        let (mut outputs, mut replies, mut draft) = (Vec::new(), Vec::new(), "");
        for block in blocks {
            outputs.extend([block.stdout.as_str(), block.stderr.as_str()]);
            replies.extend(block.rlm_calls.iter().map(|call| call.response.as_str()));
            draft = block.answer.content.as_str();
        }
        question.settled.saw(&TurnSeen { draft, outputs: &outputs, replies: &replies });
    }
}
