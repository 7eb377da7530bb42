//! Whether a turn gave an answer, and whether it is taken.

use lb_sandbox::Executed;

use super::protocol::{FinalMark, Protocol, Reply};
use super::small::{self, Notice};
use super::{PromptProfile, Rlm, lenient, prompts};
use crate::{Completion, Finish, Result};

/// A completion, taken apart.
pub(super) struct Taken {
    pub(super) reply: Reply,
    /// What the conversation keeps of it.
    pub(super) kept: String,
}

/// What a turn's blocks did.
pub(super) struct Done<'a> {
    pub(super) reply: &'a Reply,
    pub(super) finish: &'a Finish,
    pub(super) ran: &'a [Executed],
    /// Worker calls of the turn.
    pub(super) calls: usize,
    /// Why an answer was not taken.
    pub(super) refused: Option<Refusal>,
}

/// Why an answer is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No worker was asked.
    NeverAsked,
    /// It repeats the words that stand for an answer.
    Placeholder,
}

impl Rlm {
    fn small(&self) -> bool {
        self.shared.config.profile == PromptProfile::Small
    }

    pub(super) fn take_apart(&self, text: &str, finish: &Finish) -> Taken {
        if self.small() {
            let lenient::Read { reply, kept } = lenient::read(text, *finish == Finish::Stop);
            return Taken { reply, kept: text[..kept].to_owned() };
        }
        Taken { reply: Reply::parse(text), kept: text.to_owned() }
    }

    /// The answer of a turn whose blocks set none that was ready.
    pub(super) fn answer_of(&mut self, done: &Done<'_>) -> Result<Option<String>> {
        if let Some(ready) = done.ran.iter().find(|ran| ran.answer.ready) {
            return Ok(Some(ready.answer.content.clone()));
        }
        if !self.small() {
            let protocol = self.shared.config.protocol == Protocol::Final;
            return match done.reply.final_mark.as_ref().filter(|_| protocol) {
                Some(FinalMark::Text(text)) => Ok(Some(text.clone())),
                Some(FinalMark::Variable(name)) => Ok(self.repl.variable(name)?),
                None => Ok(None),
            };
        }
        if let Some(mark) = &done.reply.final_mark {
            return self.marked(mark);
        }
        let (Some(ran), [code]) = (done.ran.last(), &done.reply.blocks[..]) else { return Ok(None) };
        let closing = code.lines().last().unwrap_or_default().trim();
        if closing.starts_with("FINAL_VAR(") && ran.fault.is_none() {
            return lenient::mark(closing).map_or(Ok(None), |mark| self.marked(&mark));
        }
        // `FINAL(` around an answer that is no Python.
        let no_python = ["SyntaxError", "NameError"].iter().any(|kind| ran.stderr.starts_with(kind));
        if no_python && code.trim_start().starts_with("FINAL(") {
            return Ok(lenient::mark(code).and_then(|mark| match mark {
                FinalMark::Text(text) if !is_expression(&text) => Some(text),
                _ => None,
            }));
        }
        // An answer that was set and nothing else: there is nothing to wait for.
        let idle = ran.fault.is_none() && ran.stdout.trim().is_empty() && done.calls == 0;
        let draft = ran.answer.content.trim();
        let set = idle && !draft.is_empty() && code.contains("answer");
        Ok(set.then(|| draft.to_owned()))
    }

    /// `FINAL(x)` outside of code: a variable's value where there is such a variable.
    fn marked(&mut self, mark: &FinalMark) -> Result<Option<String>> {
        match mark {
            FinalMark::Variable(name) => Ok(self.repl.variable(name)?),
            FinalMark::Text(text) => Ok(Some(self.repl.variable(text)?.unwrap_or_else(|| text.clone()))),
        }
    }

    /// Why an answer is not taken, if so; once for each question where no worker was asked.
    pub(super) fn refuses(&mut self, answer: &str, calls: usize) -> Option<Refusal> {
        let ask_first = self.shared.config.ask_first;
        if self.small() && small::is_placeholder(answer) {
            return Some(Refusal::Placeholder);
        }
        let question = self.question.as_mut()?;
        let refuses = ask_first && !question.refused && question.calls + calls == 0;
        question.refused |= refuses;
        refuses.then_some(Refusal::NeverAsked)
    }

    /// What a turn that gave no answer leaves for the next: calls and code.
    pub(super) fn remember(&mut self, done: &Done<'_>) {
        let Some(question) = &mut self.question else { return };
        question.calls += done.calls;
        question.code = done.reply.blocks.join("\n");
    }

    /// What the orchestrator is told of a turn that was no answer; whether it counts as an error.
    pub(super) fn told(&self, done: &Done<'_>) -> (String, bool) {
        if !self.small() {
            let refused = done.refused.map(|_| prompts::NEVER_ASKED);
            let notice = refused.or_else(|| self.notice(done.reply, done.finish));
            return (prompts::outputs(done.ran, notice), notice.is_some());
        }
        let Some(question) = &self.question else { return (String::new(), false) };
        let notice = small_notice(done, &question.code);
        let last = question.turns + 2 == self.shared.config.limits.iterations;
        let asked = question.calls + done.calls > 0;
        let counts = notice.is_some_and(|notice| notice != Notice::Unseen);
        (small::output(done.ran, notice, &question.text, asked, last), counts)
    }

    /// The answer in the last completion.
    pub(super) fn last_answer(&mut self, completion: &Completion) -> Result<String> {
        let text = completion.text.trim();
        if !self.small() {
            return Ok(match Reply::parse(&completion.text).final_mark {
                Some(FinalMark::Text(text)) => text,
                Some(FinalMark::Variable(name)) => self.repl.variable(&name)?.unwrap_or(name),
                None => text.to_owned(),
            });
        }
        if let Some(mark) = lenient::mark(text)
            && let Some(answer) = self.marked(&mark)?
        {
            return Ok(answer);
        }
        let unfenced: Vec<&str> = text.lines().filter(|line| !line.trim().starts_with("```")).collect();
        Ok(lenient::unquoted(&unfenced.join("\n")))
    }
}

fn small_notice(done: &Done<'_>, before: &str) -> Option<Notice> {
    match done.refused {
        Some(Refusal::NeverAsked) => return Some(Notice::NeverAsked),
        Some(Refusal::Placeholder) => return Some(Notice::Placeholder),
        None => {}
    }
    if done.reply.unclosed {
        return Some(Notice::Unclosed);
    }
    let [code] = &done.reply.blocks[..] else { return Some(Notice::NoCode) };
    if code == before {
        return Some(Notice::Again);
    }
    let unseen = done.ran.iter().all(|ran| ran.stdout.trim().is_empty() && ran.fault.is_none());
    (unseen && done.calls > 0).then_some(Notice::Unseen)
}

/// Whether a text could be meant as Python: one name in small letters with an underscore, or a call.
fn is_expression(text: &str) -> bool {
    let name = text.chars().all(|c| c.is_alphanumeric() || c == '_');
    (name && text.contains('_')) || text.contains('(') || text.contains("answer[")
}
