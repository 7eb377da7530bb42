//! Templates without a place for a system message.

use std::borrow::Cow;

use super::{ChatTemplate, Content, Message, PartKind, RenderOptions, TextPart};

impl ChatTemplate {
    /// Whether the template renders a conversation with a system message. Some raise an exception on one (Mistral 7B up to
    /// v0.2, Gemma).
    pub fn takes_system(&self) -> bool {
        *self.takes_system.get_or_init(|| {
            let renders = |messages: &[Message]| self.render(messages, &RenderOptions::default()).is_ok();
            let user = Message::new("user", "x");
            // Of a template that fails without one, too, this cannot be said.
            renders(&[Message::new("system", "x"), user.clone()]) || !renders(&[user])
        })
    }

    /// The conversation as this template takes it: where it refuses a system message, the text of those at the
    /// start stands before the first user's, with an empty line between, as the makers of such models tell their users
    /// to write it.
    pub fn fold_system<'a>(&self, messages: &'a [Message]) -> Cow<'a, [Message]> {
        let is_system = |message: &&Message| message.role == "system";
        let count = messages.iter().take_while(is_system).count();
        if count == 0 || self.takes_system() {
            return Cow::Borrowed(messages);
        }
        let (system, rest) = messages.split_at(count);
        let mut rest = rest.to_vec();
        if rest.first().is_none_or(|first| first.role != "user") {
            rest.insert(0, Message { role: "user".to_owned(), content: None, ..system[0].clone() });
        }
        let texts = system.iter().filter_map(|message| message.content.as_ref().and_then(text_of));
        let mut texts: Vec<String> = texts.collect();
        let first = &mut rest[0];
        first.content = match first.content.take() {
            Some(Content::Parts(mut parts)) => {
                texts.push(String::new());
                parts.insert(0, TextPart { kind: PartKind::Text, text: texts.join("\n\n") });
                Some(Content::Parts(parts))
            }
            Some(Content::Text(text)) => {
                texts.push(text);
                Some(Content::Text(texts.join("\n\n")))
            }
            None => Some(Content::Text(texts.join("\n\n"))),
            other => other,
        };
        Cow::Owned(rest)
    }
}

fn text_of(content: &Content) -> Option<String> {
    match content {
        Content::Text(text) => Some(text.clone()),
        Content::Parts(parts) => Some(parts.iter().map(|part| part.text.as_str()).collect()),
        Content::Data(_) => None,
    }
}
