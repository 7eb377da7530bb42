//! What is asked of an item, and what a reply is worth.

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::datasets::{Item, ItemKind, letter};
use crate::metrics;
use crate::prompts;

/// How items are asked and scored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scoring {
    /// Question, choices and form of the reply as published; the letter is taken from the reply as published, free text is
    /// scored by its set's metric.
    #[default]
    Official,
    /// The question alone; a reply is right where it is the right choice's text, word by word. For workers that were
    /// trained to answer in words and cannot choose letters. Its figures are not those of the published protocol.
    ChoiceText,
}

impl Scoring {
    /// What the loop is asked about `item`; its document is apart. Without blank lines: [`lb_orchestrate::Reader`] reads a
    /// question to its first one.
    pub fn question(self, item: &Item) -> String {
        match self {
            Self::ChoiceText => item.question.trim().to_owned(),
            Self::Official => {
                let text = prompts::without_text(item);
                let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
                lines.join("\n")
            }
        }
    }

    /// The right answer as rows have it: a letter, the text of a choice, or all references.
    pub fn expected(self, item: &Item) -> String {
        match (&item.kind, self) {
            (ItemKind::Choices { answer, .. }, Self::Official) => letter(*answer).to_string(),
            (ItemKind::Choices { choices, answer }, Self::ChoiceText) => {
                choices.get(*answer).map(|choice| choice.trim().to_owned()).unwrap_or_default()
            }
            (ItemKind::Free { answers }, _) => answers.join(" | "),
        }
    }

    /// The score of a reply, 0 to 1.
    ///
    /// # Errors
    /// Those of [`metrics::score`].
    pub fn score(self, item: &Item, reply: &str) -> Result<f64> {
        match (&item.kind, self) {
            (ItemKind::Choices { choices, answer }, Self::ChoiceText) => {
                let said = choices.iter().position(|choice| choice.trim() == reply.trim());
                Ok(f64::from(said == Some(*answer)))
            }
            _ => metrics::score(item, reply, None),
        }
    }
}
