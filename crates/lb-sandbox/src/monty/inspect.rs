//! A look at a session's variables, which the interpreter shows only to code that runs in it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use monty::{MontyRepl as Monty, ReplProgress};
use monty_types::{ExcType, MontyException, MontyObject, NameLookupResult, PrintWriter};

use crate::AnswerCell;
use crate::names::is_name;

/// `answer` as it is at first.
pub(super) const ANSWER: &str = r#"answer = {"content": "", "ready": False}"#;

/// Runs before the first block: `answer`, and a function that shows a value in few characters without walking through
/// all of it. It gives `None` for what is no variable of the code's own making.
pub(super) const PRELUDE: &str = r#"answer = {"content": "", "ready": False}
def __lb_short__(value, room, depth):
    kind = type(value).__name__
    if isinstance(value, str) or isinstance(value, bytes):
        return repr(value[:room + 1])
    if value is None or isinstance(value, float) or isinstance(value, bool):
        return repr(value)
    if isinstance(value, int):
        return repr(value) if -10 ** 60 < value < 10 ** 60 else "<int>"
    if kind in ("function", "builtin_function_or_method", "type", "module", "method"):
        return None
    pairs = isinstance(value, dict)
    if not (pairs or isinstance(value, (list, tuple, set, frozenset))):
        return "<" + kind + ">"
    if depth == 0:
        return "<" + kind + " of " + str(len(value)) + ">"
    parts = []
    used = 0
    for item in value:
        part = __lb_short__(item, room, depth - 1) or "<function>"
        if pairs:
            part = part + ": " + (__lb_short__(value[item], room, depth - 1) or "<function>")
        parts.append(part)
        used += len(part) + 2
        if used > room:
            parts.append("...")
            break
    inside = ", ".join(parts)
    if isinstance(value, list):
        return "[" + inside + "]"
    if isinstance(value, tuple):
        return "(" + inside + (",)" if len(value) == 1 else ")")
    if pairs or len(value) > 0:
        return "{" + inside + "}"
    return kind + "()"
"#;

/// Ends a run from anywhere in the code, as `FINAL(...)` outside of code does.
pub(super) const FINISH: &str = r#"
def FINAL(value=""):
    global answer
    answer = {"content": value, "ready": True}
    __lb_answer__(answer)
"#;

/// Names that are looked for at most.
const MANY: usize = 2_000;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) variables: Vec<Variable>,
    /// `None` where `answer` is neither a dictionary nor a text.
    pub(super) answer: Option<AnswerCell>,
    /// Whether `answer` is a text, which is a draft.
    pub(super) is_text: bool,
}

/// A variable of the code's own.
#[derive(Debug)]
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) text: String,
}

/// Looks at the variables of these names, each in about `chars` characters. The session comes back unless the look ran
/// into a limit.
pub(super) fn look(monty: Monty, names: &BTreeSet<String>, chars: usize) -> (Option<Monty>, Seen) {
    // A name that is none, as the star of an import is, would spoil the code below.
    let shown = |name: &&String| is_name(name) && !name.starts_with('_') && *name != "answer";
    let names: Vec<&String> = names.iter().filter(shown).take(MANY).collect();
    let mut code = String::from("try: __lb_answer__(answer)\nexcept Exception: pass\n");
    for (at, name) in names.iter().enumerate() {
        let _ = writeln!(
            code,
            "try: __lb_seen__({at}, type({name}).__name__, __lb_short__({name}, {chars}, 3))\nexcept Exception: pass"
        );
    }
    let mut seen = Seen::default();
    let monty = drive(monty, &code, &mut |function, args| match (function, args) {
        ("__lb_answer__", [MontyObject::String(text)]) => {
            seen.answer = Some(AnswerCell { content: text.clone(), ready: false });
            seen.is_text = true;
        }
        ("__lb_answer__", [answer]) => seen.answer = answer_cell(answer),
        ("__lb_seen__", [MontyObject::Int(at), MontyObject::String(kind), MontyObject::String(text)]) => {
            let Some(name) = usize::try_from(*at).ok().and_then(|at| names.get(at)) else { return };
            let text = shorten(text, chars);
            seen.variables.push(Variable { name: (*name).clone(), kind: kind.clone(), text });
        }
        _ => {}
    });
    (monty, seen)
}

/// `str()` of a variable, `None` where there is none.
pub(super) fn text(monty: Monty, name: &str) -> (Option<Monty>, Option<String>) {
    let mut text = None;
    let code = format!(
        "try:\n    {name}\nexcept NameError: pass\nelse:\n    try: __lb_text__(str({name}))\n    \
         except Exception as __lb_error__: __lb_text__('Error: str({name}) failed: ' + str(__lb_error__))"
    );
    let monty = drive(monty, &code, &mut |_, args| {
        if let [MontyObject::String(shown)] = args {
            text = Some(shown.clone());
        }
    });
    (monty, text)
}

/// The cell that a dictionary `answer` is.
pub(super) fn answer_cell(answer: &MontyObject) -> Option<AnswerCell> {
    let MontyObject::Dict(pairs) = answer else { return None };
    let value = |wanted: &str| {
        let is_it = |key: &MontyObject| matches!(key, MontyObject::String(key) if key == wanted);
        pairs.iter().find(|(key, _)| is_it(key)).map(|(_, value)| value)
    };
    let content = value("content").map(ToString::to_string).unwrap_or_default();
    Some(AnswerCell { content, ready: value("ready").is_some_and(MontyObject::is_truthy) })
}

/// Runs code of ours, which calls back with what it finds.
fn drive(monty: Monty, code: &str, found: &mut dyn FnMut(&str, &[MontyObject])) -> Option<Monty> {
    let mut step = monty.feed_start(code, Vec::new(), PrintWriter::Disabled);
    loop {
        step = match step {
            Ok(ReplProgress::Complete { repl, .. }) => return Some(repl),
            Ok(ReplProgress::FunctionCall(call)) => {
                found(&call.function_name, &call.args);
                call.resume(MontyObject::None, PrintWriter::Disabled)
            }
            Ok(ReplProgress::NameLookup(lookup)) => {
                lookup.resume(NameLookupResult::Undefined, PrintWriter::Disabled)
            }
            Ok(ReplProgress::OsCall(call)) => {
                let refusal = MontyException::new(ExcType::PermissionError, None);
                call.resume(refusal, PrintWriter::Disabled)
            }
            Ok(ReplProgress::ResolveFutures(state)) => state
                .abort(MontyException::runtime_error("nothing can be awaited here"), PrintWriter::Disabled),
            Err(failure) => {
                let limit = matches!(failure.error.exc_type(), ExcType::TimeoutError | ExcType::MemoryError);
                return (!limit).then_some(failure.repl);
            }
        };
    }
}

fn shorten(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}...", &text[..at]),
    }
}
