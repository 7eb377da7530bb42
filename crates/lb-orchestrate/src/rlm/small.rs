//! What an orchestrator of a few billion parameters is told: short, by example, and after each mistake what to write next.

use std::fmt::Write;

use lb_sandbox::{Executed, Fault};

use super::Contexts;
use crate::{ChatMessage, Role};

/// Characters of a question that a notice repeats.
const QUESTION_CHARS: usize = 400;

const TASK: &str = "You answer a question about a document. You cannot see the document. A reader has read it. You ask the \
    reader by writing Python code, one short step at a time:\n\
    - llm_query(\"...\") asks the reader one simple question about one fact and returns the reply.\n\
    - print(...) shows you something.\n\
    - FINAL(\"...\") gives the final answer, a name, a number, yes or no, never a sentence.\n\
    Each turn, write one ```repl block and nothing else. Never answer from memory: ask the reader first.";

const LONG: &str = "The document is in the variable `context` and too long for the reader. Give the reader a piece of it with \
    each question: llm_query(\"...\", context[0:8000]).";

const OPENING: &str = "Question: ";

/// Words that stand for the answer in what the orchestrator is told, and what Python makes of three dots; said back, they
/// are no answer.
const PLACEHOLDERS: [&str; 4] = ["the answer", "...", "ellipsis", "answer"];

/// Worked examples: a fact that is looked up with another one; two things compared; three facts in a row. The answer is
/// written out each time, since a reply is not always of the kind that was asked for.
const EXAMPLES: [&str; 18] = [
    "Question: In which country was the author of the novel Pan Tadeusz born?",
    "```repl\nauthor = llm_query(\"Who wrote the novel Pan Tadeusz?\")\nprint(author)\n```",
    "Output:\nAdam Mickiewicz",
    "```repl\ncountry = llm_query(f\"In which country was {author} born?\")\nprint(country)\n```",
    "Output:\nBelarus",
    "```repl\nFINAL(\"Belarus\")\n```",
    "Question: Who was born first, Emil Nolde or Paula Modersohn-Becker?",
    "```repl\nnolde = llm_query(\"When was Emil Nolde born?\")\nbecker = llm_query(\"When was Paula Modersohn-Becker born?\")\nprint(nolde, becker)\n```",
    "Output:\n7 August 1867 8 February 1876",
    "```repl\nFINAL(\"Emil Nolde\")\n```",
    "Question: How long is the river that flows through the town where the chess player Ada Brandt lived?",
    "```repl\ntown = llm_query(\"In which town did the chess player Ada Brandt live?\")\nprint(town)\n```",
    "Output:\nEssen",
    "```repl\nriver = llm_query(f\"Which river flows through {town}?\")\nprint(river)\n```",
    "Output:\nRuhr",
    "```repl\nlength = llm_query(f\"How long is the river {river}?\")\nprint(length)\n```",
    "Output:\n219 km",
    "```repl\nFINAL(\"219 km\")\n```",
];

/// The conversation before the question.
pub(super) fn beginning(instructions: Option<&str>, contexts: &Contexts) -> Vec<ChatMessage> {
    let mut text = TASK.to_owned();
    let long = if contexts.all_read() { "" } else { LONG };
    for more in [long, instructions.unwrap_or_default()].into_iter().filter(|more| !more.is_empty()) {
        text.push_str("\n\n");
        text.push_str(more);
    }
    let mut messages = vec![ChatMessage::new(Role::System, text)];
    for (number, said) in EXAMPLES.into_iter().enumerate() {
        messages.push(ChatMessage::new(if number % 2 == 0 { Role::User } else { Role::Assistant }, said));
    }
    messages
}

/// The message that opens a question.
pub(super) fn question(question: &str, contexts: &Contexts) -> String {
    let mut text = format!("{OPENING}{}", question.trim());
    for context in contexts.iter().filter(|context| !context.read) {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n(`{}` has {} characters.)", context.name, context.chars);
    }
    text
}

/// What went wrong in a turn, or what there is to say of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// An answer without any call of the worker.
    NeverAsked,
    /// The words that stand for the answer.
    Placeholder,
    NoCode,
    Unclosed,
    /// The same code as in the turn before.
    Again,
    /// A worker was asked, and nothing was printed.
    Unseen,
}

/// What the orchestrator sees of its turn. `last`: one turn is left. `asked`: some worker has been asked.
pub(super) fn output(
    ran: &[Executed],
    notice: Option<Notice>,
    question: &str,
    asked: bool,
    last: bool,
) -> String {
    let mut parts = Vec::new();
    if let Some(block) = ran.first() {
        // What the session says besides faults is about `answer`, which this orchestrator does not know.
        let fault = block.fault.map_or("", |_| block.stderr.trim());
        let shown = [block.stdout.trim(), fault].into_iter().filter(|part| !part.is_empty());
        let shown = shown.collect::<Vec<_>>().join("\n");
        parts.push(format!("Output:\n{}", if shown.is_empty() { "(nothing was printed)" } else { &shown }));
        parts.extend(hint(block));
    }
    parts.extend(notice.map(|notice| said(notice, question, asked)));
    if last {
        parts.push(
            "This is the last step. Write the answer now:\n```repl\nFINAL(\"the answer\")\n```".to_owned(),
        );
    }
    parts.join("\n")
}

fn said(notice: Notice, question: &str, asked: bool) -> String {
    let ask = format!("```repl\nreply = llm_query({})\nprint(reply)\n```", quoted(question));
    let finish = "```repl\nFINAL(\"the answer\")\n```";
    let finish_or_ask = if asked { finish } else { &ask };
    match notice {
        Notice::NeverAsked => {
            format!("You wrote an answer but never asked the reader. Ask first. Write:\n{ask}")
        }
        Notice::Placeholder => {
            format!(
                "Write the answer itself, a name, a number, yes or no. The question is: {}",
                question.trim()
            )
        }
        Notice::NoCode if asked => {
            format!("There was no code. If you know the answer, write:\n{finish}\nIf not, ask the reader.")
        }
        Notice::NoCode => format!("There was no code. Write:\n{ask}"),
        Notice::Unclosed => {
            format!("The code was not finished and did not run. Write shorter code:\n{finish_or_ask}")
        }
        Notice::Again => {
            format!("You have run this before. Ask the reader something else, or write the answer:\n{finish}")
        }
        Notice::Unseen => "You did not print the reply. Print it, or write FINAL(...).".to_owned(),
    }
}

/// What to write in the place of code that failed.
fn hint(block: &Executed) -> Option<String> {
    let hint = match block.fault? {
        Fault::Exception if block.stderr.starts_with("SyntaxError") => {
            "The code is not valid Python. Write one short block, for example:\n```repl\nreply = \
             llm_query(\"...\")\nprint(reply)\n```"
        }
        Fault::Exception if block.stderr.contains("FINAL()") => {
            "FINAL takes one value, the answer to the question itself, for example FINAL(\"yes\")."
        }
        Fault::Exception if block.stderr.starts_with("NameError") => {
            "Use only llm_query, print, FINAL and your own variables."
        }
        Fault::Forbidden => "Only llm_query, print and FINAL are needed; import nothing.",
        Fault::Exception => "Write simpler code: one llm_query and one print.",
        _ => return None,
    };
    Some(hint.to_owned())
}

pub(super) fn last_completion() -> &'static str {
    "There are no steps left. Write only the answer, in a few words, without code."
}

/// Whether an answer repeats a placeholder.
pub(super) fn is_placeholder(answer: &str) -> bool {
    let answer = answer.trim().trim_end_matches('.').to_lowercase();
    PLACEHOLDERS.iter().any(|placeholder| answer == placeholder.trim_end_matches('.'))
}

/// A text as a Python literal; JSON's are.
fn quoted(question: &str) -> String {
    let question: String = question.trim().chars().take(QUESTION_CHARS).collect();
    serde_json::Value::String(question).to_string()
}
