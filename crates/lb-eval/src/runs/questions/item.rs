//! A file of questions: JSON Lines of `{id, trajectory: [{role, content}], task, target, answers?}`.

use std::path::Path;

use lb_session::read_text;
use serde::Deserialize;
use serde_json::Value;

use crate::{Error, Result};

/// A question about a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuestionItem {
    /// Unique within its file.
    pub id: String,
    /// The texts of the trajectory, an empty line between them.
    pub document: String,
    /// What is asked.
    pub question: String,
    /// Right answers; none where the file does not say.
    pub answers: Vec<String>,
}

#[derive(Deserialize)]
struct Line {
    id: Option<String>,
    #[serde(default)]
    trajectory: Vec<Message>,
    task: String,
    target: Option<String>,
    #[serde(default)]
    answers: Vec<String>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    content: Value,
}

impl Message {
    /// The text, of a list of parts all texts.
    fn text(&self) -> String {
        match &self.content {
            Value::String(text) => text.trim().to_owned(),
            Value::Array(parts) => {
                let texts = parts.iter().filter_map(|part| part.get("text")?.as_str());
                texts.collect::<Vec<_>>().join("\n").trim().to_owned()
            }
            _ => String::new(),
        }
    }
}

/// Reads the first `limit` questions of a file; lines without text are passed over. A line without `id` is named by its
/// number.
///
/// # Errors
/// [`Error::Run`] where the file is no text, [`Error::Json`] with file and line.
pub fn read_questions(path: &Path, limit: Option<usize>) -> Result<Vec<QuestionItem>> {
    let text = read_text(path)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines.take(limit.unwrap_or(usize::MAX)).map(|(at, line)| read(line, at + 1, path)).collect()
}

fn read(line: &str, line_number: usize, path: &Path) -> Result<QuestionItem> {
    let wrong = |source| Error::Json { path: path.to_owned(), line_number, source };
    let Line { id, trajectory, task, target, answers } = serde_json::from_str(line).map_err(wrong)?;
    let texts: Vec<String> =
        trajectory.iter().map(Message::text).filter(|text: &String| !text.is_empty()).collect();
    let mut right = answers;
    right.extend(target.filter(|target| !target.trim().is_empty() && !right.contains(target)));
    Ok(QuestionItem {
        id: id.unwrap_or_else(|| format!("line-{line_number}")),
        document: texts.join("\n\n"),
        question: task.trim().to_owned(),
        answers: right,
    })
}
