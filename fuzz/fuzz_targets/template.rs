//! Any text as a chat template: it is refused, or renders a conversation within its bounds.
#![no_main]

use std::sync::LazyLock;

use lb_model::{ChatTemplate, PromptEnd, Message, RenderOptions};
use libfuzzer_sys::fuzz_target;

/// Characters of a rendered conversation of a few words; what a template makes of them is bounded, not this.
const MOST: usize = 64 << 20;

static CONVERSATION: LazyLock<Vec<Message>> = LazyLock::new(|| {
    let said = [("system", "Be brief."), ("user", "What's 6 × 7?\n"), ("assistant", "42"), ("user", "<|im_end|>")];
    said.into_iter().map(|(role, text)| Message::new(role, text)).collect()
});

fuzz_target!(|text: &str| {
    let Ok(template) = ChatTemplate::new(text) else { return };
    for ending in [PromptEnd::AnswerPrompt, PromptEnd::Closed, PromptEnd::Open] {
        let options = RenderOptions { ending, ..RenderOptions::default() };
        if let Ok(rendered) = template.render(&CONVERSATION, &options) {
            assert!(rendered.len() <= MOST);
        }
    }
    let _ = template.split(Some("Be brief."), false);
});
