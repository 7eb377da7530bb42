//! The conversation with an orchestrator as it is sent.

use super::plan::{Managed, Planner};
use super::{Count, Item, ItemKind, ManagerConfig};
use crate::{ChatMessage, Result};

/// What was decided about a conversation so far. It only grows, and what was shortened stays so.
#[derive(Clone, Debug, Default)]
pub(crate) struct Conversation {
    tokens: Vec<usize>,
    steps: Vec<usize>,
}

/// The messages that are sent, and what was done to them.
#[derive(Clone, Debug)]
pub struct View {
    /// The messages.
    pub messages: Vec<ChatMessage>,
    /// What was done.
    pub managed: Managed,
    /// Texts that pointers name, new in this prompt: name and text.
    pub shelved: Vec<(String, String)>,
}

/// A conversation that is brought within a budget again and again while it grows, outside of a loop.
#[derive(Clone, Debug)]
pub struct PromptView {
    config: ManagerConfig,
    conversation: Conversation,
}

impl PromptView {
    /// Nothing yet.
    pub fn new(config: ManagerConfig) -> Self {
        Self { config, conversation: Conversation::default() }
    }

    /// The messages as they are sent. `messages` begin with those of the call before; the numbers that `protected` names are never
    /// changed. What was shortened before stays so, and nothing more is while the budget holds.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) where what must not be left out is beyond the budget.
    pub fn of(
        &mut self,
        messages: &[ChatMessage],
        protected: &dyn Fn(usize) -> bool,
        budget: usize,
        count: Count<'_>,
    ) -> Result<View> {
        self.conversation.view(messages, protected, budget, &self.config, count)
    }
}

impl Conversation {
    /// Brings `messages` within the budget. What is `protected` (the system prompt, the question) is left alone; the last message may
    /// be shortened, and stays.
    pub(crate) fn view(
        &mut self,
        messages: &[ChatMessage],
        protected: &dyn Fn(usize) -> bool,
        budget: usize,
        config: &ManagerConfig,
        count: Count<'_>,
    ) -> Result<View> {
        let item = |(index, message): (usize, &ChatMessage)| Item {
            kind: ItemKind::of_message(message),
            text: message.content.clone(),
            name: format!("message_{index}"),
            protected: protected(index),
            stays: index + 1 == messages.len(),
        };
        let items: Vec<Item> = messages.iter().enumerate().map(item).collect();
        // A turn that was stopped takes its message away again.
        self.tokens.truncate(items.len());
        self.steps.truncate(items.len());
        self.tokens.extend(items[self.tokens.len()..].iter().map(|item| count(&item.text)));
        self.steps.resize(items.len(), 0);
        let mut planner = Planner::new(&items, self.tokens.clone(), config, count);
        planner.steps.clone_from(&self.steps);
        planner.settle(budget, (budget as f64 * config.low_water) as usize)?;
        let managed = planner.managed(budget);
        let fresh = |left: &&super::LeftOut| left.pointer.is_some() && self.steps[left.index] == 0;
        let shelve = |left: &super::LeftOut| {
            let item = &items[left.index];
            (item.name.clone(), item.text.clone())
        };
        let shelved = managed.left_out.iter().filter(fresh).map(shelve).collect();
        self.steps.clone_from(&planner.steps);
        let mut sent: Vec<ChatMessage> = Vec::with_capacity(managed.kept.len());
        for kept in &managed.kept {
            let role = messages[kept.index].role;
            match sent.last_mut() {
                // Where one between them is gone. Some APIs want roles in turn.
                Some(last) if last.role == role && messages[kept.index - 1].role != role => {
                    last.content.push_str("\n\n");
                    last.content.push_str(&kept.text);
                }
                _ => sent.push(ChatMessage::new(role, kept.text.clone())),
            }
        }
        Ok(View { messages: sent, managed, shelved })
    }
}
