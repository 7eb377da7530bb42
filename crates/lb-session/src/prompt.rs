//! How a trajectory and a task become the worker's tokens.
//!
//! `[template head, preamble] [segment]* [slice, task, template tail]`. Each bracket is encoded on its own, so the
//! cached tokens of a trajectory never depend on what follows. Only the template parts may contain control tokens.
//!
//! A base model has no template. It continues plain text: what its tokenizer puts before a prompt and the system message
//! are the head, and a line that begins the answer is the tail.

use lb_model::{TemplateParts, Warning, Worker};

use crate::{Error, Result, Segment, Task};

/// The wording around trajectory and task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptFormat {
    /// System message; trusted text. Default: none.
    pub system: Option<String>,
    /// Stands between the template's head and the first segment.
    pub preamble: String,
    /// Stands before the question.
    pub task_prefix: String,
    /// Lets a thinking model think. Default: false.
    pub enable_thinking: bool,
}

impl Default for PromptFormat {
    /// The wording that the built-in worker was trained with.
    fn default() -> Self {
        Self {
            system: None,
            preamble: "Notes so far:\n".to_owned(),
            task_prefix: "Task: ".to_owned(),
            enable_thinking: false,
        }
    }
}

/// What a base model is to continue behind a question.
const ANSWER: &str = "\nAnswer:";

/// A format bound to a worker's tokenizer and template.
#[derive(Clone, Debug)]
pub(crate) struct PromptEncoder {
    format: PromptFormat,
    pub(crate) head: Vec<u32>,
    tail: Vec<u32>,
}

impl PromptEncoder {
    pub(crate) fn new(worker: &Worker, format: PromptFormat) -> Result<Self> {
        let tokenizer = worker.tokenizer();
        let (parts, mut head) = match worker.template() {
            Ok(template) => {
                let parts = template.split(format.system.as_deref(), format.enable_thinking)?;
                let head = tokenizer.encode_template(&parts.head)?;
                (parts, head)
            }
            Err(lb_model::Error::NoChatTemplate { .. }) => plain(worker, format.system.as_deref())?,
            Err(error) => return Err(error.into()),
        };
        head.extend(tokenizer.encode_text(&format.preamble)?);
        let tail = tokenizer.encode_template(&parts.tail)?;
        Ok(Self { format, head, tail })
    }

    /// Slice, question and template tail.
    pub(crate) fn task(
        &self,
        worker: &Worker,
        task: &Task,
        goes_on: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<u32>> {
        if task.question.trim().is_empty() {
            return Err(Error::Empty { arg: "task" });
        }
        let slice = task.slice.as_deref().map(|s| format!("{}\n", s.trim_end())).unwrap_or_default();
        let text = format!("{slice}{}{}", self.format.task_prefix, task.question);
        let mut tokens = worker.tokenizer().encode_text_within(&text, positions(worker), goes_on)?;
        tokens.extend(&self.tail);
        Ok(tokens)
    }
}

/// A line of the trajectory of at most `most` tokens; its text is cut to `cap` of them. Beside it, how many tokens of
/// the text that left out: counted up to the model's positions, estimated beyond.
pub(crate) fn line(
    worker: &Worker,
    segment: &Segment,
    cap: Option<usize>,
    most: usize,
    goes_on: &mut dyn FnMut() -> bool,
) -> Result<(Vec<u32>, usize)> {
    if segment.text.trim().is_empty() {
        return Err(Error::Empty { arg: "segment text" });
    }
    let tokenizer = worker.tokenizer();
    let label = segment.label();
    if let Some(cap) = cap {
        let (text, all) = tokenizer.encode_text_start(&segment.text, cap, positions(worker), goes_on)?;
        if all > cap {
            // The text is cut at a token; label and line end stay.
            let mut cut = tokenizer.encode_text(&format!("{label}: "))?;
            cut.extend(text);
            cut.extend(tokenizer.encode_text("\n")?);
            return Ok((cut, all - cap));
        }
    }
    let line = format!("{label}: {}\n", segment.text);
    Ok((tokenizer.encode_text_within(&line, most, goes_on)?, 0))
}

/// Tokens of a text that does not enter: counted up to the model's positions, estimated beyond.
pub(crate) fn count(worker: &Worker, text: &str, goes_on: &mut dyn FnMut() -> bool) -> Result<usize> {
    Ok(worker.tokenizer().encode_text_start(text, 0, positions(worker), goes_on)?.1)
}

/// Says that a worker is given plain text.
pub(crate) fn warning(worker: &Worker) -> Option<Warning> {
    worker.template().is_err().then(|| Warning::PlainText { model: worker.name().to_owned() })
}

fn positions(worker: &Worker) -> usize {
    worker.config().position_limit()
}

/// The parts around a question for a model without a template, and the tokens of the first.
fn plain(worker: &Worker, system: Option<&str>) -> Result<(TemplateParts, Vec<u32>)> {
    let head = system.map(|system| format!("{system}\n\n")).unwrap_or_default();
    let tokens = worker.tokenizer().encode_prompt(&head)?;
    Ok((TemplateParts { head, tail: ANSWER.to_owned() }, tokens))
}
