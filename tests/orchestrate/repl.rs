//! Sessions that run an orchestrator's code: what both kinds do alike.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use latent_briefing::sandbox::Error;
use latent_briefing::sandbox::{
    CPythonConfig, CPythonRepl, Executed, Fault, HostCall, MontyConfig, MontyRepl, Query, Repl, ReplHost,
    ReplLimits,
};

/// The two kinds, or one.
pub(crate) const BOTH: [Kind; 2] = [Kind::Monty, Kind::CPython];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Monty,
    CPython,
}

/// Limits that are reached soon, but for the time, which a slow machine may need. CPython's memory is address space, of
/// which it takes more.
pub(crate) fn small(kind: Kind) -> ReplLimits {
    let memory = if kind == Kind::Monty { 64 << 20 } else { 192 << 20 };
    ReplLimits { time: Duration::from_secs(20), memory, recursion: 100, calls: 50, ..ReplLimits::default() }
}

/// The same with little time.
pub(crate) fn brief(kind: Kind) -> ReplLimits {
    ReplLimits { time: Duration::from_millis(700), ..small(kind) }
}

pub(crate) fn worker() -> PathBuf {
    crate::support::sandbox_program()
}

/// A session with a context, `None` where its interpreter is missing.
pub(crate) fn start(kind: Kind, limits: ReplLimits) -> Option<Box<dyn Repl>> {
    let mut repl: Box<dyn Repl> = match kind {
        Kind::Monty => Box::new(MontyRepl::start(&MontyConfig { worker: Some(worker()), limits }).unwrap()),
        Kind::CPython if python().is_none() => return None,
        Kind::CPython => {
            Box::new(CPythonRepl::start(&CPythonConfig { limits, ..CPythonConfig::default() }).unwrap())
        }
    };
    repl.set_text("context", CONTEXT).unwrap();
    Some(repl)
}

/// The path of `python3`; says on stderr where there is none.
pub(crate) fn python() -> Option<PathBuf> {
    let found =
        std::process::Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
    match found {
        Ok(output) if output.status.success() => {
            Some(String::from_utf8(output.stdout).unwrap().trim().into())
        }
        _ => {
            eprintln!("skipped for CPython: there is no python3");
            None
        }
    }
}

/// Runs `test` on a session of each kind.
pub(crate) fn on_each(limits: impl Fn(Kind) -> ReplLimits, test: impl Fn(Kind, &mut dyn Repl)) {
    for kind in BOTH {
        if let Some(mut repl) = start(kind, limits(kind)) {
            test(kind, repl.as_mut());
        }
    }
}

pub(crate) const CONTEXT: &str = "The Velmar ledger is kept by Anara.";

type Answering = dyn FnMut(&HostCall) -> Vec<String>;

/// A host that answers as it is told and notes what it was asked.
pub(crate) struct Host {
    pub(crate) seen: Vec<HostCall>,
    pub(crate) answer: Box<Answering>,
    pub(crate) cancelled: Arc<AtomicBool>,
}

impl Default for Host {
    fn default() -> Self {
        let echo = |call: &HostCall| match call {
            HostCall::Llm(queries) => queries.iter().map(|query| format!("llm {}", query.prompt)).collect(),
            HostCall::Rlm(queries) => queries.iter().map(|query| format!("rlm {}", query.prompt)).collect(),
            HostCall::Note { .. } => vec![String::new()],
        };
        Self { seen: Vec::new(), answer: Box::new(echo), cancelled: Arc::default() }
    }
}

impl ReplHost for Host {
    fn call(&mut self, call: HostCall) -> Vec<String> {
        let texts = (self.answer)(&call);
        self.seen.push(call);
        texts
    }

    fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }
}

pub(crate) fn run(repl: &mut dyn Repl, code: &str) -> Executed {
    repl.execute(code, &mut Host::default()).unwrap()
}

/// A block that nothing is wrong with, and what it printed.
pub(crate) fn output(repl: &mut dyn Repl, code: &str) -> String {
    let executed = run(repl, code);
    assert_eq!((executed.fault, executed.stderr.as_str()), (None, ""), "{code}");
    executed.stdout
}

/// The session goes on: code runs, calls arrive, the context is there.
pub(crate) fn assert_works(repl: &mut dyn Repl, after: &str) {
    let executed = run(repl, "again = len(context)\nprint(again, llm_query('hello'))");
    let expected = format!("{} llm hello\n", CONTEXT.len());
    assert_eq!(
        (executed.stdout, executed.stderr, executed.fault),
        (expected, String::new(), None),
        "after {after}"
    );
    assert_eq!(repl.variable("again").unwrap().unwrap(), CONTEXT.len().to_string(), "after {after}");
    assert_eq!(repl.variable("context").unwrap().unwrap(), CONTEXT, "after {after}");
}

#[test]
fn variables_functions_and_imports_live_from_block_to_block() {
    on_each(small, |_, repl| {
        assert_eq!(output(repl, "import re\nwords = re.findall(r'\\w+', context)\nprint(len(words))"), "7\n");
        assert_eq!(output(repl, "def longest():\n    return max(words, key=len)\n"), "");
        assert_eq!(output(repl, "print(longest(), words[-1])"), "Velmar Anara\n");
        assert_eq!(
            repl.variable("words").unwrap().unwrap(),
            "['The', 'Velmar', 'ledger', 'is', 'kept', 'by', 'Anara']"
        );
        assert_eq!(repl.variable("unheard_of").unwrap(), None);
        assert_eq!(repl.variable("not a name").unwrap(), None);
        repl.set_text("context", "another").unwrap();
        assert_eq!(output(repl, "print(context, len(words))"), "another 7\n");
    });
}

#[test]
fn locals_are_short_and_leave_functions_out() {
    let limits = |kind| ReplLimits { local_chars: 40, locals: 5, ..small(kind) };
    on_each(limits, |kind, repl| {
        let code = "import math\ndef f(): return 1\nclass C:\n    pass\n_hidden = 1\na = 'é' * 1000\nb = [1, 'x', None, 2.5]\n\
                    c = {'k': [[1]]}\nd = list(range(10**5))\n";
        let executed = run(repl, code);
        assert_eq!(executed.fault, None, "{kind:?}: {}", executed.stderr);
        let names: Vec<&str> = executed.locals.keys().map(String::as_str).collect();
        assert_eq!(names, ["a", "b", "c", "context", "d"], "{kind:?}");
        assert_eq!(executed.locals["b"], "[1, 'x', None, 2.5]");
        assert_eq!(executed.locals["c"], "{'k': [[1]]}");
        assert!(executed.locals.values().all(|text| text.chars().count() <= 43), "{:?}", executed.locals);
        assert!(executed.locals["d"].starts_with("[0, 1, 2,") && executed.locals["d"].ends_with("..."));
        // One more than fits is left out.
        let executed = run(repl, "e = 1");
        assert_eq!(executed.locals.len(), 5);
    });
}

#[test]
fn calls_carry_their_arguments_and_bring_their_answers() {
    on_each(small, |_, repl| {
        let mut host = Host::default();
        let code = "print(llm_query('p', document='d', brief=False))\nprint(llm_query_batched(['a', 'b'], [None, 'x']))\n\
                    print(rlm_query('deep'), rlm_query_batched(('q',)))\nprint(note('fact'), note('key', 'text'), note(text='t', key='k'))\n\
                    print(llm_query_batched([]))\n";
        let executed = repl.execute(code, &mut host).unwrap();
        assert_eq!(executed.stderr, "");
        let printed = "llm p\n['llm a', 'llm b']\nrlm deep ['rlm q']\nNone None None\n[]\n";
        assert_eq!((executed.stdout.as_str(), executed.calls), (printed, 8));
        let query = |prompt: &str, document: Option<&str>, brief| Query {
            prompt: prompt.to_owned(),
            document: document.map(str::to_owned),
            brief,
        };
        let note = |key: Option<&str>, text: &str| HostCall::Note {
            key: key.map(str::to_owned),
            text: text.to_owned(),
        };
        let expected = [
            HostCall::Llm(vec![query("p", Some("d"), false)]),
            HostCall::Llm(vec![query("a", None, true), query("b", Some("x"), true)]),
            HostCall::Rlm(vec![query("deep", None, true)]),
            HostCall::Rlm(vec![query("q", None, true)]),
            note(None, "fact"),
            note(Some("key"), "text"),
            note(Some("k"), "t"),
        ];
        assert_eq!(host.seen, expected);
    });
}

#[test]
fn wrong_arguments_come_back_as_texts_and_reach_no_host() {
    let wrong = [
        ("llm_query()", "llm_query: prompt is missing"),
        ("llm_query(5)", "llm_query: prompt must be a str, not int"),
        ("llm_query('p', 'd', True, 'gpt-9')", "there is one worker model; leave model out"),
        ("llm_query('p', 'd', True, None, 1)", "llm_query takes at most 4 arguments, not 5"),
        ("llm_query('p', prompt='p')", "llm_query got 'prompt' twice"),
        (
            "llm_query('p', temperature=1)",
            "llm_query has no argument 'temperature'; it has prompt, document, brief, model",
        ),
        ("llm_query('p', brief='no')", "llm_query: brief must be True or False, not str"),
        ("llm_query('p', document=['d'])", "llm_query: document must be a str, not list"),
        ("rlm_query_batched('abc')", "rlm_query_batched: prompts must be a list of str, not str"),
        ("llm_query_batched(['a', 1])", "llm_query_batched: each of prompts must be a str, not int"),
        ("llm_query_batched(['a'], ['x', 'y'])", "llm_query_batched: 1 prompts but 2 documents"),
        ("note()", "note: text is missing"),
        ("note(1)", "note: text must be a str, not int"),
        ("note('k', None)", "note: text must be a str, not NoneType"),
        ("FINAL_VAR('nothing')", "there is no variable 'nothing'"),
    ];
    on_each(small, |kind, repl| {
        for (call, message) in wrong {
            let mut host = Host::default();
            let executed = repl.execute(&format!("print({call})"), &mut host).unwrap();
            assert_eq!(executed.stdout, format!("Error: {message}\n"), "{kind:?}: {}", executed.stderr);
            assert!(host.seen.is_empty(), "{call}");
        }
    });
}

#[test]
fn a_call_that_fails_is_a_text_and_the_code_goes_on() {
    on_each(small, |_, repl| {
        let answer = Box::new(|_: &HostCall| vec!["Error: the worker is out of memory".to_owned()]);
        let mut host = Host { answer, ..Host::default() };
        let executed = repl.execute("x = llm_query('p')\nprint(x)\nprint(note('n'))", &mut host).unwrap();
        assert_eq!(executed.stdout, "Error: the worker is out of memory\n".repeat(2));
        assert_eq!((executed.fault, executed.calls), (None, 2));
        // A host that answers less than it was asked.
        let mut host = Host { answer: Box::new(|_| vec!["one".to_owned()]), ..Host::default() };
        let executed = repl.execute("print(llm_query_batched(['a', 'b']))", &mut host).unwrap();
        assert_eq!(executed.stdout, "['one', 'Error: no answer came']\n");
        // And one that answers with more than a session can take.
        let mut host = Host { answer: Box::new(|_| vec!["x".repeat(9 << 20)]), ..Host::default() };
        let executed = repl.execute("print(llm_query('p'))", &mut host).unwrap();
        assert!(executed.stdout.starts_with("Error: the answer has 9437184 bytes"), "{}", executed.stdout);
        let mut host = Host { answer: Box::new(|_| vec!["x".repeat(8 << 20)]), ..Host::default() };
        assert_eq!(repl.execute("print(len(llm_query('p')))", &mut host).unwrap().stdout, "8388608\n");
        assert_works(repl, "calls that fail");
    });
}

#[test]
fn show_vars_and_final_var() {
    on_each(small, |_, repl| {
        let code = "def f():\n    found = 1\n    print(FINAL_VAR('numbers'))\n    return SHOW_VARS()\nnumbers = [1, 2]\nprint(f())\nlater = 3";
        assert_eq!(output(repl, code), "[1, 2]\ncontext: str\nnumbers: list\n");
        assert_eq!(
            output(repl, "print(SHOW_VARS())\nprint(FINAL_VAR(later))"),
            "context: str\nlater: int\nnumbers: list\n3\n"
        );
    });
}

#[test]
fn a_context_of_ten_megabytes() {
    on_each(
        |kind| ReplLimits { memory: 256 << 20, ..small(kind) },
        |kind, repl| {
            let line = "Zeile mit ümläuten, \"quotes\" and \\ backslashes\t\n";
            let long = line.repeat((10 << 20) / line.len() + 1);
            repl.set_text("long", &long).unwrap();
            let code = "print(len(long), long.count('quotes'))\npieces = [long[i:i + 100000] for i in range(0, len(long), 100000)]";
            let lines = long.lines().count();
            assert_eq!(output(repl, code), format!("{} {lines}\n", long.chars().count()), "{kind:?}");
            let mut host = Host::default();
            let asked = repl.execute("a = llm_query('p', document=long)", &mut host).unwrap();
            assert_eq!((asked.fault, asked.stderr.as_str()), (None, ""));
            assert!(
                matches!(&host.seen[..], [HostCall::Llm(queries)] if queries[0].document.as_ref() == Some(&long))
            );
            assert_works(repl, "a long context");
        },
    );
}

#[test]
fn texts_of_all_characters_go_there_and_back() {
    let text = "a\0b \u{1}\u{7f}\u{2028}\u{feff} \u{1F600} 日本語 \"'\\ \r\n\t{}%";
    on_each(small, |_, repl| {
        repl.set_text("变量", text).unwrap();
        assert_eq!(repl.variable("变量").unwrap().unwrap(), text);
        let code = "größe = len(变量)\nprint(变量 == llm_query(变量)[4:], größe)\nprint(变量, end='')";
        assert_eq!(output(repl, code), format!("True {}\n{text}", text.chars().count()));
        let executed = run(repl, "alone = '\\ud800'\nprint('x' + alone + 'y')\nprint(llm_query(alone))");
        assert_eq!(executed.fault, None);
        assert_eq!(executed.stdout.chars().filter(char::is_ascii_alphabetic).collect::<String>(), "xyllm");
        // Code with NUL, a byte order mark, and line ends of another system.
        let executed = run(repl, "x = 1\0\nprint(x)");
        assert_eq!(executed.fault, Some(Fault::Exception), "{executed:?}");
        assert!(executed.stderr.contains("Error"), "{}", executed.stderr);
        assert_eq!(output(repl, "y = 1\r\nprint(y)\r\n"), "1\n");
    });
}

#[test]
fn what_a_session_refuses_to_be_told() {
    on_each(small, |_, repl| {
        let long = "x".repeat(100 << 20);
        let refused = [
            ("", "t", "is no name of a variable"),
            ("a b", "t", "is no name of a variable"),
            ("1a", "t", "is no name of a variable"),
            ("class", "t", "is no name of a variable"),
            ("__class__", "t", "is no name of a variable"),
            ("answer", "t", "means something else in a session"),
            ("llm_query", "t", "means something else in a session"),
            ("x", &long, "must be at most 32 MiB and half of the session's memory"),
        ];
        for (name, text, reason) in refused {
            let error = repl.set_text(name, text).unwrap_err();
            assert!(matches!(&error, Error::Config { reason: why, .. } if *why == reason), "{name}: {error}");
        }
        let long = format!("# {}\nprint(1)", "x".repeat(9 << 20));
        assert_eq!(run(repl, &long).stderr, "SyntaxError: the block is longer than 8 MiB");
        assert_works(repl, "refusals");
    });
}

#[test]
fn limits_that_cannot_be_are_refused() {
    let fine = ReplLimits::default();
    let wrong = [
        ("time", ReplLimits { time: Duration::ZERO, ..fine }),
        ("time", ReplLimits { time: Duration::MAX, ..fine }),
        ("memory", ReplLimits { memory: 1, ..fine }),
        ("memory", ReplLimits { memory: usize::MAX, ..fine }),
        ("recursion", ReplLimits { recursion: 0, ..fine }),
        ("recursion", ReplLimits { recursion: 1_000_000, ..fine }),
        ("output_chars", ReplLimits { output_chars: usize::MAX, ..fine }),
        ("local_chars * locals", ReplLimits { local_chars: usize::MAX, locals: 2, ..fine }),
    ];
    for (name, limits) in wrong {
        let error = MontyRepl::start(&MontyConfig { worker: Some(worker()), limits }).unwrap_err();
        assert!(matches!(&error, Error::Config { field, .. } if *field == name), "{error}");
    }
}
