//! What a model is asked, cut to its limit, and what counts as its answer: the protocol of LongBench v2.
//!
//! The wording is that of the published prompts (`prompts/` of `THUDM/LongBench`, MIT), since a fixed protocol is what makes
//! figures comparable. Items of other sets are asked in the same form, with as many letters as they have choices; free
//! questions in a form of our own.

mod extract;
mod truncate;

use serde::{Deserialize, Serialize};

pub use extract::{extract, extract_lenient};
pub use truncate::{Codec, Truncated, truncate};

use crate::datasets::{Item, ItemKind, letter};

/// New tokens that an answer may have.
pub const ANSWER_TOKENS: usize = 128;
/// New tokens that the first step of [`Variant::ChainOfThought`] may have.
pub const REASONING_TOKENS: usize = 1024;
/// Sampling temperature of the published runs.
pub const TEMPERATURE: f64 = 0.1;

/// Which of the published prompts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variant {
    /// The text, the question, the choices.
    #[default]
    ZeroShot,
    /// The same, then step by step; [`answer_from`] asks for the answer to it.
    ChainOfThought,
    /// The question and the choices alone: what the model knows without the text.
    NoContext,
}

const READ_ONE: &str = "Please read the following text and answer the question below.";
const READ_MANY: &str = "Please read the following text and answer the questions below.";
const STEPS: &str = "Let’s think step by step:";
const FORM: &str = "Format your response as follows: \"The correct answer is (insert answer here)\".";
const LIKELIEST: &str = "is the single, most likely answer choice?";

/// The prompt of an item.
///
/// White space around text, question and choices is dropped. Unlike the published script, which replaces placeholders one
/// after the other, a `$Q$` within a text (LaTeX has them) stays what it is.
pub fn prompt(item: &Item, variant: Variant) -> String {
    let (context, asked) = (item.context.trim(), asked(item));
    match (variant, &item.kind) {
        (Variant::ZeroShot, ItemKind::Choices { .. }) => {
            format!("{READ_ONE}\n\n<text>\n{context}\n</text>\n\n{asked}\n\n{FORM}")
        }
        (Variant::ChainOfThought, _) => {
            format!("{READ_MANY}\n\n<text>\n{context}\n</text>\n\n{asked}\n\n{STEPS}")
        }
        (Variant::NoContext, ItemKind::Choices { .. }) => format!("{asked}\n\nWhat {LIKELIEST} {FORM}"),
        (Variant::ZeroShot, ItemKind::Free { .. }) => {
            format!("{READ_ONE}\n\n<text>\n{context}\n</text>\n\n{asked}\n\n{BRIEFLY}")
        }
        (Variant::NoContext, ItemKind::Free { .. }) => format!("{asked}\n\n{BRIEFLY}"),
    }
}

const BRIEFLY: &str = "Answer as briefly as you can, without an explanation.";

/// [`Variant::ZeroShot`] without the text and what introduces it: for who has the text otherwise.
pub fn without_text(item: &Item) -> String {
    let form = if matches!(item.kind, ItemKind::Choices { .. }) { FORM } else { BRIEFLY };
    format!("{}\n\n{form}", asked(item))
}

/// The second prompt of [`Variant::ChainOfThought`]: `reasoning` is the reply to the first. The text is left out.
pub fn answer_from(item: &Item, reasoning: &str) -> String {
    let (asked, reasoning) = (asked(item), reasoning.trim());
    let last = match item.kind {
        ItemKind::Choices { .. } => format!("what {LIKELIEST} {FORM}"),
        ItemKind::Free { .. } => format!("what is the answer? {BRIEFLY}"),
    };
    format!(
        "{READ_MANY}\n\nThe text is too long and omitted here.\n\n{asked}\n\n{STEPS} {reasoning}\n\nBased on the above, {last}"
    )
}

/// The question, and the choices with their letters.
fn asked(item: &Item) -> String {
    let question = item.question.trim();
    match &item.kind {
        ItemKind::Free { .. } => format!("Question: {question}"),
        ItemKind::Choices { choices, .. } => {
            let choices = choices.iter().enumerate().map(|(i, c)| format!("\n({}) {}", letter(i), c.trim()));
            format!(
                "What is the correct answer to this question: {question}\nChoices:{}",
                choices.collect::<String>()
            )
        }
    }
}
