//! What the orchestrator is told.

use std::fmt::Write;

use lb_sandbox::{Executed, Fault};

use super::contexts::{Context, Contexts};
use super::protocol::Protocol;
use crate::PhaseAllowance;

/// What the system prompt depends on.
pub(super) struct Setting<'a> {
    pub(super) protocol: Protocol,
    pub(super) dialect: &'a str,
    /// Tokens that fit into a worker's prompt.
    pub(super) worker_tokens: usize,
    pub(super) recursive: bool,
    pub(super) instructions: Option<&'a str>,
}

pub(super) fn system(setting: &Setting<'_>) -> String {
    let finish = match setting.protocol {
        Protocol::Answer => {
            "`answer` is a dictionary, at first {\"content\": \"\", \"ready\": False}. When you are done, and only then, set \
             answer[\"content\"] to the final answer and answer[\"ready\"] = True in a ```repl block; the run ends at that \
             instant. You may keep drafts in answer[\"content\"] before."
        }
        Protocol::Final => {
            "When you are done, and only then, write a line outside of any code block that begins with FINAL(your final \
             answer) or FINAL_VAR(name of a variable that holds it). The run ends with it."
        }
    };
    let recursion = if setting.recursive {
        "rlm_query(prompt, document=None) and rlm_query_batched(prompts, documents=None) give a subtask to a loop like your \
         own, with its own REPL, where the document is `context`. Use them where a subtask needs several steps."
    } else {
        "rlm_query and rlm_query_batched are the same as llm_query and llm_query_batched here."
    };
    let mut text = format!(
        "You answer a question about a long text. The text is in a Python REPL, in the variable `context`; you do not see it \
         unless you print parts of it. You work in turns: think, then write code in a block that begins with ```repl and \
         ends with ```. Every such block runs, variables stay from turn to turn, and you are shown what it prints, cut at \
         20,000 characters. A bare expression prints nothing.\n\n\
         The REPL has:\n\
         - llm_query(prompt, document=None, brief=True): asks a worker, a small language model. It reads the prompt, the \
         document that you give it (a slice of `context`, at most about {tokens} tokens) and, unless brief=False, a briefing \
         of this whole trajectory that is made for the prompt: your reasoning, code, outputs and notes. Ask short, precise \
         questions and do not repeat what you already wrote or printed.\n\
         - llm_query_batched(prompts, documents=None, brief=True): the same for many prompts at once, much faster than one \
         by one; answers come in order.\n\
         - {recursion}\n\
         - note(text) or note(key, text): keeps a finding for the workers. Note what is established as soon as it is.\n\
         - SHOW_VARS(): the variables there are.\n\n\
         A function that fails returns a text that begins with \"Error: \"; it never raises.\n\n\
         {dialect}\n\n\
         {finish}\n\n\
         Look at the text first: its length, its beginning, how it is built. Then search it with code, give pieces that need \
         reading to workers, note what they find, check it, and answer.",
        tokens = setting.worker_tokens,
        dialect = setting.dialect.trim(),
    );
    if let Some(more) = setting.instructions {
        text.push_str("\n\n");
        text.push_str(more);
    }
    text
}

/// How the message that opens a question begins.
pub(crate) const OPENING: &str = "Answer the following: ";

/// The message that opens a question.
pub(super) fn question(question: &str, contexts: &Contexts, again: bool) -> String {
    let mut text = format!("{OPENING}{question}\n\n");
    for Context { name, chars, read } in contexts.iter() {
        let read = if *read { "; the workers have read all of it" } else { "" };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "`{name}` is a str of {chars} characters{read}.");
    }
    if again {
        text.push_str("The REPL still has all variables of before.");
    }
    text.trim_end().to_owned()
}

pub(super) fn turn(number: usize, of: usize, again: bool) -> String {
    let first = "You have not looked at the text yet. Look at it first; do not answer yet.\n\n";
    format!("{}Turn {number}/{of}:", if number == 1 && !again { first } else { "" })
}

/// What the first turn of a phase is told.
pub(super) fn phase(name: &str, allowance: &PhaseAllowance) -> String {
    format!("The phase \"{name}\" begins. It may take {allowance}.")
}

pub(super) fn last_completion(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Answer => {
            "There are no turns left. Write the final answer now, as plain text and nothing else. No code will run."
        }
        Protocol::Final => {
            "There are no turns left. Write the final answer now, as FINAL(your final answer). No code will run."
        }
    }
}

/// What a turn without code is told.
pub(super) const NO_CODE: &str = "No ```repl block was found, so nothing ran. Write Python in a block that begins with ```repl and ends with ```.";
pub(super) const UNCLOSED: &str =
    "A ```repl block was opened and never closed, so it did not run. Write it again, whole.";
pub(super) const CUT: &str =
    "The reply came to its limit of tokens inside a ```repl block, which did not run. Write shorter code.";
pub(super) const NEVER_ASKED: &str = "An answer was set, but no worker was asked in this run; the answer was not taken. Ask with \
     llm_query(...) first, then answer.";
pub(super) const NO_FINAL_VAR: &str =
    "FINAL_VAR names a variable that does not exist. Use SHOW_VARS() to see what there is.";

/// What the orchestrator sees of the blocks that ran.
pub(super) fn outputs(blocks: &[Executed], notice: Option<&str>) -> String {
    let several = blocks.len() > 1;
    let mut parts: Vec<String> = Vec::new();
    for (index, block) in blocks.iter().enumerate() {
        let head =
            if several { format!("REPL output (block {}):", index + 1) } else { "REPL output:".to_owned() };
        parts.push(format!("{head}\n{}", output(block)));
    }
    parts.extend(notice.map(str::to_owned));
    parts.join("\n\n")
}

fn output(block: &Executed) -> String {
    let mut parts = vec![printed(block)];
    if !block.locals.is_empty() {
        let names: Vec<&str> = block.locals.keys().map(String::as_str).collect();
        parts.push(format!("REPL variables: {}", names.join(", ")));
    }
    parts.retain(|part| !part.is_empty());
    if parts.is_empty() { "No output".to_owned() } else { parts.join("\n\n") }
}

/// What a block printed and what went wrong in it.
pub(super) fn printed(block: &Executed) -> String {
    let fault = match block.fault {
        Some(Fault::Lost) if block.stderr.is_empty() => "the session was lost",
        _ => block.stderr.as_str(),
    };
    [block.stdout.trim_end(), fault.trim_end()]
        .iter()
        .filter(|s| !s.is_empty())
        .copied()
        .collect::<Vec<_>>()
        .join("\n")
}
