//! The form of conversation that a chat template takes.

use lb_model::{ChatTemplate, Message, RenderOptions};

use super::local::role;
use super::{ChatMessage, Role};

/// Stands for a system text; templates do not contain it.
const SYSTEM: &str = "\u{E0B3}system\u{E0B4}";

/// What a template refuses, or drops without a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Form {
    /// The system text belongs into the first user turn.
    folded: bool,
    /// Neighbours of one role are one message.
    in_turn: bool,
}

impl Form {
    /// The plainest form that the template takes; found by trying. Where none renders, the conversation as it is: the
    /// error is the template's own.
    pub(super) fn of(template: &ChatTemplate) -> Self {
        let conversation = [
            ChatMessage::new(Role::System, SYSTEM),
            ChatMessage::new(Role::User, "a"),
            ChatMessage::new(Role::User, "b"),
            ChatMessage::new(Role::Assistant, "c"),
            ChatMessage::new(Role::User, "d"),
        ];
        let forms = [(false, false), (false, true), (true, false), (true, true)];
        let forms = forms.map(|(folded, in_turn)| Self { folded, in_turn });
        let takes = |form: &Self| {
            let messages = form.arrange(&conversation);
            let messages: Vec<Message> =
                messages.iter().map(|m| Message::new(role(m.role), m.content.as_str())).collect();
            let shown = template.render(&messages, &RenderOptions::default());
            shown.is_ok_and(|text| text.contains(SYSTEM))
        };
        forms.into_iter().find(takes).unwrap_or_default()
    }

    /// A conversation in this form. What is in it already stays as it is.
    pub(super) fn arrange(self, messages: &[ChatMessage]) -> Vec<ChatMessage> {
        let mut arranged: Vec<ChatMessage> = Vec::with_capacity(messages.len());
        // System texts before any user turn wait for it.
        let mut waiting: Vec<&str> = Vec::new();
        for message in messages {
            if self.folded && message.role == Role::System {
                waiting.push(&message.content);
                continue;
            }
            let mut content = message.content.clone();
            if message.role == Role::User && !waiting.is_empty() {
                waiting.push(&message.content);
                content = std::mem::take(&mut waiting).join("\n\n");
            }
            self.push(&mut arranged, message.role, &content);
        }
        if !waiting.is_empty() {
            self.push(&mut arranged, Role::User, &waiting.join("\n\n"));
        }
        arranged
    }

    fn push(self, arranged: &mut Vec<ChatMessage>, role: Role, content: &str) {
        match arranged.last_mut() {
            Some(last) if self.in_turn && last.role == role => {
                last.content.push_str("\n\n");
                last.content.push_str(content);
            }
            _ => arranged.push(ChatMessage::new(role, content)),
        }
    }
}
